"""The simulated experiments: what they compute from runs, that they run, and that directions are right."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest

from benchmarks.scheduling import plots, results, run, summaries, tables
from benchmarks.scheduling.decision_cost import REPLICAS, view_of
from benchmarks.scheduling.results import Kind, Verdict
from benchmarks.scheduling.simulated import (
    CLUSTER,
    NAMES,
    SEEDS,
    SMALL,
    VARIANTS,
    Job,
    learned,
    policy_of,
    row_of,
    scenario_of,
)
from benchmarks.scheduling.simulated_moving import STAY_S, WINDOW_S, recovery_s, swing
from s3ml.simulator import Outcome, Request

REPOSITORY = Path(__file__).parents[2]
RESULTS = REPOSITORY / "benchmarks" / "results"
KEPT = sorted(path.stem for path in RESULTS.glob("scheduling-*-simulated.json"))


def outcome(places: list[tuple[float, int]]) -> Outcome:
    """Return an outcome of two nodes of one server each, by instant and node."""
    requests = []
    for sent_s, place in places:
        request = Request(sent_s)
        request.server = place
        requests.append(request)
    return Outcome(
        requests=tuple(requests), servers=("a", "b"), nodes=(0, 1), page_ins=0.0, ended_s=9.0, seen=()
    )


class TestSummaries:
    """Latencies become the figures that are shown."""

    def test_percentiles_and_the_objective(self) -> None:
        found = summaries.summarise(
            [value / 1000 for value in range(1, 1001)], objective_s=0.9, pages=2000.0, unanswered=0
        )

        assert (found["p50_ms"], found["p99_ms"], found["p999_ms"]) == (500.5, 990.01, 999.001)
        assert found["over_objective"] == 0.1
        assert found["pages_per_request"] == 2.0

    def test_unanswered_requests_are_over_the_objective(self) -> None:
        found = summaries.summarise([0.1] * 9, objective_s=1.0, pages=None, unanswered=1)

        assert found["over_objective"] == 0.1
        assert found["pages_per_request"] is None

    def test_ratios_are_paired_by_seed_and_arrivals(self) -> None:
        runs = [
            {"policy": policy, "seed": seed, "arrivals": "CV 1", "p99_ms": base * seed}
            for policy, base in (("a", 1.0), ("b", 2.0))
            for seed in (1, 2, 3)
        ]

        assert summaries.ratios(runs, "a", "b", "p99_ms") == [0.5, 0.5, 0.5]


class TestDocuments:
    """A result says where it comes from, and why a target was missed."""

    def made(self, **changed: Any) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "title": "a title",
            "settings": {},
            "seeds": SEEDS,
            "runs": [{"policy": "a", "seed": 1, "arrivals": "CV 1"}],
            "verdicts": [Verdict(target="t", aim="1", got="2", is_met=True)],
            "is_quick": False,
        }
        return results.document("E2", Kind.SIMULATION, **(fields | changed))

    def test_it_says_simulation_and_no_hardware(self) -> None:
        found = self.made()

        assert found["kind"] == "simulation"
        assert "no SGX hardware" in found["note"]
        assert "SIMULATION" in found["note"]
        assert results.name_of("E2", Kind.EMULATION) == "scheduling-e2-emulated"

    def test_what_is_kept_is_read_again(self, tmp_path: Path) -> None:
        found = self.made()
        results.keep(found, tmp_path)

        assert results.read("E2", Kind.SIMULATION, tmp_path) == found
        assert results.read("E2", Kind.EMULATION, tmp_path) is None

    def test_a_miss_without_a_reason_is_refused(self) -> None:
        with pytest.raises(ValueError, match="expected why it was missed"):
            Verdict(target="t", aim="1", got="2", is_met=False)

    def test_fewer_than_five_seeds_are_refused_unless_quick(self) -> None:
        with pytest.raises(ValueError, match="expected at least 5 seeds, got 2"):
            self.made(seeds=(1, 2))
        assert self.made(seeds=(1,), is_quick=True)["is_quick"] is True


class TestMeasures:
    """How recovery and oscillation are told from latencies and places."""

    def test_recovery_is_the_end_of_the_last_window_above_the_level(self) -> None:
        windows = [[0.9], [0.9], [0.1], [0.5], *([0.1] for _ in range(20))]

        assert recovery_s(windows) == 4 * WINDOW_S

    def test_what_never_slowed_had_nothing_to_recover_from(self) -> None:
        assert recovery_s([[0.1]] * 24) == 0.0

    def test_what_is_still_slow_at_the_end_never_recovered(self) -> None:
        assert recovery_s([*([0.1] for _ in range(23)), [0.9]]) is None
        assert 23 * WINDOW_S < STAY_S

    def test_a_steady_division_does_not_swing_and_an_alternating_one_does(self) -> None:
        steady = outcome([(0.1 * number, number % 2) for number in range(60)])
        alternating = outcome([(0.1 * number, number // 10 % 2) for number in range(60)])

        assert swing(steady, 0.0, 6.0) == 0.0
        assert swing(alternating, 0.0, 6.0) == pytest.approx(1.0)


@cache
def disturbed_rows() -> dict[str, dict[str, Any]]:
    scenario = scenario_of(
        SMALL, cv=1.0, duration_s=12.0, episodes=[SMALL.antagonist(node) for node in SMALL.disturbed]
    )
    return {
        name: row_of(Job(policy=name, scenario=scenario, size=SMALL, seed=901))
        for name in ("round-robin", "power-of-two", "s3ml-paper", "s3ml")
    }


class TestDirections:
    """A few seconds of the real policies: what must come out whatever the figures."""

    def test_taking_turns_suffers_most_from_an_antagonist(self) -> None:
        rows = disturbed_rows()
        assert rows["round-robin"]["p99_ms"] == max(row["p99_ms"] for row in rows.values())

    def test_who_reads_paging_brings_back_fewer_pages(self) -> None:
        rows = disturbed_rows()
        assert rows["s3ml-paper"]["pages_per_request"] < rows["power-of-two"]["pages_per_request"]
        assert rows["s3ml"]["pages_per_request"] < rows["power-of-two"]["pages_per_request"]

    def test_without_antagonists_nothing_pages(self) -> None:
        scenario = scenario_of(SMALL, cv=1.0, duration_s=5.0)
        row = row_of(Job(policy="s3ml", scenario=scenario, size=SMALL, seed=901))

        assert row["pages_per_request"] == 0
        assert row["over_objective"] < 0.05

    def test_what_is_known_beforehand_is_learned_from_the_model(self) -> None:
        model = learned(SMALL.name)

        assert model.curve is not None
        assert model.curve.pages(1.2) == 0
        assert model.curve.pages(0.5) > model.curve.pages(0.8) > 0
        assert model.page_cost_s >= SMALL.fleet.page_s

    def test_each_variant_is_a_policy_that_picks(self) -> None:
        view = view_of(6, Random(1))  # noqa: S311 - a test that repeats
        for name in (*NAMES, *VARIANTS):
            policy = policy_of(name, learned(SMALL.name))
            assert policy.pick(view, Random(1)).replica is not None  # noqa: S311
            assert sum(policy.shares(view).share.values()) == pytest.approx(1.0)

    def test_views_for_the_cost_of_decisions_have_the_sizes_that_are_named(self) -> None:
        for count in REPLICAS:
            view = view_of(count, Random(1))  # noqa: S311 - a test that repeats
            assert len(view.ready) == count
            assert all(reading.is_sane for reading in view.nodes.values())

    def test_the_cluster_has_its_nodes(self) -> None:
        assert CLUSTER.fleet.nodes * CLUSTER.fleet.replicas_per_node == 80
        with pytest.raises(KeyError):
            learned(replace(CLUSTER, name="another").name)


class TestRunner:
    """An experiment becomes a document, which can be shown."""

    def test_a_quick_experiment_is_written_and_shown(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("PROCESSES", "1")
        run.run(["E5"], tmp_path, is_quick=True)

        document = json.loads((tmp_path / "scheduling-e5-simulated.json").read_text(encoding="utf-8"))
        assert "E5 (simulation)" in capsys.readouterr().out
        assert document["is_quick"] is True
        assert {one["policy"] for one in document["runs"]} == set(NAMES)
        assert "s3ml-paper" in tables.capacity(document)


class TestKept:
    """What is shown in the repository was run in full."""

    @pytest.mark.parametrize("name", KEPT)
    def test_no_result_of_a_quick_run_is_kept(self, name: str) -> None:
        document = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))

        assert document["is_quick"] is False
        assert len(set(document["seeds"])) >= 5
        assert document["kind"] == "simulation"
        assert (RESULTS / f"{name}.png").stat().st_size < 100_000
        assert name in plots.DRAWN
