"""The recipe of the container keeps its rules, and each rule sees the recipe that breaks it."""

import pytest

from s3ml.apps.images.plans import CODE, DATA
from tests.images.containerfile import RULES, broken, parse
from tests.images.images_world import ROOT

RECIPE = (ROOT / "images/Containerfile").read_text(encoding="utf-8")
RUNTIME = "FROM ${BASE_NAME}@${BASE_DIGEST} AS runtime"

LIES: list[tuple[str, str, str]] = [
    ("pinned_base", RUNTIME, "FROM debian:12 AS runtime"),
    ("pinned_base", "ARG BASE_DIGEST\n", "ARG BASE_DIGEST=sha256:0\n"),
    ("pinned_base", "ARG BASE_NAME\n", ""),
    ("two_stages", RUNTIME, f"FROM ${{BASE_NAME}}@${{BASE_DIGEST}} AS extra\n{RUNTIME}"),
    ("no_download", "WORKDIR /build\n", "WORKDIR /build\nADD x /x\n"),
    ("no_download", "WORKDIR /build\n", "WORKDIR /build\nRUN curl x\n"),
    ("no_download", "WORKDIR /build\n", "WORKDIR /build\nRUN cat x |  bash\n"),
    ("no_download", "WORKDIR /build\n", "WORKDIR /build\nRUN fetch https://x\n"),
    ("no_moving_tag", "WORKDIR /build\n", "WORKDIR /build\nCOPY --from=x:latest /x /x\n"),
    ("no_root", "USER 10001:10001\n", ""),
    ("no_root", "USER 10001:10001", "USER 0:0"),
    ("no_root", "USER 10001:10001", "USER root"),
    ("no_root", "USER 10001:10001\n", "USER 10001:10001\nUSER 0:0\n"),
    ("no_secret", "ARG ROLE\n", "ARG ROLE\nARG SIGNING_KEY\n"),
    ("no_secret", "ARG ROLE\n", "ARG ROLE\nENV TOKEN=x\n"),
    ("measured_only", "COPY --from=build /image/code /opt/s3ml\n", "COPY src /opt/s3ml\n"),
    ("measured_only", "USER 10001", "COPY --from=build /venv /venv\nUSER 10001"),
    ("linted", " && /venv/bin/s3ml image lint /image/enclave.manifest \\\n", ""),
    ("reproducible", "--only-binary :all: ", ""),
    ("reproducible", "--constraint constraints.txt ", ""),
    ("reproducible", "--no-install-recommends", ""),
    ("reproducible", '"gramine=${GRAMINE_VERSION}"', "gramine"),
    ("reproducible", "@${SOURCE_DATE_EPOCH}", "now"),
    ("fixed_start", "ENTRYPOINT", 'SHELL ["/bin/bash"]\nENTRYPOINT'),
    ("fixed_start", '["gramine-sgx", "/signed/enclave"]', "gramine-direct /signed/enclave"),
]


class TestRecipe:
    def test_it_keeps_every_rule(self) -> None:
        assert broken(RECIPE) == set()

    @pytest.mark.parametrize(("rule", "old", "new"), LIES)
    def test_a_lie_breaks_exactly_its_rule(self, rule: str, old: str, new: str) -> None:
        assert old in RECIPE
        assert broken(RECIPE.replace(old, new, 1)) == {rule}

    def test_every_rule_has_a_lie(self) -> None:
        assert {rule for rule, _, _ in LIES} == RULES.keys()

    def test_its_folders_are_those_of_the_manifest(self) -> None:
        recipe = parse(RECIPE)
        assert any(i.name == "COPY" and i.text.endswith(f" {CODE}") for i in recipe)
        assert any(i.name == "RUN" and i.text.endswith(f" {DATA}") for i in recipe)

    def test_what_it_copies_is_there(self) -> None:
        sources = [i.text.split()[:-1] for i in parse(RECIPE) if i.name == "COPY" and "--from" not in i.text]
        assert sources
        assert all((ROOT / path).exists() for line in sources for path in line)
