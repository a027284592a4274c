"""E1 on an emulated node: what each signal says of latency while its EPC shrinks and a neighbour comes."""

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from benchmarks.scheduling.children import Child
from benchmarks.scheduling.emulated import Settings
from benchmarks.scheduling.emulated_calibration import Calibration
from benchmarks.scheduling.emulated_nodes import Site
from benchmarks.scheduling.emulated_runs import Ask, Run, Seen, measure
from benchmarks.scheduling.results import Kind, Verdict, document
from benchmarks.scheduling.signals import explain, r_squared, windowed
from benchmarks.summaries import percentile
from s3ml.tee_memory.reading import PAGE_BYTES

STEP_S, WINDOW_S, LEAD_S = 0.25, 1.0, 3.0
FROM, TO = 1.4, 0.85
DURATION_S, QUICK_S = 16.0, 4.0
LOADS = {"light": 10.0, "heavy": 25.0}
"""Requests in a second on the one node: 10 % and 25 % of what it bears while nothing pages."""
PAGING = "page-ins per second"
_EPISODES_S = (2.0, 5.0)


def shrinking(hot_set_bytes: int, lasting_s: float) -> list[tuple[float, int]]:
    """Return the sizes of the EPC, one a second, from `FROM` to `TO` times the hot set."""
    steps = int(lasting_s)
    sizes = [hot_set_bytes * (FROM + (TO - FROM) * step / steps) for step in range(steps)]
    return [(float(step), int(size) // PAGE_BYTES * PAGE_BYTES) for step, size in enumerate(sizes)]


def episodes(lasting_s: float, seed: int) -> list[tuple[float, bool]]:
    """Return when a neighbour comes and goes, in turns, for 2 to 5 seconds each."""
    draw = Random(f"neighbour {seed}")  # noqa: S311 - must come out the same
    found, at_s, is_on = [], draw.uniform(*_EPISODES_S), True
    while at_s < lasting_s:
        found.append((at_s, is_on))
        at_s, is_on = at_s + draw.uniform(*_EPISODES_S), not is_on
    return found


def lasting_of(settings: Settings) -> float:
    """Return how long each run lasts, in seconds."""
    return QUICK_S if settings.is_quick else DURATION_S


def signals_of(run: Run) -> tuple[list[float], dict[str, list[float]]]:
    """Return the instants of a run and each signal at them, rates over the window before; pure."""
    seen = run.seen
    back = round(WINDOW_S / STEP_S)
    ended = sorted(one.ended_s for one in run.answers if one.ended_s is not None)

    def rate(of: Callable[[Seen], float], place: int) -> float:
        before, now = seen[max(0, place - back)], seen[place]
        return (of(now) - of(before)) / max(now.at_s - before.at_s, 1e-9)

    def answered(place: int) -> float:
        before, now = seen[max(0, place - back)], seen[place]
        return sum(before.at_s < at <= now.at_s for at in ended) / max(now.at_s - before.at_s, 1e-9)

    places = range(1, len(seen))
    found = {
        PAGING: [rate(lambda one: one.page_ins, place) for place in places],
        "page-ins of the servers per answer": [
            rate(lambda one: one.server_page_ins, place) / max(answered(place), 1.0) for place in places
        ],
        "evicted bytes": [float(seen[place].evicted_bytes) for place in places],
        "requests in flight": [float(seen[place].in_flight) for place in places],
        "busy cores": [rate(lambda one: one.processor_s, place) for place in places],
    }
    return [seen[place].at_s for place in places], found


def signals(settings: Settings, calibration: Calibration, site: Site, load: Child) -> dict[str, Any]:
    """Run E1 on the only node of a site."""
    found = [
        _series(settings, calibration, site, load, seed=seed, word=word)
        for seed in settings.seeds
        for word in LOADS
    ]
    rows = [_row(series, name) for series in found for name in series["signals"]]
    together = {
        word: {
            name: _together([one for one in found if one["load"] == word], name)
            for name in found[0]["signals"]
        }
        for word in LOADS
    }
    return document(
        "E1",
        Kind.EMULATION,
        title="which signal tells of p99 while an emulated EPC shrinks and a neighbour comes and goes",
        settings={
            **settings.described,
            "nodes": 1,
            "loads": LOADS,
            "headroom": [FROM, TO],
            "step_s": STEP_S,
            "window_s": WINDOW_S,
            "lasting_s": lasting_of(settings),
        },
        seeds=settings.seeds,
        runs=rows,
        verdicts=[] if settings.is_quick else [verdict(word, said) for word, said in together.items()],
        is_quick=settings.is_quick,
        more={
            "together": together,
            "series": [_shown(one) for one in found if one["seed"] in settings.seeds[:2]],
        },
    )


def _series(
    settings: Settings, calibration: Calibration, site: Site, load: Child, *, seed: int, word: str
) -> dict[str, Any]:
    lasting_s = lasting_of(settings)
    node = site.nodes[0]
    hot_set_bytes = calibration.hot_set_bytes * len(node.replicas)
    sizes = shrinking(hot_set_bytes, lasting_s)
    acts: list[tuple[float, Callable[[], None]]] = [
        (at_s, lambda size=size: node.epc.resize(size))  # type: ignore[misc]
        for at_s, size in sizes
    ]
    acts += [
        (at_s, lambda is_on=is_on: node.disturb(settings.sweeps_per_s if is_on else 0))  # type: ignore[misc]
        for at_s, is_on in episodes(lasting_s, seed)
    ]
    node.epc.resize(sizes[0][1])
    ask = Ask(rate_per_s=LOADS[word], cv=1.0, lasting_s=lasting_s, warmup_s=0.0, seed=seed)
    run = measure(site, load, ask, disturbances=sorted(acts, key=lambda act: act[0]), watch_every_s=STEP_S)
    node.disturb(0)
    at_s, found = signals_of(run)
    answers = [(one.ended_s, one.ended_s - one.intended_s) for one in run.answers if one.ended_s is not None]
    print(f"  E1 seed {seed}, {word}: {len(answers)} answers, {run.unanswered} unanswered", flush=True)
    return {
        "servers": len(node.replicas),
        "load": word,
        "seed": seed,
        "headroom": [round(_size_at(sizes, at) / hot_set_bytes, 3) for at in at_s],
        "p99_s": windowed(answers, at_s, window_s=WINDOW_S),
        "signals": found,
    }


def _size_at(sizes: Sequence[tuple[float, int]], at_s: float) -> int:
    return [size for since_s, size in sizes if since_s <= at_s or since_s == 0.0][-1]


def _row(series: Mapping[str, Any], name: str) -> dict[str, Any]:
    said = explain(series["signals"][name], series["p99_s"], step_s=STEP_S, most_s=LEAD_S)
    return {
        "policy": "least-request",
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
    signal = [value for series in found for value in series["signals"][name]]
    latency = [value for series in found for value in series["p99_s"]]
    leads = [_row(series, name)["lead_s"] for series in found]
    return {
        "r_squared": round(r_squared(signal, latency), 3),
        "r_squared_log": explain(signal, latency, step_s=STEP_S, most_s=0).r_squared_log,
        "lead_s": {"median": percentile(leads, 0.5), "range": [min(leads), max(leads)]},
    }


def verdict(load: str, together: Mapping[str, Mapping[str, Any]]) -> Verdict:
    """Hold the signals against the expectation that paging says most; pure."""
    best = max(together, key=lambda name: float(together[name]["r_squared"]))
    is_met = "page-ins" in best
    got = ", ".join(
        f"{name} {said['r_squared']:.2f} ({said['lead_s']['median']:+.2f} s)"
        for name, said in together.items()
    )
    return Verdict(
        target=f"paging explains p99 better than the other signals ({load}, emulated)",
        aim="the highest R²",
        got=got,
        is_met=is_met,
        why="" if is_met else f"{best} says more here; in brackets how much earlier than p99 each moves",
    )


def _shown(series: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "servers": series["servers"],
        "load": series["load"],
        "headroom": series["headroom"],
        "p99_ms": [None if value is None else round(1e3 * value, 1) for value in series["p99_s"]],
        "signals": {
            name: [round(value, 2) for value in values] for name, values in series["signals"].items()
        },
    }
