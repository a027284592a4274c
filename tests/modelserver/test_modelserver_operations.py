"""docs/operations.md, the dashboard and the alerts speak of metrics, events and settings that exist."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from s3ml.modelserver.metrics import Rejection
from s3ml.modelserver.samples import FAMILIES
from s3ml.modelserver.settings import KNOWN
from s3ml.modelserver.tally import Failure, Outcome
from s3ml.modelserver.tracing import ATTRIBUTES, REQUEST_SPAN, STAGES
from s3ml.wire.oip import ModelState

DOCS = Path(__file__).parents[2] / "docs"
SOURCES = Path(__file__).parents[2] / "src" / "s3ml" / "modelserver"
PAGE = (DOCS / "operations.md").read_text(encoding="utf-8")
SPEC = (DOCS / "spec" / "model-server.md").read_text(encoding="utf-8")
DASHBOARD: dict[str, Any] = json.loads((DOCS / "dashboards" / "model-server.json").read_text())
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((DOCS / "dashboards" / "model-server.rules.yaml").read_text())["groups"]
    for rule in group["rules"]
]
SAMPLES = {name + suffix: family for name, family in FAMILIES.items() for suffix in family.suffixes()}
VALUES: dict[tuple[str, str | None], set[str]] = {
    ("s3ml_requests_total", "outcome"): {*Outcome},
    ("s3ml_rejections_total", "reason"): {*Rejection},
    ("nv_inference_request_failure", "reason"): {*Failure},
    ("s3ml_models", "state"): {*ModelState},
}
# Everything of PromQL that is used: a word that is neither this nor a metric is a mistake.
WORDS = {
    *("sum", "min", "max", "count", "by", "rate", "changes", "and"),
    *("service", "outcome", "reason", "state", "version"),
}
COUNTERS_ONLY = re.compile(r"rate\((\w+)")


def expressions() -> Iterator[tuple[str, str]]:
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for rule in RULES:
        yield rule["alert"], rule["expr"]


ALL = list(expressions())


class TestExpressions:
    """What is drawn and alerted on is measured."""

    @pytest.mark.parametrize(("place", "expression"), ALL, ids=[place for place, _ in ALL])
    def test_every_name_is_a_metric(self, place: str, expression: str) -> None:
        bare = re.sub(r"\{[^}]*\}|\[\w+\]", "", expression)
        words = set(re.findall(r"(?<!\w)[a-zA-Z_]\w*", bare)) - WORDS
        assert words
        assert words <= SAMPLES.keys(), place

    @pytest.mark.parametrize(("place", "expression"), ALL, ids=[place for place, _ in ALL])
    def test_every_label_and_value_exists(self, place: str, expression: str) -> None:
        for name, inside in re.findall(r"(\w+)\{([^}]*)\}", expression):
            for label, value in re.findall(r'(\w+)\s*[!=~]+\s*"([^"]*)"', inside):
                assert label in {"service", SAMPLES[name].label}, place
                if label != "service":
                    assert value in VALUES[name, label], place

    @pytest.mark.parametrize(("place", "expression"), ALL, ids=[place for place, _ in ALL])
    def test_rates_are_of_counters_and_long_enough(self, place: str, expression: str) -> None:
        for name in COUNTERS_ONLY.findall(expression):
            assert SAMPLES[name].kind in {"counter", "summary"}, place
        for window in re.findall(r"\[(\w+)\]", expression):
            assert window in {"5m", "10m", "30m", "1h"}, place

    def test_parentheses_are_closed(self) -> None:
        for place, expression in ALL:
            assert expression.count("(") == expression.count(")"), place


class TestDashboard:
    """Grafana can take it."""

    def test_panels_have_places_titles_and_explanations(self) -> None:
        panels = DASHBOARD["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels)
        for panel in panels:
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24
            assert panel["title"]
            assert panel["description"]

    def test_panels_do_not_overlap(self) -> None:
        taken: set[tuple[int, int]] = set()
        for panel in DASHBOARD["panels"]:
            p = panel["gridPos"]
            cells = {(x, y) for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])}
            assert not cells & taken, panel["title"]
            taken |= cells

    def test_every_metric_but_those_of_alerts_is_drawn(self) -> None:
        drawn = " ".join(expression for _, expression in ALL)
        assert [name for name in SAMPLES if name not in drawn] == []


class TestAlerts:
    """Each has a severity, a line for people, and a section that says what to do."""

    @pytest.mark.parametrize("rule", RULES, ids=[rule["alert"] for rule in RULES])
    def test_it_is_complete_and_explained(self, rule: dict[str, Any]) -> None:
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"]["summary"]
        assert set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])) <= {"service", "instance"}
        assert f"\n### {rule['alert']}\n" in PAGE

    def test_no_other_alert_is_explained(self) -> None:
        assert set(re.findall(r"\n### (S3ML\w+)\n", PAGE)) == {rule["alert"] for rule in RULES}


class TestPage:
    """docs/operations.md and the specification keep up with the code."""

    def test_every_metric_is_explained_and_no_other(self) -> None:
        table = PAGE.split("## Metrics")[1].split("Averages:")[0]
        assert set(re.findall(r"`((?:s3ml|nv|process|request)_\w+)`", table)) == FAMILIES.keys()

    def test_kinds_are_right(self) -> None:
        for line in PAGE.splitlines():
            if line.startswith("| `") and (cells := line.split("|"))[1].strip().split("`")[1] in FAMILIES:
                for name in re.findall(r"`(\w+)`", cells[1]):
                    family = FAMILIES[name]
                    label = f", `{family.label}`" if family.label else ""
                    assert cells[2].strip() == f"{family.kind}{label}", name

    def test_every_label_value_is_explained(self) -> None:
        for values in VALUES.values():
            for value in values:
                assert f"`{value}`" in PAGE, value
        for outcome in Outcome:
            assert f"`{outcome}`" in SPEC, outcome
        for rejection in Rejection:
            assert f"`{rejection}`" in SPEC, rejection

    def test_every_event_is_listed(self) -> None:
        written: set[str] = set()
        for path in SOURCES.rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            written |= set(re.findall(r'log\.write\(\s*"([a-z-]+)"', text))
            written |= set(re.findall(r'\b_note\(\s*"([a-z-]+)"', text))
        written |= {"waiting", "refused", "release-unusable"}  # by way of a variable
        assert {"draining", "given-up", "model-loaded"} <= written
        for event in written:
            assert f"`{event}`" in PAGE, event
            assert f"`{event}`" in SPEC, event

    def test_every_span_and_attribute_is_listed(self) -> None:
        for name in (REQUEST_SPAN, *(name for name, _, _ in STAGES), *ATTRIBUTES):
            assert f"`{name}`" in PAGE, name
            assert f"`{name}`" in SPEC, name

    def test_every_setting_is_in_the_specification_and_no_other(self) -> None:
        table = SPEC.split("## Settings")[1].split("## Outside")[0]
        assert set(re.findall(r"`(S3ML_\w+)`", table)) == set(KNOWN)
