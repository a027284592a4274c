"""E4 on emulated nodes: an antagonist that moves, and readings that come late, get lost, or lie."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

from benchmarks.scheduling.emulated import Bench, division, row_of
from benchmarks.scheduling.emulated_interference import turns
from benchmarks.scheduling.emulated_runs import Answer, Run
from benchmarks.scheduling.results import Kind, Verdict, document
from benchmarks.scheduling.signal_relay import INVERTED, Fault
from benchmarks.scheduling.simulated_moving import RECOVERY_AIM_S, WINDOW_S, recovery_s
from benchmarks.scheduling.steered import Steered
from benchmarks.summaries import percentile

BLIND = "power-of-two"
FAULTS = (Fault(), Fault(delay_s=2.0), Fault(is_lost=True), Fault(forgery=INVERTED))
WORSE_AIM = 1.05
STAY_S, QUICK_STAY_S = 4.0, 1.0


def windows_of(answers: Sequence[Answer], moves_s: Sequence[float], stay_s: float) -> list[list[float]]:
    """Return the latencies by the time since a move, in windows of half a second, all moves as one; pure."""
    windows: list[list[float]] = [[] for _ in range(round(stay_s / WINDOW_S))]
    for one in answers:
        for moved_s in moves_s:
            if one.latency_s is not None and moved_s <= one.intended_s < moved_s + stay_s:
                windows[int((one.intended_s - moved_s) / WINDOW_S)].append(one.latency_s)
    return windows


def swing(run: Run, *, from_s: float, until_s: float) -> float:
    """Return how much the division over nodes changes from second to second, 0 to 1, in the mean; pure."""
    seconds = range(int(from_s), int(until_s))
    shares = [division(run, from_s=second, until_s=second + 1) for second in seconds]
    moved = [
        sum(abs(after.get(node, 0.0) - before.get(node, 0.0)) for node in before.keys() | after.keys()) / 2
        for before, after in pairwise(shares)
    ]
    return round(sum(moved) / max(1, len(moved)), 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """One policy with readings of one kind, and how often the antagonist moves."""

    policy: str
    fault: Fault
    stay_s: float

    @property
    def name(self) -> str:
        return f"{self.policy}, {self.fault.name}" if self.policy != BLIND else self.policy


def moving(bench: Bench, steered: Steered) -> dict[str, Any]:
    """Run E4: the antagonist begins on the first node, and stays as long on each one after it."""
    stay_s = QUICK_STAY_S if bench.settings.is_quick else STAY_S
    lasting_s = bench.settings.warmup_s + stay_s * len(bench.site.nodes)
    bench = replace(bench, settings=replace(bench.settings, lasting_s=lasting_s))
    cases = {
        case.name: case
        for case in (
            *(_Case(policy="s3ml", fault=fault, stay_s=stay_s) for fault in FAULTS),
            _Case(policy=BLIND, fault=Fault(), stay_s=stay_s),
        )
    }
    rows: list[dict[str, Any]] = []
    pooled: dict[str, list[list[float]]] = {}
    for block, seed in enumerate(bench.settings.seeds):
        for name in turns(tuple(cases), block):
            row, windows = _measured(bench, steered, cases[name], seed)
            rows.append(row)
            before = pooled.setdefault(name, [[] for _ in windows])
            pooled[name] = [[*one, *more] for one, more in zip(before, windows, strict=True)]
            print(
                f"  E4 seed {seed}, {name}: p99 {row['p99_ms']:.0f} ms, swing {row['swing']:.3f}, "
                f"{row['busy_cores']} cores busy",
                flush=True,
            )
    steered.spoil(Fault())
    names = [fault.name for fault in FAULTS]
    recoveries = [_recovery(case, pooled[name]) for name, case in cases.items()]
    return document(
        "E4",
        Kind.EMULATION,
        title="an antagonist that moves over three emulated nodes; readings late, lost, forged",
        settings={**bench.settings.described, "stay_s": stay_s, "conditions": names},
        seeds=bench.settings.seeds,
        runs=sorted(
            rows, key=lambda row: (row["policy"] != "s3ml", names.index(row["condition"]), row["seed"])
        ),
        verdicts=[] if bench.settings.is_quick else verdicts(rows, recoveries),
        is_quick=bench.settings.is_quick,
        more={"recoveries": recoveries},
    )


def _measured(
    bench: Bench, steered: Steered, case: _Case, seed: int
) -> tuple[dict[str, Any], list[list[float]]]:
    steered.choose(case.policy)
    steered.spoil(case.fault)
    nodes, settings = bench.site.nodes, bench.settings
    begins_s = [settings.warmup_s + place * case.stay_s for place in range(len(nodes))]
    acts: list[tuple[float, Callable[[], None]]] = []
    for place, (node, at_s) in enumerate(zip(nodes, begins_s, strict=True)):
        if place:
            acts.append((at_s, partial(nodes[place - 1].disturb, 0)))
        acts.append((at_s, partial(node.disturb, settings.sweeps_per_s)))
    run, machine = bench.run(cv=1.0, seed=seed, disturbances=acts)
    nodes[-1].disturb(0)
    labels = {
        "condition": case.fault.name,
        "swing": swing(run, from_s=settings.warmup_s, until_s=settings.lasting_s),
        "failures": run.failures,
        **machine,
    }
    row = row_of(run, policy=case.policy, seed=seed, cv=1.0, labels=labels)
    return row, windows_of(run.answers, begins_s[1:], case.stay_s)


def _recovery(case: _Case, windows: Sequence[Sequence[float]]) -> dict[str, Any]:
    return {
        "steering": "picks",
        "policy": case.policy,
        "condition": case.fault.name,
        "recovery_s": recovery_s(windows) if all(windows) else None,
        "p95_ms": [round(1e3 * percentile(window, 0.95), 1) if window else None for window in windows],
    }


def verdicts(rows: Sequence[dict[str, Any]], recoveries: Sequence[dict[str, Any]]) -> list[Verdict]:
    """Hold the rows against the targets; pure."""
    mine = {
        fault.name: [row for row in rows if row["policy"] == "s3ml" and row["condition"] == fault.name]
        for fault in FAULTS
    }
    blind = {row["seed"]: row for row in rows if row["policy"] == BLIND}
    took = {
        one["condition"]: float("inf") if one["recovery_s"] is None else one["recovery_s"]
        for one in recoveries
        if one["policy"] == "s3ml"
    }
    beside = {
        name: percentile([row["p99_ms"] / blind[row["seed"]]["p99_ms"] for row in found], 0.5)
        for name, found in mine.items()
    }
    swings = {name: percentile([row["swing"] for row in found], 0.5) for name, found in mine.items()}
    return [
        _verdict("s3ml recovers after a move", took, RECOVERY_AIM_S, "s"),
        _verdict("s3ml's p99 beside power-of-two's, however readings come", beside, WORSE_AIM, "times"),
        _verdict(
            "s3ml does not oscillate",
            swings,
            round(1.25 * swings[Fault().name], 3),
            "of the requests from second to second, 1.25 times the swing with prompt readings",
        ),
    ]


def _verdict(target: str, found: dict[str, float], bound: float, unit: str) -> Verdict:
    worse = [name for name, value in found.items() if value > bound]
    return Verdict(
        target=f"{target} (emulated, picks)",
        aim=f"at most {bound:g} {unit}",
        got=", ".join(f"{name} {value:.3g}" for name, value in found.items()),
        is_met=not worse,
        why=f"more with readings {', '.join(worse)}: up to {max(found.values()):.3g}" if worse else "",
    )
