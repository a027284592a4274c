# S3ML: the few commands that matter. `make demo` and `make test` need Python 3.11 or later and nothing else.
SHELL := /bin/bash
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: help demo test check lint types imports coverage bench bench-serving-setup bench-serving bench-scheduling soak-keyservice soak-serving corpus fuzz model clean
.DEFAULT_GOAL := help

help:  ## Show the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-19s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.installed: pyproject.toml constraints.txt scripts/bootstrap
	@PYTHON="$(PYTHON)" VENV="$(VENV)" bash scripts/bootstrap
	@touch $@

demo: $(VENV)/.installed  ## Serve an encrypted model to a client that verified it, on real data
	@$(BIN)/s3ml demo

# What the tests need beside: without it, those that need it say so.
TEST_PROCESSES ?= 2
test: $(VENV)/.installed check  ## Run every check and every test
	@bash scripts/postgresql || true
	@PYTHON="$(BIN)/python" bash scripts/oip-clients || true
	@$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile

check: lint types imports  ## Run ruff, mypy and import-linter

lint: $(VENV)/.installed
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/.installed
	@$(BIN)/mypy

imports: $(VENV)/.installed
	@$(BIN)/lint-imports

coverage: $(VENV)/.installed  ## Hold the trust core at full branch coverage
	@$(BIN)/python -m pytest tests/wire tests/attestation tests/bundle tests/transparency tests/keyservice conformance --cov-branch \
	  --cov=s3ml.wire --cov=s3ml.attestation --cov=s3ml.bundle --cov=s3ml.transparency --cov=s3ml.keyservice --cov-fail-under=100

bench: $(VENV)/.installed  ## Measure: the seal, memory, start-up, verification
	@$(BIN)/python benchmarks/run.py

bench-serving-setup: $(VENV)/.installed  ## Install the model servers that S3ML is compared with, under .bench-venvs/
	@PYTHON="$(BIN)/python" bash scripts/bench-serving

bench-serving: bench-serving-setup  ## Measure S3ML, sealed, against MLServer, KServe and Triton, plaintext
	@$(BIN)/python -m benchmarks.serving.compare
	@$(BIN)/python -m benchmarks.plots
	@$(BIN)/python -m benchmarks.tables

bench-scheduling: $(VENV)/.installed  ## Measure the balancer: in simulation, and as root on an emulated EPC
	@$(BIN)/python -m benchmarks.scheduling.run
	@$(BIN)/python -m benchmarks.scheduling.emulated_run || [ $$? -eq 4 ]
	@$(BIN)/python -m benchmarks.scheduling.dataplane
	@$(BIN)/python -m benchmarks.plots
	@$(BIN)/python -m benchmarks.tables

SOAK_S ?= 300
soak-keyservice: $(VENV)/.installed  ## Let requests flow for SOAK_S seconds while keys rotate, on demand and on schedule
	@S3ML_SOAK_S="$(SOAK_S)" $(BIN)/python -m pytest -s tests/replication/test_replication_rotation.py

SOAK_FOLDER ?= soak-output
soak-serving: $(VENV)/.installed  ## Serve for SOAK_S seconds while replicas die, keys rotate and models come and go; figures in SOAK_FOLDER
	@$(BIN)/python -m tests.soak "$(SOAK_S)" "$(SOAK_FOLDER)"

CORPUS ?= corpus-output
corpus: $(VENV)/.installed  ## Write the corpus of lies to the folder CORPUS, for other verifiers
	@$(BIN)/python -m tests.attestation.corpus "$(CORPUS)"

MODEL_SECONDS ?= 300
model: $(VENV)/.installed  ## Explore the replication protocol, MODEL_SECONDS for each scenario, then walk at random
	@$(BIN)/python -m tests.keyservice.protocol.run $(MODEL_SECONDS)
	@S3ML_MODEL_WALKS=200 S3ML_MODEL_MOVES=60 $(BIN)/python -m pytest --timeout=0 tests/keyservice/protocol/test_protocol_walks.py

FUZZ_SECONDS ?= 60
fuzz: $(VENV)/.installed  ## Flip every signed bit, then fuzz each parser for FUZZ_SECONDS; with atheris where it is installed
	@$(BIN)/python -m tests.attestation.fuzz flips
	@$(BIN)/python -m tests.attestation.fuzz $(FUZZ_SECONDS)
	@$(BIN)/python -m tests.wire.fuzz $(FUZZ_SECONDS)
	@$(BIN)/python -m tests.client.proxy.fuzz $(FUZZ_SECONDS)

clean:  ## Remove the virtual environments and caches
	@rm -rf $(VENV) .venv-clients .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
