"""docs/spec/tee-memory.md and the alerts name what the code has, all of it and nothing else."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from s3ml.tee_memory import Confidence, Counts, Kind, Sampler
from s3ml.tee_memory.metrics import AgentMetrics
from s3ml.tee_memory.readings import AgedReading, NodeReadings, ServerReadings
from s3ml.tee_memory.sgx.symbols import FUNCTIONS
from s3ml.tee_memory.simulated import SimulatedServers, SimulatedSource
from tests.clocks import FakeClock

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "spec/tee-memory.md").read_text(encoding="utf-8")
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((DOCS / "dashboards/node-agent.rules.yaml").read_text())["groups"]
    for rule in group["rules"]
]


def samples() -> set[str]:
    """Return the names of all samples of an agent to which everything is known."""
    clock = FakeClock()
    counts = Counts(
        taken_at_s=0,
        capacity_bytes=1,
        resident_bytes=1,
        evicted_bytes=1,
        page_ins=1,
        page_outs=1,
        stalled_s=1.0,
        guests=1,
        guests_capacity=1,
    )
    servers = SimulatedServers({"a": lambda _: counts}, clock)
    sampler = Sampler("n", SimulatedSource(lambda _: counts, clock), clock, interval_s=1.0, servers=servers)
    sampler.sample()
    text = AgentMetrics(sampler).render().decode()
    return set(re.findall(r"^(s3ml_\w+)", text, re.MULTILINE))


class TestPage:
    @pytest.mark.parametrize("struct", [NodeReadings, ServerReadings, AgedReading])
    def test_it_names_every_member(self, struct: type[msgspec.Struct]) -> None:
        assert [name for name in struct.__struct_fields__ if f"`{name}`" not in PAGE] == []

    def test_it_names_every_word(self) -> None:
        assert [word for word in [*Kind, *Confidence] if f"`{word}`" not in PAGE] == []

    def test_it_names_every_function(self) -> None:
        assert [name for name in FUNCTIONS if f"`{name}`" not in PAGE] == []

    def test_it_names_every_metric_and_no_other(self) -> None:
        named = {name for name in re.findall(r"`(s3ml_tee_memory_\w+)`", PAGE) if not name.endswith("_")}

        assert named == {name for name in samples() if "_server_" not in name}


class TestAlerts:
    @pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
    def test_they_speak_of_metrics_that_exist(self, rule: dict[str, Any]) -> None:
        named = set(re.findall(r"s3ml_\w+", rule["expr"]))

        assert named
        assert named <= samples()
        assert {"severity", "summary"} == {*rule["labels"], *rule["annotations"]}
