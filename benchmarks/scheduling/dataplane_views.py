"""The data plane's figures as a table and a picture."""

import json
from pathlib import Path
from typing import Any

from benchmarks.summaries import RESULTS

NAME = "scheduling-dataplane"
HEAD = [
    "way, requests at a time",
    "p50 ms",
    "p50 beside plain",
    "p99 ms",
    "requests/s",
    "Envoy, µs a request",
    "balancer, µs a request",
    "acts after, ms",
]
LABELS = {
    "plain": "plain\nleast-request",
    "weights": "weights,\nrenewed each step",
    "picker": "a pick for\neach request",
}
_COLOURS = {"plain": "#9aa3ad", "weights": "#2f5d9b", "picker": "#3a9d8f"}
_NOTE = "No TEE, emulated or other, takes part"


def read(folder: Path = RESULTS) -> dict[str, Any]:
    """Return the result that was kept."""
    found: dict[str, Any] = json.loads((folder / f"{NAME}.json").read_text(encoding="utf-8"))
    return found


def rows(document: dict[str, Any]) -> list[list[str]]:
    """Return a row for each way and number of requests at a time."""
    found = []
    for entry in document["summary"]:
        delay = document["delay_ms"].get(entry["mode"])
        ratio = entry["p50_ms_ratio"]
        found.append(
            [
                f"{LABELS[entry['mode']].replace(chr(10), ' ')}, {entry['concurrency']}",
                f"{entry['p50_ms']['median']:.2f}",
                f"{ratio['median']:.2f} ({ratio['quartiles'][0]:.2f} to {ratio['quartiles'][1]:.2f})",
                f"{entry['p99_ms']['median']:.1f}",
                f"{entry['requests_per_s']['median']:.0f}",
                f"{entry['envoy_us']['median']:.0f}",
                f"{entry['balancer_us']['median']:.0f}",
                "" if delay is None else f"{delay['median']:.0f} (p99 {delay['p99']:.0f})",
            ]
        )
    return found


def draw(pyplot: Any, document: dict[str, Any], path: Path) -> None:
    """Draw what a request costs of processors, how long it takes, and how late a decision acts."""
    figure, panels = pyplot.subplots(1, 3, figsize=(11.5, 3.6), layout="constrained")
    levels = sorted({entry["concurrency"] for entry in document["summary"]})
    for index, mode in enumerate(LABELS):
        entries = [entry for entry in document["summary"] if entry["mode"] == mode]
        places = [place + (index - 1) * 0.27 for place in range(len(levels))]
        label = LABELS[mode].replace("\n", " ")
        medians = [entry["p50_ms"]["median"] for entry in entries]
        bars = panels[0].bar(places, medians, 0.25, color=_COLOURS[mode], label=label)
        panels[0].bar_label(bars, [f"{value:.2f}" for value in medians], fontsize=8)
        envoy = [entry["envoy_us"]["median"] for entry in entries]
        balancer = [entry["balancer_us"]["median"] for entry in entries]
        panels[1].bar(places, envoy, 0.25, color=_COLOURS[mode])
        panels[1].bar(places, balancer, 0.25, bottom=envoy, color=_COLOURS[mode], alpha=0.45, hatch="//")
    for panel, title in (
        (panels[0], "p50, ms"),
        (panels[1], "processor time, µs a request\n(hatched: the balancer's)"),
    ):
        panel.set_title(title, fontsize=10)
        panel.set_xticks(range(len(levels)), [f"{level} at a time" for level in levels])
    for mode, values in document["delays_ms"].items():
        ordered = sorted(values)
        shares = [(place + 1) / len(ordered) for place in range(len(ordered))]
        panels[2].step(ordered, shares, where="post", color=_COLOURS[mode])
        panels[2].annotate(mode, (ordered[len(ordered) // 2], 0.5), xytext=(8, 0), textcoords="offset points")
    panels[2].set_title("a change of mind acts after, ms\n(share of the changes)", fontsize=10)
    panels[2].set_ylim(0, 1.02)
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    figure.suptitle(
        f"Steering Envoy, upstreams that answer at once; medians of the rounds. {_NOTE}.", fontsize=10
    )
    figure.savefig(path, dpi=80)
    pyplot.close(figure)
