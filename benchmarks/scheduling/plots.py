"""Plots of the scheduling experiments, the same for simulation and emulation.

Each takes a result document and draws one picture; what is said of its kind stands in the title.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from benchmarks.scheduling.results import Kind, name_of
from benchmarks.summaries import percentile

COLOURS = {
    "s3ml": "#2f5d9b",
    "prequal": "#3a9d8f",
    "s3ml-paper": "#d08c3f",
    "power-of-two": "#5f6b77",
    "least-request": "#9aa3ad",
    "random": "#b9c0c7",
    "round-robin": "#d3d8dc",
}
_RED = "#c0392b"
_RATIO_TICKS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20)
_SIGNALS = ("#2f5d9b", "#3a9d8f", "#d08c3f", "#9aa3ad")
_STEERED = {"picks": "each request picked", "shares": "shares through the gateway"}
_DPI = 90
_COLOURS_LIMIT = 128


def _figure(pyplot: Any, rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, Any]:
    figure, panels = pyplot.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    for panel in panels.flat:
        panel.spines[["top", "right"]].set_visible(False)
    return figure, panels


def _legend(figure: Any, panel: Any, columns: int) -> None:
    handles, labels = panel.get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=8, ncols=columns, loc="outside lower center")


def _finish(pyplot: Any, figure: Any, document: Mapping[str, Any], path: Path) -> None:
    figure.suptitle(f"{document['experiment']}: {document['title']}.\n{document['note']}.", fontsize=10)
    drawn = BytesIO()
    figure.savefig(drawn, dpi=_DPI)
    pyplot.close(figure)
    # Few colours make a small file; Pillow comes with matplotlib.
    image = importlib.import_module("PIL.Image").open(drawn).convert("RGB").quantize(_COLOURS_LIMIT)
    image.save(path, optimize=True)


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    return min(values), percentile(values, 0.5), max(values)


def draw_policies(pyplot: Any, document: Mapping[str, Any], path: Path) -> None:
    """Draw p99 of each policy, a panel for each fleet and arrivals, a mark for each way of steering."""
    keys = list(dict.fromkeys((run.get("size", ""), run["arrivals"]) for run in document["runs"]))
    columns = min(2, len(keys))
    rows = -(-len(keys) // columns)
    figure, panels = _figure(pyplot, rows, columns, (9.5, 1.0 + 2.5 * rows))
    for panel, (size, arrivals) in zip(panels.flat, keys, strict=False):
        runs = [run for run in document["runs"] if (run.get("size", ""), run["arrivals"]) == (size, arrivals)]
        _draw_policies(panel, runs)
        panel.set_title(f"{size}, {arrivals}".strip(", "), fontsize=9)
    for panel in list(panels.flat)[len(keys) :]:
        panel.set_visible(False)
    _legend(figure, panels[0][0], columns=2)
    _finish(pyplot, figure, document, path)


def _draw_policies(panel: Any, runs: Sequence[Mapping[str, Any]]) -> None:
    names = list(dict.fromkeys(run["policy"] for run in runs))
    ways = list(dict.fromkeys(run.get("steering", "picks") for run in runs))
    for offset, way in enumerate(ways):
        for place, name in enumerate(names):
            values = [
                run["p99_ms"] for run in runs if (run["policy"], run.get("steering", "picks")) == (name, way)
            ]
            if not values:
                continue
            low, middle, high = _spread(values)
            at = place + (offset - (len(ways) - 1) / 2) * 0.3
            colour = COLOURS.get(name, "#777777")
            panel.plot([low, high], [at, at], color=colour, linewidth=2.2, solid_capstyle="round")
            face = "white" if offset else colour
            panel.plot(middle, at, "o", color=colour, markerfacecolor=face, markersize=6)
            place_of = {"xytext": (5, 0), "textcoords": "offset points", "va": "center"}
            panel.annotate(f"{middle:,.0f}", (high, at), fontsize=7, **place_of)
        face = "white" if offset else "#444444"
        panel.plot([], [], "o", color="#444444", markerfacecolor=face, label=_STEERED[way])
    panel.set_yticks(range(len(names)), names, fontsize=8)
    panel.invert_yaxis()
    panel.set_xscale("log")
    panel.margins(x=0.12)
    panel.set_xlabel("p99, ms: median over seeds, least to most", fontsize=8)


def draw_signals(pyplot: Any, document: Mapping[str, Any], path: Path) -> None:
    """Draw one run for each number of servers and load, and what each signal explains (E1)."""
    loads = list(document["together"])
    series = document["series"]
    columns = max(len([one for one in series if one["load"] == load]) for load in loads) + 1
    figure, panels = _figure(pyplot, len(loads), columns, (3.0 * columns, 0.9 + 2.6 * len(loads)))
    for row, load in zip(panels, loads, strict=True):
        shown = [one for one in series if one["load"] == load]
        for panel, one in zip(row, shown, strict=False):
            _draw_series(panel, one)
        _draw_explained(row[-1], document["together"][load])
    for panel in panels[-1][:-1]:
        panel.set_xlabel("TEE memory over hot sets: it shrinks", fontsize=8)
    _legend(figure, panels[0][0], columns=3)
    _finish(pyplot, figure, document, path)


def _draw_series(panel: Any, one: Mapping[str, Any]) -> None:
    known = [value for value in one["p99_ms"] if value is not None]
    top = max(known)
    for colour, (name, values) in zip(_SIGNALS, one["signals"].items(), strict=False):
        most = max(values) or 1.0
        scaled = [top * max(value / most, 1e-4) for value in values]
        panel.plot(one["headroom"], scaled, color=colour, linewidth=0.9, alpha=0.85, label=f"{name}, scaled")
    panel.plot(one["headroom"], one["p99_ms"], color="black", linewidth=1.6, label="p99, ms")
    panel.set_yscale("log")
    panel.set_ylim(bottom=min(known) / 4)
    panel.invert_xaxis()
    count = one["servers"]
    panel.set_title(f"{count} server{'' if count == 1 else 's'}, {one['load']} load", fontsize=9)


def _draw_explained(panel: Any, together: Mapping[str, Mapping[str, Any]]) -> None:
    names = list(together)
    for offset, (key, shade) in enumerate((("r_squared", 1.0), ("r_squared_log", 0.45))):
        values = [together[name][key] for name in names]
        at = [place + (offset - 0.5) * 0.38 for place in range(len(names))]
        bars = panel.barh(at, values, 0.36, color=_SIGNALS[: len(names)], alpha=shade)
        leads = [f"; leads by {together[name]['lead_s']['median']:g} s" for name in names]
        texts = [
            f" {value:.2f}{' of its log' if offset else lead}"
            for value, lead in zip(values, leads, strict=True)
        ]
        panel.bar_label(bars, texts, fontsize=7)
    panel.set_yticks(range(len(names)), [name.replace(" ", "\n", 1) for name in names], fontsize=7)
    panel.invert_yaxis()
    panel.set_xlim(0, 1.9)
    panel.set_xticks([0, 0.5, 1])
    panel.set_title("R² with p99, all runs as one", fontsize=9)


def draw_moving(pyplot: Any, document: Mapping[str, Any], path: Path) -> None:
    """Draw p95 after a move, and p99 by how readings come (E4)."""
    recoveries = document["recoveries"]
    ways = list(dict.fromkeys(one["steering"] for one in recoveries))
    is_one = len(ways) == 1
    shape = (1, 2, (9.8, 4.0)) if is_one else (2, len(ways), (4.9 * len(ways), 6.6))
    figure, panels = _figure(pyplot, *shape)
    shown = {
        ("power-of-two", "prompt"): (COLOURS["power-of-two"], "-"),
        ("prequal", "prompt"): (COLOURS["prequal"], "-"),
        ("s3ml-paper", "prompt"): (COLOURS["s3ml-paper"], "-"),
        ("s3ml", "prompt"): (COLOURS["s3ml"], "-"),
        ("s3ml", "2 s late"): (COLOURS["s3ml"], "--"),
        ("s3ml", "5 s late"): (COLOURS["s3ml"], "--"),
        ("s3ml", "forged: zero"): (COLOURS["s3ml"], ":"),
        ("s3ml", "inverted"): (COLOURS["s3ml"], ":"),
    }
    for column, way in enumerate(ways):
        panel = panels[0][column]
        for one in recoveries:
            style = shown.get((one["policy"], one["condition"]))
            if one["steering"] != way or style is None:
                continue
            window_s = document["settings"]["stay_s"] / len(one["p95_ms"])
            times = [window_s * (number + 1) for number in range(len(one["p95_ms"]))]
            reads = one["policy"] in {"s3ml", "s3ml-paper"}
            label = f"{one['policy']}, {one['condition']}" if reads else one["policy"]
            panel.plot(times, one["p95_ms"], style[1], color=style[0], linewidth=1.6, label=label)
        panel.axvline(3, color=_RED, linewidth=0.8, linestyle="--")
        panel.set_yscale("log")
        panel.set_title(_STEERED[way], fontsize=9)
        panel.set_xlabel("s since the antagonist moved (aim: recovered at 3 s)", fontsize=8)
        panel.set_ylabel("p95, ms", fontsize=8)
        below = panels[0][1] if is_one else panels[1][column]
        _draw_conditions(below, [run for run in document["runs"] if run["steering"] == way])
    _legend(figure, panels[0][0], columns=3)
    _finish(pyplot, figure, document, path)


def _draw_conditions(panel: Any, runs: Sequence[Mapping[str, Any]]) -> None:
    blind = percentile([run["p99_ms"] for run in runs if run["policy"] == "power-of-two"], 0.5)
    conditions = list(dict.fromkeys(run["condition"] for run in runs if run["policy"] == "s3ml"))
    for offset, policy in enumerate(("s3ml-paper", "s3ml")):
        for place, condition in enumerate(conditions):
            values = [
                run["p99_ms"] / blind
                for run in runs
                if (run["policy"], run["condition"]) == (policy, condition)
            ]
            if not values:
                continue
            low, middle, high = _spread(values)
            at = place + (offset - 0.5) * 0.3
            panel.plot([low, high], [at, at], color=COLOURS[policy], linewidth=2)
            label = None if place else policy
            panel.plot(middle, at, "o", color=COLOURS[policy], markersize=5, label=label)
    panel.axvline(1.05, color=_RED, linewidth=0.8, linestyle="--")
    panel.set_yticks(range(len(conditions)), conditions, fontsize=8)
    panel.invert_yaxis()
    panel.set_xscale("log")
    shown = panel.get_xlim()
    ticks = [at for at in _RATIO_TICKS if shown[0] <= at <= shown[1]]
    panel.set_xticks(ticks, [f"{at:g}" for at in ticks])
    panel.minorticks_off()
    panel.set_xlabel("p99 over power-of-two's (aim: at most 1.05)", fontsize=8)
    panel.legend(frameon=False, fontsize=8)


def draw_capacity(pyplot: Any, document: Mapping[str, Any], path: Path) -> None:
    """Draw the highest rate of each policy (E5)."""
    ways = list(dict.fromkeys(run["steering"] for run in document["runs"]))
    figure, panels = _figure(pyplot, 1, len(ways), (4.8 * len(ways), 3.8))
    for panel, way in zip(panels[0], ways, strict=True):
        runs = [run for run in document["runs"] if run["steering"] == way]
        names = list(dict.fromkeys(run["policy"] for run in runs))
        rates = [run["highest_per_s"] for run in runs]
        bars = panel.barh(range(len(names)), rates, 0.6, color=[COLOURS[name] for name in names])
        panel.bar_label(bars, [f" {rate:.0f}" for rate in rates], fontsize=8)
        panel.set_yticks(range(len(names)), names, fontsize=8)
        panel.invert_yaxis()
        panel.margins(x=0.1)
        panel.set_title(_STEERED[way], fontsize=9)
        panel.set_xlabel("requests/s with p99 under the objective", fontsize=8)
    _finish(pyplot, figure, document, path)


def draw_ablation(pyplot: Any, document: Mapping[str, Any], path: Path) -> None:
    """Draw p99 of each variant under each condition (E10)."""
    ways = list(dict.fromkeys(run["steering"] for run in document["runs"]))
    figure, panels = _figure(pyplot, 1, len(ways), (5.0 * len(ways), 3.9))
    for panel, way in zip(panels[0], ways, strict=True):
        runs = [run for run in document["runs"] if run["steering"] == way]
        names = list(dict.fromkeys(run["policy"] for run in runs))
        conditions = list(dict.fromkeys(run["condition"] for run in runs))
        for offset, condition in enumerate(conditions):
            for place, name in enumerate(names):
                values = [
                    run["p99_ms"] for run in runs if (run["policy"], run["condition"]) == (name, condition)
                ]
                low, middle, high = _spread(values)
                at = place + (offset - (len(conditions) - 1) / 2) * 0.18
                colour = _SIGNALS[offset]
                panel.plot([low, high], [at, at], color=colour, linewidth=1.6)
                label = condition if not place else None
                panel.plot(middle, at, "o", color=colour, markersize=4.5, label=label)
        panel.set_yticks(range(len(names)), names, fontsize=8)
        panel.invert_yaxis()
        panel.set_xscale("log")
        panel.tick_params(axis="x", which="both", labelsize=6)
        panel.set_xlabel("p99, ms: median over seeds, least to most", fontsize=8)
        panel.set_title(_STEERED[way], fontsize=9)
    _legend(figure, panels[0][0], columns=4)
    _finish(pyplot, figure, document, path)


def draw_cost(pyplot: Any, document: Mapping[str, Any], path: Path) -> None:
    """Draw what a pick and a step of shares cost by the number of replicas (E11)."""
    kinds = list(dict.fromkeys(run["what"] for run in document["runs"]))
    figure, panels = _figure(pyplot, 1, len(kinds), (4.6 * len(kinds), 3.8))
    for panel, what in zip(panels[0], kinds, strict=True):
        runs = [run for run in document["runs"] if run["what"] == what]
        for name in dict.fromkeys(run["policy"] for run in runs):
            mine = [run for run in runs if run["policy"] == name]
            panel.errorbar(
                [run["replicas"] for run in mine],
                [run["median_us"] for run in mine],
                yerr=[[0.0] * len(mine), [run["p99_us"] - run["median_us"] for run in mine]],
                color=COLOURS[name],
                marker="o",
                markersize=4,
                capsize=2,
                linewidth=1.6,
                elinewidth=0.7,
                label=name,
            )
        if what == "pick":
            panel.axhline(100, color=_RED, linewidth=0.9, linestyle="--")
        counts = sorted({run["replicas"] for run in runs})
        panel.set(xscale="log", yscale="log")
        panel.set_xticks(counts, [str(count) for count in counts])
        panel.minorticks_off()
        panel.set_title(what, fontsize=9)
        panel.set_xlabel("replicas", fontsize=8)
        panel.set_ylabel("µs: median, line up to p99", fontsize=8)
    _legend(figure, panels[0][0], columns=7)
    _finish(pyplot, figure, document, path)


def draw_beside_twin(pyplot: Any, document: Mapping[str, Any], path: Path) -> None:
    """Draw p99 of each policy as emulated, and as a simulation of the same size and costs has it (E2)."""
    runs = [*document["runs"], *document.get("twin", ())]
    draw_policies(pyplot, {**document, "runs": runs}, path)


_BY_EXPERIMENT: Mapping[str, Callable[[Any, Any, Path], None]] = {
    "E1": draw_signals,
    "E2": draw_policies,
    "E3": draw_policies,
    "E4": draw_moving,
    "E5": draw_capacity,
    "E10": draw_ablation,
    "E11": draw_cost,
}
_KINDS = {"E11": (Kind.SIMULATION,)}
DRAWN: Mapping[str, Callable[[Any, Any, Path], None]] = {
    name_of(experiment, kind): draw
    for experiment, draw in _BY_EXPERIMENT.items()
    for kind in _KINDS.get(experiment, Kind)
} | {name_of("E2", Kind.EMULATION): draw_beside_twin}
"""By the name of a result document."""
