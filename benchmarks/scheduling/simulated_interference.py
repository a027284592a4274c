"""E2 and E3 in simulation: antagonists on some nodes, and none."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from benchmarks.scheduling.results import Kind, Verdict, document
from benchmarks.scheduling.simulated import (
    CLUSTER,
    NAMES,
    SEEDS,
    SMALL,
    WARMUP_S,
    Job,
    Size,
    row_of,
    run_all,
    scenario_of,
    settings_of,
)
from benchmarks.scheduling.summaries import by_policy
from benchmarks.scheduling.targets import Rows, disturbed, undisturbed
from benchmarks.summaries import percentile
from s3ml.simulator import Steering

CVS = (1.0, 3.0)
OF_SHARES = ("power-of-two", "prequal", "s3ml-paper", "s3ml")
"""Those whose shares differ; power of two stands for all that leave everything to the gateway."""
DURATIONS_S = {SMALL.name: 60.0, CLUSTER.name: 6.0}
_QUICK_S = 4.0


def jobs_of(size: Size, *, is_disturbed: bool, is_quick: bool, cvs: Sequence[float] = CVS) -> list[Job]:
    """Return the runs of one fleet: each policy, arrivals, seed, and way of steering."""
    duration_s = _QUICK_S if is_quick else DURATIONS_S[size.name]
    episodes = [size.antagonist(node) for node in size.disturbed] if is_disturbed else []
    found = []
    for cv in cvs:
        scenario = scenario_of(size, cv=cv, duration_s=duration_s, episodes=episodes)
        for steering, names in ((Steering.PICKS, NAMES), (Steering.SHARES, OF_SHARES)):
            steered = replace(scenario, steering=steering)
            found += [
                Job(policy=name, scenario=steered, size=size, seed=seed)
                for name in names
                for seed in SEEDS[: 1 if is_quick else None]
            ]
    return found


def interference(*, is_quick: bool) -> dict[str, Any]:
    """Run E2."""
    jobs = jobs_of(SMALL, is_disturbed=True, is_quick=is_quick)
    jobs += jobs_of(CLUSTER, is_disturbed=True, is_quick=is_quick, cvs=CVS[:1])
    rows = run_all("E2", row_of, jobs)
    return document(
        "E2",
        Kind.SIMULATION,
        title="antagonists on some nodes: seven policies, steady and bursty arrivals",
        settings=_settings(SMALL, CLUSTER),
        seeds=SEEDS,
        runs=rows,
        verdicts=[] if is_quick else _verdicts_e2(rows),
        is_quick=is_quick,
    )


def calm(*, is_quick: bool) -> dict[str, Any]:
    """Run E3."""
    jobs = jobs_of(SMALL, is_disturbed=False, is_quick=is_quick)
    rows = run_all("E3", row_of, jobs)
    return document(
        "E3",
        Kind.SIMULATION,
        title="no interference: nothing pages, and a balancer should cost nothing",
        settings=_settings(SMALL),
        seeds=SEEDS,
        runs=rows,
        verdicts=[] if is_quick else _verdicts_e3(rows),
        is_quick=is_quick,
    )


def _settings(*sizes: Size) -> dict[str, Any]:
    return {
        size.name: {**settings_of(size), "duration_s": DURATIONS_S[size.name], "warmup_s": WARMUP_S}
        for size in sizes
    }


def groups(rows: Sequence[dict[str, Any]]) -> dict[tuple[str, str, str], list[dict[str, Any]]]:
    """Return runs by fleet, way of steering, and arrivals."""
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault((row["size"], row["steering"], row["arrivals"]), []).append(row)
    return found


def _verdicts_e2(rows: Rows) -> list[Verdict]:
    return [one for kind, group in groups(rows).items() for one in disturbed(group, ", ".join(kind), _why)]


def _verdicts_e3(rows: Rows) -> list[Verdict]:
    return [undisturbed(group, ", ".join(kind)) for kind, group in groups(rows).items()]


def _why(group: Sequence[dict[str, Any]], beside: str, over: float) -> str:
    """Say what of the figures goes along with a miss."""
    p99 = {name: percentile(values, 0.5) for name, values in by_policy(group, "p99_ms").items()}
    pages = {name: percentile(values, 0.5) for name, values in by_policy(group, "pages_per_request").items()}
    if pages["s3ml"] > 1.25 * pages[beside] + 1:
        cause = "it sends more to nodes that page"
    elif 1.25 * pages["s3ml"] + 1 < pages[beside]:
        cause = "it pages less, and queues longer on the nodes that are left"
    else:
        cause = "both page alike; the rest is queueing"
    return (
        f"{100 * (over - 1):.0f} % over the aim: p99 {p99['s3ml']:.0f} against {p99[beside]:.0f} ms, "
        f"{pages['s3ml']:.0f} against {pages[beside]:.0f} pages per request: {cause}"
    )
