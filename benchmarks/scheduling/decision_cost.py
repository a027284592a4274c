"""E11: what a decision costs: each policy's pick and step of shares at 6, 20 and 200 replicas.

Measured, not simulated: the processor time of one call on this machine, over views that a running fleet would
give. Rounds go through all policies in turn, so that what else the machine does meets all alike. `median` and
`p99` are of single calls of the quieter half of the rounds; all of them are kept beside.
"""

import gc
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from benchmarks.scheduling.results import Kind, Verdict, document
from benchmarks.scheduling.simulated import NAMES, SEEDS, SMALL, learned
from benchmarks.summaries import percentile
from s3ml.scheduling.balancer import Policy, Replica, View
from s3ml.scheduling.balancer.policies import policy_named
from s3ml.tee_memory.reading import Confidence, Reading
from s3ml.tee_memory.reading import Kind as MemoryKind

REPLICAS = (6, 20, 200)
PER_NODE = 4
ROUNDS = 6
PICKS = 200
STEPS = 20
AIM_US = 100.0


def view_of(replicas: int, draw: Random, turn: int = 0) -> View:
    """Return a fleet as it may stand: a quarter of the nodes page, some requests are in flight."""
    nodes = {f"node-{number}": _reading(draw) for number in range(-(-replicas // PER_NODE))}
    return View(
        now_s=100.0,
        replicas=tuple(
            Replica(
                name=f"node-{number // PER_NODE}-replica-{number % PER_NODE}",
                node=f"node-{number // PER_NODE}",
                is_ready=True,
                in_flight=draw.randrange(4),
                latency_s=draw.uniform(0.01, 0.2),
                service_s=draw.uniform(0.01, 0.1),
                rate_rps=draw.uniform(1, 30),
                answered_at_s=100.0 - draw.uniform(0, 2),
                oldest_s=draw.uniform(0, 0.1),
                own=_reading(draw),
            )
            for number in range(replicas)
        ),
        nodes=nodes,
        turn=turn,
    )


def _reading(draw: Random) -> Reading:
    is_paging = draw.random() < 0.25
    capacity = round(SMALL.fleet.capacity_pages * 4096)
    return Reading(
        kind=MemoryKind.SIMULATED,
        source="a view of this measurement",
        taken_at_s=100.0 - draw.uniform(0, 0.5),
        span_s=0.25,
        capacity_bytes=capacity,
        resident_bytes=capacity if is_paging else capacity // 2,
        evicted_bytes=capacity // 3 if is_paging else 0,
        page_ins_per_s=draw.uniform(1e3, 6e4) if is_paging else 0.0,
        page_outs_per_s=draw.uniform(1e3, 6e4) if is_paging else 0.0,
        pressure=0.5 if is_paging else 0.0,
        confidence=Confidence.COUNTED,
    )


def timed_us(call: Callable[[View], object], views: Sequence[View], count: int) -> list[float]:
    """Return what each of `count` calls took, over the views in turn."""
    found = []
    clock = time.thread_time_ns
    for number in range(count):
        view = views[number % len(views)]
        began = clock()
        call(view)
        found.append((clock() - began) / 1e3)
    return found


def cost(*, is_quick: bool) -> dict[str, Any]:
    """Run E11: the balancer's part of it; what an agent costs is measured beside the agent."""
    rounds, picks, steps = (2, 20, 3) if is_quick else (ROUNDS, PICKS, STEPS)
    model = learned(SMALL.name)
    policies = {name: policy_named(name, model) for name in NAMES}
    found: dict[tuple[str, int, str], list[list[float]]] = {}
    gc.collect()
    gc.disable()
    try:
        for number in range(rounds):
            for replicas in REPLICAS:
                draw = Random(f"{SEEDS[number % len(SEEDS)]} {replicas}")  # noqa: S311 - views that can be had again
                views = [view_of(replicas, draw, turn) for turn in range(20)]
                for name, policy in policies.items():
                    for what, call, count in (
                        ("pick", _picking(policy, draw), picks),
                        ("step of shares", policy.shares, steps),
                    ):
                        found.setdefault((name, replicas, what), []).append(timed_us(call, views, count))
            print(f"  E11: {number + 1} of {rounds} rounds", flush=True)
    finally:
        gc.enable()
    rows = [_row(*key, measured) for key, measured in found.items()]
    return document(
        "E11",
        Kind.SIMULATION,
        title="what a decision costs (processor time of real calls; the views are made up)",
        settings={"rounds": rounds, "picks": picks, "steps": steps, "replicas_per_node": PER_NODE},
        seeds=SEEDS,
        runs=rows,
        verdicts=[] if is_quick else [_verdict(rows, replicas) for replicas in REPLICAS],
        is_quick=is_quick,
    )


def _picking(policy: Policy, draw: Random) -> Callable[[View], object]:
    return lambda view: policy.pick(view, draw)


def _row(name: str, replicas: int, what: str, measured: Sequence[Sequence[float]]) -> dict[str, Any]:
    quiet = sorted(measured, key=lambda calls: percentile(calls, 0.5))[: max(1, len(measured) // 2)]
    calls = [took for one in quiet for took in one]
    everything = [took for one in measured for took in one]
    return {
        "policy": name,
        "seed": list(SEEDS),
        "arrivals": "",
        "replicas": replicas,
        "what": what,
        "median_us": round(percentile(calls, 0.5), 1),
        "p99_us": round(percentile(calls, 0.99), 1),
        "all_median_us": round(percentile(everything, 0.5), 1),
        "all_p99_us": round(percentile(everything, 0.99), 1),
    }


def _verdict(rows: Sequence[dict[str, Any]], replicas: int) -> Verdict:
    (mine,) = (
        row for row in rows if (row["policy"], row["replicas"], row["what"]) == ("s3ml", replicas, "pick")
    )
    got = mine["median_us"]
    return Verdict(
        target=f"a pick of s3ml among {replicas} replicas",
        aim=f"under {AIM_US:g} µs in the median",
        got=f"{got:.0f} µs; p99 {mine['p99_us']:.0f} µs",
        is_met=got < AIM_US,
        why=""
        if got < AIM_US
        else f"{got / AIM_US:.1f} times the aim: an estimate and a reason for each compared replica",
    )
