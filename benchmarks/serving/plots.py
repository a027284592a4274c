"""The plot of the comparison: throughput, processor time and memory of each server, for each model."""

from pathlib import Path
from typing import Any

from benchmarks.serving.servers import S3ML
from benchmarks.serving.tables import NAMES

_COLOURS = {
    S3ML: "#2f5d9b",
    "mlserver": "#d08c3f",
    "mlserver-1-worker": "#e3b98a",
    "kserve": "#3a9d8f",
    "triton-python": "#9aa3ad",
    "pytriton": "#c9ced4",
}
_NOTE = "SIMULATED: no SGX hardware was used"
_ENCODINGS = ("binary", "json")
_WAY = "envoy"


def draw(pyplot: Any, document: dict[str, Any], path: Path) -> None:
    """Draw a column of three panels for each model."""
    models = document["models"]
    figure, panels = pyplot.subplots(
        3, len(models), figsize=(4.2 * len(models), 8.2), layout="constrained", squeeze=False
    )
    for column, (model, measured) in enumerate(models.items()):
        entries = [entry for entry in measured["summary"] if entry["way"] == _WAY]
        _draw_bars(panels[0][column], entries, "requests_per_s", "requests/s, through Envoy")
        _draw_bars(panels[1][column], entries, "cpu_ms", "processor time per request, ms")
        _draw_memory(panels[2][column], measured["servers"]["after"])
        panels[0][column].set_title(model)
    for panel in panels.flat:
        panel.spines[["top", "right"]].set_visible(False)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=9, ncols=len(labels), loc="outside lower center")
    figure.suptitle(
        f"S3ML, sealed, beside model servers in plaintext; one core each. {_NOTE}.\n"
        "Bars are medians of the rounds, lines quartiles; other work shared the machine.",
        fontsize=10,
    )
    figure.savefig(path, dpi=76)
    pyplot.close(figure)


def _draw_bars(panel: Any, entries: list[dict[str, Any]], figure: str, label: str) -> None:
    points = [
        (encoding, concurrency)
        for encoding in _ENCODINGS
        for concurrency in sorted({entry["concurrency"] for entry in entries})
    ]
    names = [name for name in NAMES if any(entry["server"] == name for entry in entries)]
    width = 0.84 / len(names)
    for index, name in enumerate(names):
        found = {
            (entry["encoding"], entry["concurrency"]): entry[figure]
            for entry in entries
            if entry["server"] == name
        }
        places = [place for place, point in enumerate(points) if point in found]
        values = [found[points[place]] for place in places]
        medians = [value["median"] for value in values]
        low = [value["median"] - value["quartiles"][0] for value in values]
        high = [value["quartiles"][1] - value["median"] for value in values]
        panel.bar(
            [place + (index - (len(names) - 1) / 2) * width for place in places],
            medians,
            width,
            yerr=[low, high],
            color=_COLOURS[name],
            label=NAMES[name],
            error_kw={"elinewidth": 0.8},
        )
    panel.set_xticks(
        range(len(points)), [f"{encoding}\n{concurrency}" for encoding, concurrency in points], fontsize=8
    )
    panel.set_yscale("log")
    panel.set_ylabel(label, fontsize=9)


def _draw_memory(panel: Any, servers: dict[str, dict[str, float]]) -> None:
    names = [name for name in NAMES if name in servers]
    for place, name in enumerate(names):
        taken = servers[name]
        anonymous, proportional = taken["anonymous_mb"], taken["pss_mb"]
        panel.barh(place, anonymous, color=_COLOURS[name])
        panel.barh(place, max(0.0, proportional - anonymous), left=anonymous, color=_COLOURS[name], alpha=0.5)
        panel.text(proportional, place, f" {anonymous:.0f} of {proportional:.0f}", va="center", fontsize=8)
    panel.set_yticks(range(len(names)), [NAMES[name] for name in names], fontsize=8)
    panel.invert_yaxis()
    panel.margins(x=0.25)
    panel.set_xlabel("MB: anonymous (dark) of proportional", fontsize=9)
