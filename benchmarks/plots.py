"""Plots of the results, where matplotlib is installed: it is no dependency of the project.

Usage: ``python -m benchmarks.plots [--output DIR]``.
"""

import argparse
import importlib
import json
from pathlib import Path
from typing import Any

from benchmarks import keyservice_plots
from benchmarks.scheduling import dataplane_views
from benchmarks.scheduling import plots as scheduling_plots
from benchmarks.serving import plots as serving_plots
from benchmarks.summaries import RESULTS

_BLUE, _TEAL, _GREY, _RED = "#2f5d9b", "#3a9d8f", "#9aa3ad", "#c0392b"
_COLOURS = {"x25519": _TEAL, "hybrid": _BLUE}
_LABELS = {"x25519": "X25519", "hybrid": "hybrid:\nML-KEM-768\n+ X25519"}
_NOTE = "SIMULATED: no SGX hardware was used"
_PARTS = ("interpreter", "libraries", "s3ml", "runtime", "model")


def draw_seal(pyplot: Any, document: dict[str, Any], path: Path) -> None:
    """Draw p50 as a ratio to unsealed by concurrency, with the quartiles of the rounds as bars of error."""
    models = document["models"]
    figure, panels = pyplot.subplots(1, len(models), figsize=(9.5, 3.4), layout="constrained")
    for panel, (name, model) in zip(panels, models.items(), strict=True):
        levels = sorted({entry["concurrency"] for entry in model["summary"]})
        for index, mode in enumerate(_LABELS):
            entries = [entry for entry in model["summary"] if entry["mode"] == mode]
            ratios = [entry["p50_ms_ratio"] for entry in entries]
            medians = [ratio["median"] for ratio in ratios]
            low = [ratio["median"] - ratio["quartiles"][0] for ratio in ratios]
            high = [ratio["quartiles"][1] - ratio["median"] for ratio in ratios]
            places = [place + (index - 0.5) * 0.36 for place in range(len(levels))]
            bars = panel.bar(
                places, medians, 0.34, yerr=[low, high], color=_COLOURS[mode], label=_LABELS[mode], capsize=2
            )
            told = [f"{entry['p50_ms']['median']:,.{1 if name == 'tiny' else 0}f} ms" for entry in entries]
            panel.bar_label(bars, told, fontsize=8, label_type="center", color="white", rotation=90)
        panel.axhline(1, color=_GREY, linewidth=1, linestyle="--")
        panel.set_xticks(range(len(levels)), [str(level) for level in levels])
        panel.set(title=name, xlabel="requests at a time", ylabel="p50, sealed / unsealed")
        panel.spines[["top", "right"]].set_visible(False)
    figure.legend(
        *panels[0].get_legend_handles_labels(), frameon=False, fontsize=8, loc="outside right upper"
    )
    figure.suptitle(f"What the seal costs the caller. {_NOTE}.", fontsize=10)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def draw_memory(pyplot: Any, document: dict[str, Any], path: Path) -> None:
    """Draw what the parts of a replica add to its resident memory, and the whole replica beside them."""
    figure, panel = pyplot.subplots(figsize=(8.5, 2.6), layout="constrained")
    shades = ("#c9d3df", "#8fb0d6", _TEAL, _BLUE, "#1b2f4b")
    bottom = 0.0
    for part, shade in zip(_PARTS, shades, strict=True):
        added = document["parts"][part]["rss_mb"]
        panel.barh("step by step", added, left=bottom, color=shade, label=f"{part} {added:.0f}")
        bottom += added
    ready = document["replica"]["ready"]
    held = ready["anonymous_mb"]
    panel.barh("whole replica", held, color="#6b7682", label=f"its own pages {held:.0f}")
    mapped = ready["rss_mb"] - held
    panel.barh("whole replica", mapped, left=held, color=_GREY, label=f"mapped files {mapped:.0f}")
    aim = document["aims"][0]["below"]
    panel.axvline(aim, color=_RED, linewidth=1, linestyle="--")
    panel.text(aim, 1.55, f" aim {aim:.0f} MB", color=_RED, fontsize=8)
    panel.set(xlabel="resident memory, MB")
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False, fontsize=8, ncols=4, loc="upper center", bbox_to_anchor=(0.45, -0.3))
    figure.suptitle(f"Memory of a replica of the demonstration's model. {_NOTE}.", fontsize=10)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


DRAWN = {
    "seal": draw_seal,
    "memory": draw_memory,
    "keyservice": keyservice_plots.draw,
    "serving": serving_plots.draw,
    "scheduling-dataplane": dataplane_views.draw,
    **scheduling_plots.DRAWN,
}


def main() -> None:
    """Draw a plot for each result that there is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    folder = parser.parse_args().output
    try:
        matplotlib = importlib.import_module("matplotlib")
        matplotlib.use("Agg")
        pyplot = importlib.import_module("matplotlib.pyplot")
    except ImportError:
        print("plots: left out: matplotlib is not installed (pip install matplotlib)")
        return
    for name, draw in DRAWN.items():
        result = folder / f"{name}.json"
        if result.exists():
            draw(pyplot, json.loads(result.read_text(encoding="utf-8")), folder / f"{name}.png")
            print(f"plots: wrote {folder / name}.png")


if __name__ == "__main__":
    main()
