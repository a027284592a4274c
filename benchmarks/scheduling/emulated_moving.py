"""E4 on emulated nodes: an antagonist that moves, and readings that come late, get lost, or lie."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from benchmarks.scheduling.emulated import Bench, division, row_of
from benchmarks.scheduling.emulated_calibration import OBJECTIVE_S
from benchmarks.scheduling.emulated_interference import turns
from benchmarks.scheduling.emulated_runs import Answer, Run
from benchmarks.scheduling.results import Kind, Verdict, document
from benchmarks.scheduling.signal_relay import INVERTED, Fault
from benchmarks.scheduling.steered import Steered
from benchmarks.summaries import percentile

BLIND = "power-of-two"
FAULTS = (Fault(), Fault(delay_s=2.0), Fault(is_lost=True), Fault(forgery=INVERTED))
RECOVERY_AIM_S, WORSE_AIM = 3.0, 1.05
WINDOW_S, LATE_SHARE = 0.5, 0.1


def recovery_s(answers: Sequence[Answer], from_s: float, until_s: float) -> float:
    """Return how long after `from_s` few requests missed the objective, and so to `until_s`; pure.

    In windows of half a second by the intended instant, few being at most a tenth. The whole stretch where it
    never was.
    """
    recovered_s = 0.0
    windows = round((until_s - from_s) / WINDOW_S)
    for number in range(windows):
        begins_s = from_s + number * WINDOW_S
        within = [one for one in answers if begins_s <= one.intended_s < begins_s + WINDOW_S]
        late = sum(one.latency_s is None or one.latency_s > OBJECTIVE_S for one in within)
        if within and late / len(within) > LATE_SHARE:
            recovered_s = (number + 1) * WINDOW_S
    return recovered_s


def swing(run: Run, *, from_s: float, until_s: float) -> float:
    """Return how much the division over nodes changes from second to second, 0 to 1, in the mean; pure."""
    seconds = range(int(from_s), int(until_s))
    shares = [division(run, from_s=second, until_s=second + 1) for second in seconds]
    moved = [
        sum(abs(after.get(node, 0.0) - before.get(node, 0.0)) for node in before.keys() | after.keys()) / 2
        for before, after in pairwise(shares)
    ]
    return round(sum(moved) / max(1, len(moved)), 4)


def moves(bench: Bench) -> list[float]:
    """Return when the antagonist moves on, from one node to the next."""
    settings = bench.settings
    stay_s = (settings.lasting_s - settings.warmup_s) / len(bench.site.nodes)
    return [settings.warmup_s + number * stay_s for number in range(len(bench.site.nodes))]


def moving(bench: Bench, steered: Steered) -> dict[str, Any]:
    """Run E4."""
    settings, rows = bench.settings, []
    cases = {f"s3ml, {fault.name}": ("s3ml", fault) for fault in FAULTS} | {BLIND: (BLIND, Fault())}
    for block, seed in enumerate(settings.seeds):
        for case in turns(tuple(cases), block):
            policy, fault = cases[case]
            rows.append(_measured(bench, steered, policy, fault, seed))
            print(
                f"  E4 seed {seed}, {case}: p99 {rows[-1]['p99_ms']:.0f} ms, recovered in "
                f"{rows[-1]['recoveries_s']} s, {rows[-1]['busy_cores']} cores busy",
                flush=True,
            )
    steered.spoil(Fault())
    is_quick = settings.is_quick
    return document(
        "E4",
        Kind.EMULATION,
        title="an antagonist that moves over three emulated nodes; readings late, lost, forged",
        settings={**settings.described, "moves_s": moves(bench), "conditions": [one.name for one in FAULTS]},
        seeds=settings.seeds,
        runs=rows,
        verdicts=[] if is_quick else verdicts(rows),
        is_quick=is_quick,
    )


def _measured(bench: Bench, steered: Steered, policy: str, fault: Fault, seed: int) -> dict[str, Any]:
    steered.choose(policy)
    steered.spoil(fault)
    at_s = moves(bench)
    acts: list[tuple[float, Callable[[], None]]] = []
    for place, instant in enumerate(at_s):
        if place:
            acts.append((instant, lambda place=place: bench.site.nodes[place - 1].disturb(0)))  # type: ignore[misc]
        acts.append(
            (instant, lambda place=place: bench.site.nodes[place].disturb(bench.settings.sweeps_per_s))  # type: ignore[misc]
        )
    run, machine = bench.run(cv=1.0, seed=seed, disturbances=acts)
    bench.site.nodes[-1].disturb(0)
    edges = [*at_s, bench.settings.lasting_s]
    labels = {
        "condition": fault.name,
        "recoveries_s": [recovery_s(run.answers, *edge) for edge in pairwise(edges)],
        "swing": swing(run, from_s=bench.settings.warmup_s, until_s=bench.settings.lasting_s),
        "failures": run.failures,
        **machine,
    }
    return row_of(run, policy=policy, seed=seed, cv=1.0, labels=labels)


def verdicts(rows: Sequence[dict[str, Any]]) -> list[Verdict]:
    """Hold the rows against the targets; pure."""
    mine = {
        fault.name: [row for row in rows if row["policy"] == "s3ml" and row["condition"] == fault.name]
        for fault in FAULTS
    }
    blind = {row["seed"]: row for row in rows if row["policy"] == BLIND}
    took = {
        name: percentile([at for row in found for at in row["recoveries_s"]], 0.5)
        for name, found in mine.items()
    }
    beside = {
        name: percentile([row["p99_ms"] / blind[row["seed"]]["p99_ms"] for row in found], 0.5)
        for name, found in mine.items()
    }
    swings = {name: percentile([row["swing"] for row in found], 0.5) for name, found in mine.items()}
    return [
        _verdict(
            "s3ml recovers after a move (emulated, picks)", took, RECOVERY_AIM_S, "s, in the median move"
        ),
        _verdict(
            "s3ml's p99 beside power-of-two's, however readings come (emulated, picks)", beside, WORSE_AIM
        ),
        _verdict(
            "s3ml's division of requests swings no more than with prompt readings (emulated, picks)",
            swings,
            round(1.25 * swings[Fault().name], 3),
            "of the requests from second to second",
        ),
    ]


def _verdict(target: str, found: dict[str, float], bound: float, unit: str = "times") -> Verdict:
    worse = [name for name, value in found.items() if value > bound]
    got = ", ".join(f"{name} {value:.2f}" for name, value in found.items())
    why = f"above with readings {', '.join(worse)}: up to {max(found.values()):.2f}" if worse else ""
    return Verdict(target=target, aim=f"at most {bound:g} {unit}", got=got, is_met=not worse, why=why)
