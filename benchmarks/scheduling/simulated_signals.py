"""E1 in simulation: what each signal says of latency while TEE memory shrinks and co-located servers vary."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.scheduling.results import Kind, Verdict, document
from benchmarks.scheduling.signals import explain, r_squared
from benchmarks.scheduling.simulated import SEEDS, SMALL, Job, outcome_of, run_all, settings_of
from benchmarks.summaries import percentile
from s3ml.simulator import Arrivals, Resize, Scenario, Seen

PAGING = "page-ins per second"
SIGNALS: Mapping[str, Callable[[Seen], float]] = {
    PAGING: lambda row: row.page_ins_per_s,
    "evicted bytes": lambda row: 4096 * row.evicted_pages,
    "requests in flight": lambda row: float(row.in_flight),
    "busy cores": lambda row: row.busy_cores,
}
SERVERS = (1, 2, 3)
STEP_S = 0.5
WINDOW_STEPS = 4
LEAD_S = 5.0
DURATION_S = 90.0
_FROM, _TO = 1.3, 0.6
_QUICK_S = 20.0
LOADS: Mapping[str, Mapping[int, float]] = {
    "light": {1: 0.06, 2: 0.1, 3: 0.1},
    "heavy": {1: 0.4, 2: 0.2, 3: 0.2},
}
"""Of the cores without paging, by servers: what a node carries almost to the end, and what saturates it."""


def jobs_of(*, is_quick: bool) -> list[Job]:
    """Return the runs: one node whose memory shrinks step by step, with one to three servers, two loads."""
    duration_s = _QUICK_S if is_quick else DURATION_S
    return [
        Job(
            policy="power-of-two",
            scenario=_shrinking(servers, LOADS[load][servers], duration_s),
            size=SMALL,
            seed=seed,
            labels={"servers": servers, "load": load},
        )
        for load in LOADS
        for servers in SERVERS
        for seed in SEEDS[: 1 if is_quick else None]
    ]


def _shrinking(servers: int, load: float, duration_s: float) -> Scenario:
    hot_pages = servers * SMALL.hot_pages
    steps = int(duration_s)
    resizes = tuple(
        Resize(
            node=0,
            at_s=duration_s * step / steps,
            capacity_pages=hot_pages * (_FROM + (_TO - _FROM) * step / steps),
        )
        for step in range(steps)
    )
    fleet = replace(SMALL.fleet, nodes=1, replicas_per_node=servers, capacity_pages=_FROM * hot_pages)
    return Scenario(
        fleet=fleet,
        arrivals=Arrivals(rate_per_s=load * fleet.cores / fleet.work.compute_s),
        duration_s=duration_s,
        resizes=resizes,
        watched_s=STEP_S,
    )


def series_of(job: Job) -> dict[str, Any]:
    """Make a run and return its signals beside the windowed p99, step by step."""
    seen = [one for one in outcome_of(job).seen if one.ends_s <= job.scenario.duration_s]
    latency: list[float | None] = []
    for place in range(len(seen)):
        window = [
            took for one in seen[max(0, place + 1 - WINDOW_STEPS) : place + 1] for took in one.latencies_s
        ]
        latency.append(percentile(window, 0.99) if len(window) >= 5 else None)
    return {
        **job.labels,
        "seed": job.seed,
        "headroom": [round(one.headroom, 3) for one in seen],
        "p99_s": latency,
        "signals": {name: [take(one) for one in seen] for name, take in SIGNALS.items()},
    }


def signals(*, is_quick: bool) -> dict[str, Any]:
    """Run E1."""
    found = run_all("E1", series_of, jobs_of(is_quick=is_quick))
    rows = [_row(series, name) for series in found for name in SIGNALS]
    together = {
        load: {name: _together([one for one in found if one["load"] == load], name) for name in SIGNALS}
        for load in LOADS
    }
    return document(
        "E1",
        Kind.SIMULATION,
        title="which signal tells of p99 while TEE memory shrinks",
        settings={
            **settings_of(SMALL),
            "servers": list(SERVERS),
            "loads": LOADS,
            "headroom": [_FROM, _TO],
            "step_s": STEP_S,
            "window_s": STEP_S * WINDOW_STEPS,
            "duration_s": DURATION_S,
        },
        seeds=SEEDS,
        runs=rows,
        verdicts=[] if is_quick else [_verdict(load, said) for load, said in together.items()],
        is_quick=is_quick,
        more={"together": together, "series": [_shown(one) for one in found if one["seed"] == SEEDS[0]]},
    )


def _row(series: Mapping[str, Any], name: str) -> dict[str, Any]:
    said = explain(series["signals"][name], series["p99_s"], step_s=STEP_S, most_s=LEAD_S)
    return {
        "policy": "power-of-two",
        "seed": series["seed"],
        "arrivals": "CV 1",
        "servers": series["servers"],
        "load": series["load"],
        "signal": name,
        "r_squared": said.r_squared,
        "r_squared_log": said.r_squared_log,
        "lead_s": said.lead_s,
        "r_squared_lead": said.r_squared_lead,
    }


def _together(found: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    """Return what a signal says where nobody tells how many servers there are: all runs as one."""
    signal = [value for series in found for value in series["signals"][name]]
    latency = [value for series in found for value in series["p99_s"]]
    logarithm = [None if value is None else math.log(value) for value in latency]
    leads = [
        explain(series["signals"][name], series["p99_s"], step_s=STEP_S, most_s=LEAD_S).lead_s
        for series in found
    ]
    return {
        "r_squared": round(r_squared(signal, latency), 3),
        "r_squared_log": round(r_squared(signal, logarithm), 3),
        "lead_s": {"median": percentile(leads, 0.5), "range": [min(leads), max(leads)]},
    }


def _verdict(load: str, together: Mapping[str, Mapping[str, Any]]) -> Verdict:
    best = max(together, key=lambda name: float(together[name]["r_squared"]))
    is_met = best == PAGING
    short = float(together[best]["r_squared"]) - float(together[PAGING]["r_squared"])
    return Verdict(
        target=f"paging explains p99 better than the other signals, whatever is co-located ({load} load)",
        aim="the highest R²",
        got=", ".join(
            f"{name} {said['r_squared']:.2f} (of its logarithm {said['r_squared_log']:.2f})"
            for name, said in together.items()
        ),
        is_met=is_met,
        why=""
        if is_met
        else f"{short:.2f} short of {best}: once a path is full its rate grows no further, while queues do; "
        f"paging comes first by {together[PAGING]['lead_s']['median']:g} s in the median",
    )


def _shown(series: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is drawn: every second step."""
    return {
        "servers": series["servers"],
        "load": series["load"],
        "headroom": series["headroom"][::2],
        "p99_ms": [None if value is None else round(1e3 * value, 1) for value in series["p99_s"][::2]],
        "signals": {
            name: [float(f"{value:.4g}") for value in values[::2]]
            for name, values in series["signals"].items()
        },
    }
