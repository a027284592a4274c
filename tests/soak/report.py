"""A soak as figures: JSON for machines, lines and a plot for people."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from s3ml.primitives.units import MIB
from tests.soak.memory import Life
from tests.soak.run import Soak

THINNED_S = 5.0
MINUTE_S = 60.0
LONG_SHARE = 0.8


def figures(done: Soak) -> dict[str, Any]:
    """Return what is written down of a soak."""
    latencies = np.array([took_s for _, took_s in done.tally.latencies]) * 1000
    outcomes = ("right", "wrong", "failed", "cancelled", "ended before")
    kinds = sorted({kind for _, kind, _ in done.events.happened})
    return {
        "simulated": True,
        "seconds": round(done.seconds, 1),
        "processors": os.cpu_count(),
        "load_average": [round(one, 1) for one in os.getloadavg()],
        "requests": {outcome: done.tally.total(outcome) for outcome in outcomes},
        "requests_by_way": {
            f"{way}, {outcome}": number for (way, outcome), number in sorted(done.tally.counts.items())
        },
        "requests_per_s": round(done.tally.total("right") / done.seconds, 1),
        "latency_ms": {
            "p50": round(float(np.percentile(latencies, 50)), 1),
            "p99": round(float(np.percentile(latencies, 99)), 1),
            "max": round(float(latencies.max()), 1),
        },
        "events": {kind: done.events.count(kind) for kind in kinds},
        "epochs_begun": done.rotations,
        "processes_left_behind": len(done.left_behind),
        "memory": {name: _memory(life) for name, life in done.watch.lives.items()},
        "faults": [[round(at_s, 1), reason] for at_s, reason in done.tally.faults[:100]],
        "timeline": [[round(at_s, 1), kind, detail] for at_s, kind, detail in done.events.happened],
        "requests_in_each_second": _rate(done),
        "memory_samples_mib": {name: _thinned(life) for name, life in done.watch.lives.items()},
    }


def lines(found: dict[str, Any]) -> list[str]:
    """Return the figures as lines."""
    told = [f"{key}: {found[key]}" for key in ("seconds", "requests", "requests_per_s", "latency_ms")]
    told += [f"{key}: {found[key]}" for key in ("events", "epochs_begun", "processes_left_behind")]
    told += [f"memory of {name}: {memory}" for name, memory in found["memory"].items() if "is_flat" in memory]
    return [*told, *(f"{at_s} s: {reason}" for at_s, reason in found["faults"])]


def has_held(found: dict[str, Any]) -> bool:
    """Whether no answer was wrong, none was lost, memory was flat, and nothing was left behind."""
    is_flat = all(memory.get("is_flat", True) for memory in found["memory"].values())
    return is_flat and not found["faults"] and not found["processes_left_behind"]


def write(found: dict[str, Any], folder: Path) -> list[Path]:
    """Write the figures, and the plot where matplotlib can be imported; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "soak-serving.json"
    text = json.dumps(found, indent=1)
    path.write_text(_compact(text) + "\n")
    try:
        import matplotlib as mpl
    except ImportError:
        return [path]
    mpl.use("agg")
    return [path, _plot(found, folder / "soak-serving.png")]


def _compact(text: str) -> str:
    """Put lists of numbers onto one line each."""
    import re

    return re.sub(r"\[[^\[\]{}]*\]", lambda match: re.sub(r"\s*\n\s*", " ", match[0]), text)


def _memory(life: Life) -> dict[str, Any]:
    sizes = [size for _, size in life.samples]
    found: dict[str, Any] = {
        "first_mib": round(sizes[0] / MIB, 1),
        "last_mib": round(sizes[-1] / MIB, 1),
        "most_mib": round(max(sizes) / MIB, 1),
        "seconds": round(life.samples[-1][0] - life.samples[0][0], 1),
    }
    if (growth := life.growth()) is not None:
        found["slope_mib_per_minute"] = round(growth[1] * MINUTE_S / MIB, 2)
        found["is_flat"] = bool(life.is_flat())
    return found


def _thinned(life: Life) -> list[list[float]]:
    kept: list[list[float]] = []
    for at_s, size in life.samples:
        if not kept or at_s - kept[-1][0] >= THINNED_S:
            kept.append([round(at_s, 1), round(size / MIB, 1)])
    return kept


def _rate(done: Soak) -> list[int]:
    counts = np.zeros(int(done.seconds) + 1, int)
    for at_s, _ in done.tally.latencies:
        counts[min(int(at_s), len(counts) - 1)] += 1
    return [int(count) for count in counts]


def _plot(found: dict[str, Any], path: Path) -> Path:
    from matplotlib import pyplot as plt

    figure, (memory, rate) = plt.subplots(2, sharex=True, figsize=(10, 7), height_ratios=(2, 1))
    for name, samples in found["memory_samples_mib"].items():
        at_s, size = zip(*samples, strict=True)
        is_short = at_s[-1] - at_s[0] < LONG_SHARE * found["seconds"]
        memory.plot(at_s, size, label=None if is_short else name, linewidth=1, alpha=0.5 if is_short else 1)
    memory.set_ylabel("resident memory, MiB")
    memory.set_ylim(bottom=0)
    if memory.get_legend_handles_labels()[0]:
        memory.legend(fontsize="x-small", ncols=3, loc="lower center")
    memory.set_title("SIMULATED: a soak of serving; a grey line: a replica is killed, and another follows")
    rate.plot(found["requests_in_each_second"], linewidth=0.8, color="black")
    rate.set_ylabel("right answers per second")
    rate.set_xlabel("seconds")
    kinds = [kind for kind in found["events"] if kind != "killed"]
    top = max(found["requests_in_each_second"])
    for row, kind in enumerate(kinds):
        when_s = [one for one, happened, _ in found["timeline"] if happened == kind]
        rate.plot(when_s, [top * (1.1 + 0.1 * row)] * len(when_s), "|", label=kind)
    for one, happened, _ in found["timeline"]:
        if happened == "killed":
            memory.axvline(one, linewidth=0.5, color="grey")
            rate.axvline(one, linewidth=0.5, color="grey")
    rate.legend(fontsize="x-small", ncols=6, loc="upper center", bbox_to_anchor=(0.5, -0.25))
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    plt.close(figure)
    return path
