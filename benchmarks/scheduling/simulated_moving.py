"""E4 in simulation: an antagonist that moves, and readings that come late, get lost, or lie."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from benchmarks.scheduling.results import Kind, Verdict, document
from benchmarks.scheduling.simulated import (
    SEEDS,
    SMALL,
    Job,
    outcome_of,
    row,
    run_all,
    scenario_of,
    settings_of,
)
from benchmarks.scheduling.summaries import ratios
from benchmarks.summaries import percentile
from s3ml.simulator import Forgery, Outcome, Scenario, Signals, Steering

STAY_S = 12.0
STAYS = (0, 1, 2)
WARMUP_S = 4.0
WINDOW_S = 0.5
CALM = 1.5
"""A window has recovered where its p95 is at most this many times that of the second half of the stays."""
RECOVERY_AIM_S = 3.0
_ALL = tuple(range(SMALL.fleet.nodes))
CONDITIONS: dict[str, Signals] = {
    "prompt": Signals(),
    "0.1 s late": Signals(delay_s=0.1),
    "1 s late": Signals(delay_s=1.0),
    "5 s late": Signals(delay_s=5.0),
    "half lost": Signals(loss=0.5),
    "all lost": Signals(loss=1.0),
    "forged: zero": Signals(forgery=Forgery.ZERO, liars=_ALL),
    "forged: a million": Signals(forgery=Forgery.HUGE, liars=(1,)),
    "forged: infinite": Signals(forgery=Forgery.INFINITE, liars=(1,)),
    "forged: swapped": Signals(forgery=Forgery.SWAPPED, liars=_ALL),
}
BLIND = "power-of-two"
"""It reads nothing, so that one condition speaks for all."""
_OF_PAPER = ("prompt", "5 s late", "forged: zero", "forged: swapped")
COMPARED = (BLIND, "prequal", "s3ml-paper", "s3ml")
_READ = {"s3ml": tuple(CONDITIONS), "s3ml-paper": _OF_PAPER}


def scenario_with(signals: Signals, steering: Steering, *, stays: int) -> Scenario:
    """Return a run in which the antagonist stays on each node for a while and then moves at once."""
    episodes = [
        SMALL.antagonist(node, WARMUP_S + number * STAY_S, WARMUP_S + (number + 1) * STAY_S)
        for number, node in enumerate(STAYS[:stays])
    ]
    scenario = scenario_of(SMALL, cv=1.0, duration_s=WARMUP_S + stays * STAY_S, episodes=episodes)
    return replace(scenario, warmup_s=WARMUP_S, signals=signals, steering=steering)


def jobs_of(*, is_quick: bool) -> list[Job]:
    """Return the runs: each condition for those who read or time, one for those who do not."""
    found = []
    for steering in Steering:
        for name in COMPARED:
            for condition in ("prompt",) if is_quick else _READ.get(name, ("prompt",)):
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


def measured(job: Job) -> dict[str, Any]:
    """Make a run; return its row, how much it swings, and latencies by the time since a move."""
    outcome = outcome_of(job)
    stays = round((job.scenario.duration_s - WARMUP_S) / STAY_S)
    windows: list[list[float]] = [[] for _ in range(round(STAY_S / WINDOW_S))]
    for request, latency_s in zip(outcome.requests, outcome.latencies_s, strict=True):
        since_s = request.sent_s - WARMUP_S
        if since_s >= STAY_S:  # The first stay begins without an antagonist before it: no move.
            windows[int(since_s % STAY_S / WINDOW_S)].append(latency_s)
    return {
        "row": {**row(job, outcome), "swing": round(swing(outcome, WARMUP_S, WARMUP_S + stays * STAY_S), 4)},
        "windows": windows,
    }


def swing(outcome: Outcome, from_s: float, until_s: float, window_s: float = 1.0) -> float:
    """Return how much the division of requests over nodes changes from one second to the next, 0 to 1.

    The mean over pairs of neighbouring windows of the total variation distance between their shares by node.
    """
    nodes = max(outcome.nodes) + 1
    counts = [[0] * nodes for _ in range(round((until_s - from_s) / window_s))]
    for request in outcome.requests:
        place = int((request.sent_s - from_s) / window_s)
        if 0 <= place < len(counts):
            counts[place][outcome.nodes[request.server]] += 1
    shares = [[count / sum(row) for count in row] for row in counts if sum(row)]
    moved = [
        sum(abs(after - before) for before, after in zip(one, two, strict=True)) / 2
        for one, two in pairwise(shares)
    ]
    return sum(moved) / len(moved)


def recovery_s(windows: Sequence[Sequence[float]]) -> float | None:
    """Return when p95 is back for good after a move; None where it never is.

    Args:
        windows: Latencies by the time since a move, pooled over moves and seeds; the second half is the
            level.
    """
    late = [took for window in windows[len(windows) // 2 :] for took in window]
    level_s = CALM * percentile(late, 0.95)
    recovered: float | None = 0.0
    for number, window in enumerate(windows):
        if window and percentile(window, 0.95) > level_s:
            recovered = (number + 1) * WINDOW_S
    return recovered if recovered is not None and recovered < len(windows) * WINDOW_S else None


def moving(*, is_quick: bool) -> dict[str, Any]:
    """Run E4."""
    jobs = jobs_of(is_quick=is_quick)
    found = run_all("E4", measured, jobs)
    rows = [one["row"] for one in found]
    pooled: dict[tuple[str, str, str], list[list[float]]] = {}
    for one in found:
        key = (one["row"]["steering"], one["row"]["policy"], one["row"]["condition"])
        pooled.setdefault(key, [[] for _ in one["windows"]])
        for place, more in enumerate(one["windows"]):
            pooled[key][place] += more
    recoveries = [_recovery(key, windows) for key, windows in pooled.items()]
    return document(
        "E4",
        Kind.SIMULATION,
        title="a moving antagonist; readings late, lost, forged",
        settings={
            **settings_of(SMALL),
            "stay_s": STAY_S,
            "stays": list(STAYS),
            "conditions": list(CONDITIONS),
        },
        seeds=SEEDS,
        runs=rows,
        verdicts=[] if is_quick else _verdicts(rows, recoveries),
        is_quick=is_quick,
        more={"recoveries": recoveries},
    )


def _recovery(key: tuple[str, str, str], windows: Sequence[Sequence[float]]) -> dict[str, Any]:
    steering, policy, condition = key
    return {
        "steering": steering,
        "policy": policy,
        "condition": condition,
        "recovery_s": recovery_s(windows),
        "p95_ms": [round(1e3 * percentile(window, 0.95), 1) if window else None for window in windows],
    }


def _verdicts(rows: Sequence[dict[str, Any]], recoveries: Sequence[dict[str, Any]]) -> list[Verdict]:
    found = []
    for steering in Steering:
        mine = [row for row in rows if row["steering"] == steering and row["policy"] == "s3ml"]
        blind = [row for row in rows if row["steering"] == steering and row["policy"] == BLIND]
        took = [one for one in recoveries if one["steering"] == steering and one["policy"] == "s3ml"]
        found.append(_recovers(steering, took))
        found.append(_stays_calm(steering, mine))
        found.append(_is_no_worse(steering, mine, blind))
    return found


def _recovers(steering: str, took: Sequence[dict[str, Any]]) -> Verdict:
    late = [
        one["condition"] for one in took if one["recovery_s"] is None or one["recovery_s"] > RECOVERY_AIM_S
    ]
    return Verdict(
        target=f"s3ml recovers after a move ({steering})",
        aim=f"within {RECOVERY_AIM_S:g} s, however readings come",
        got=", ".join(f"{one['condition']} {_seconds(one['recovery_s'])}" for one in took),
        is_met=not late,
        why=f"not with readings {', '.join(late)}: p95 is above {CALM:g} times its level for longer"
        if late
        else "",
    )


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:g} s"


def _stays_calm(steering: str, mine: Sequence[dict[str, Any]]) -> Verdict:
    swings = {
        condition: percentile([row["swing"] for row in mine if row["condition"] == condition], 0.5)
        for condition in CONDITIONS
    }
    aim = 1.25 * swings["prompt"]
    above = [condition for condition, value in swings.items() if value > aim]
    return Verdict(
        target=f"s3ml does not oscillate ({steering})",
        aim="a swing from second to second of at most 1.25 times that with prompt readings",
        got=", ".join(f"{condition} {value:.3f}" for condition, value in swings.items()),
        is_met=not above,
        why=f"more with readings {', '.join(above)}" if above else "",
    )


def _is_no_worse(steering: str, mine: Sequence[dict[str, Any]], blind: Sequence[dict[str, Any]]) -> Verdict:
    found = {}
    for condition in CONDITIONS:
        runs = [*(row for row in mine if row["condition"] == condition), *blind]
        found[condition] = percentile(ratios(runs, "s3ml", BLIND, "p99_ms"), 0.5)
    worse = [condition for condition, ratio in found.items() if ratio > 1.05]
    return Verdict(
        target=f"s3ml's p99 beside power-of-two's, however readings come ({steering})",
        aim="at most 1.05 times",
        got=", ".join(f"{condition} {ratio:.2f}" for condition, ratio in found.items()),
        is_met=not worse,
        why=f"more with readings {', '.join(worse)}" if worse else "",
    )
