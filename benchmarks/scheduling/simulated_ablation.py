"""E10 in simulation: the policy `s3ml` less one of its terms each."""

from typing import Any

from benchmarks.scheduling.results import Kind, document
from benchmarks.scheduling.simulated import SEEDS, SMALL, VARIANTS, Job, run_all, settings_of
from benchmarks.scheduling.simulated_moving import CONDITIONS, STAYS, measured, scenario_with
from s3ml.simulator import Steering

WITH = ("prompt", "5 s late", "forged: zero")
_OF_PICKS = {"s3ml without the guard", "s3ml without exploration"}
_OF_SHARES = {"s3ml without damping"}


def jobs_of(*, is_quick: bool) -> list[Job]:
    """Return the runs: each variant under a moving antagonist, with honest, late and forged readings."""
    found = []
    for steering in Steering:
        elsewhere = _OF_SHARES if steering is Steering.PICKS else _OF_PICKS
        for name in ("s3ml", *VARIANTS):
            if name in elsewhere:
                continue
            for condition in WITH[: 1 if is_quick else None]:
                scenario = scenario_with(CONDITIONS[condition], steering, stays=2 if is_quick else len(STAYS))
                found += [
                    Job(
                        policy=name,
                        scenario=scenario,
                        size=SMALL,
                        seed=seed,
                        labels={"condition": condition},
                    )
                    for seed in SEEDS[: 1 if is_quick else None]
                ]
    return found


def ablation(*, is_quick: bool) -> dict[str, Any]:
    """Run E10. There is no target: what a term is worth is what is asked."""
    rows = [one["row"] for one in run_all("E10", measured, jobs_of(is_quick=is_quick))]
    return document(
        "E10",
        Kind.SIMULATION,
        title="s3ml less each of its terms, under a moving antagonist",
        settings={**settings_of(SMALL), "conditions": list(WITH), "variants": list(VARIANTS)},
        seeds=SEEDS,
        runs=rows,
        verdicts=[],
        is_quick=is_quick,
    )
