"""The picture of a profile: latency and throughput by batch, and where the memory goes.

matplotlib is an extra of its own, imported only when something is drawn.
"""

import importlib
import io
from pathlib import Path
from typing import Any

from s3ml.apps.profiling.paging_plot import draw_paging
from s3ml.bundle.profile import Point, Profile, suggested_place
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.files import write_atomically

FORMATS = (".svg", ".png")
_INK, _FAINT, _GRID = "#22303c", "#6b7682", "#e3e7eb"
_LINES = ("#2f5d9b", "#3a9d8f", "#c77d2b", "#8e4a8b", "#5b6b2f", "#b0413e")
_MODEL, _PROCESS, _WORK = "#2f5d9b", "#c9d3df", "#3a9d8f"
_MB = 1e6
_SLOW_S = 1e-3


def check_plot(path: Path) -> None:
    """Check the name of a plot, before anything is measured for it.

    Raises:
        ConfigurationError: the file's ending is none of ours.
    """
    if path.suffix.lower() not in FORMATS:
        raise ConfigurationError(f"--plot: expected a file that ends in .svg or .png, got {path.name!r}")


def draw_profile(profile: Profile, path: Path) -> None:
    """Draw a profile into a file, in the format of its ending.

    Raises:
        ConfigurationError: matplotlib is not installed, or the file cannot be written.
    """
    check_plot(path)
    try:
        matplotlib = importlib.import_module("matplotlib")
        figures = importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise ConfigurationError(
            "plot: matplotlib is not installed: pip install 's3ml[plots]', then draw the written profile: "
            f"s3ml profile PROFILE.json --plot {path}"
        ) from error
    settings = {
        "font.size": 9,
        "svg.fonttype": "path",
        "svg.hashsalt": "s3ml",
        "text.color": _INK,
        "axes.labelcolor": _INK,
        "xtick.color": _FAINT,
        "ytick.color": _FAINT,
        "axes.edgecolor": _FAINT,
    }
    with matplotlib.rc_context(settings):
        figure = figures.Figure(figsize=(10.5, 6.2 if profile.paging is None else 9.0), layout="constrained")
        _draw(figure, profile)
        buffer = io.BytesIO()
        kind = path.suffix.lower()[1:]
        figure.savefig(buffer, format=kind, dpi=100, metadata={"Date": None} if kind == "svg" else None)
    write_atomically(path, buffer.getvalue())


def _draw(figure: Any, profile: Profile) -> None:
    rows = (1.25, 1) if profile.paging is None else (1.25, 1, 1.1)
    grid = figure.add_gridspec(len(rows), 2, height_ratios=rows, hspace=0.08)
    latency, throughput = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1])
    memory = figure.add_subplot(grid[1, :])
    draw = _draw_curves if len({point.batch for point in profile.points}) > 1 else _draw_threads
    draw(latency, throughput, profile)
    _draw_memory(memory, profile)
    panels = [latency, throughput, memory]
    if profile.paging is not None:
        panels += [figure.add_subplot(grid[2, 0]), figure.add_subplot(grid[2, 1])]
        draw_paging(panels[-2], panels[-1], profile.paging)
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_axisbelow(True)
    machine = profile.machine
    figure.suptitle(
        f"{profile.model.name}: what it costs, outside a TEE",
        x=0.012,
        ha="left",
        fontsize=13,
        fontweight="bold",
    )
    libraries = {library.name: library.version for library in machine.libraries}
    told = ", ".join(f"{name} {version}" for name, version in libraries.items() if name != "numpy")
    figure.supxlabel(
        f"{machine.processor}, {machine.cores} cores, {machine.memory_bytes / 1e9:.0f} GB; {told}; "
        f"{profile.settings.inputs} inputs; load average {machine.load_average[0]:.1f} before, "
        f"{machine.load_average[1]:.1f} after; {profile.measured_at:%Y-%m-%d}",
        x=0.012,
        ha="left",
        fontsize=7.5,
        color=_FAINT,
    )


def _draw_curves(latency: Any, throughput: Any, profile: Profile) -> None:
    """One line for each number of threads; the band reaches from p50 to p99, a ring marks the suggestion."""
    chosen = _suggested(profile)
    unit, factor = ("ms", 1e3) if max(p.p99_s for p in profile.points) >= _SLOW_S else ("µs", 1e6)
    batches = sorted({point.batch for point in profile.points})
    for colour, (threads, points) in zip(_colours(profile), _by_threads(profile), strict=True):
        places = [point.batch for point in points]
        name = f"{threads} thread{'' if threads == 1 else 's'}"
        p50, p99 = [p.p50_s * factor for p in points], [p.p99_s * factor for p in points]
        latency.fill_between(places, p50, p99, color=colour, alpha=0.15, linewidth=0)
        latency.plot(places, p50, color=colour, marker="o", markersize=3.5, linewidth=1.6, label=name)
        rates = [p.rows_per_s for p in points]
        throughput.plot(places, rates, color=colour, marker="o", markersize=3.5, linewidth=1.6, label=name)
        if threads == chosen.threads:
            ring = {"marker": "o", "markersize": 10, "markerfacecolor": "none", "linestyle": "none"}
            latency.plot([chosen.batch], [chosen.p50_s * factor], color=colour, **ring)
            throughput.plot([chosen.batch], [chosen.rows_per_s], color=colour, **ring)
    for panel in (latency, throughput):
        panel.set_xscale("log", base=2)
        panel.set_xticks(batches, [str(batch) for batch in batches])
        panel.minorticks_off()
        panel.set_xlabel("batch, rows")
        panel.grid(axis="y", color=_GRID, linewidth=0.8)
    latency.set_yscale("log")
    _plain_ticks(latency)
    throughput.yaxis.set_major_formatter("{x:,.0f}")
    latency.set_title(f"latency of a run, {unit}: p50, and up to p99", loc="left", fontsize=9.5)
    throughput.set_ylim(0, 1.15 * max(point.rows_per_s for point in profile.points))
    throughput.set_title("throughput, rows per second", loc="left", fontsize=9.5)
    is_last = chosen.batch == batches[-1]
    throughput.annotate(
        f"suggested: batch {chosen.batch}" if chosen.batch > 1 else "suggested: no batching",
        (chosen.batch, chosen.rows_per_s),
        textcoords="offset points",
        xytext=(-10, 4) if is_last else (2, -18),
        ha="right" if is_last else "left",
        fontsize=8,
        color=_INK,
    )
    latency.legend(frameon=False, fontsize=8, loc="upper left")


def _draw_threads(latency: Any, throughput: Any, profile: Profile) -> None:
    """Bars for each number of threads, where the model takes one batch size alone."""
    names = [f"{point.threads} thread{'' if point.threads == 1 else 's'}" for point in profile.points]
    colours = _colours(profile)
    p50 = [point.p50_s * 1e3 for point in profile.points]
    above = [(point.p99_s - point.p50_s) * 1e3 for point in profile.points]
    bars = latency.bar(names, p50, 0.5, color=colours)
    latency.bar_label(bars, [f"{value:.3g}" for value in p50], label_type="center", color="white")
    latency.errorbar(names, p50, yerr=[[0.0] * len(above), above], fmt="none", ecolor=_INK, capsize=4)
    latency.set_title("latency of a run, ms: p50, whisker to p99", loc="left", fontsize=9.5)
    rates = [point.rows_per_s for point in profile.points]
    bars = throughput.bar(names, rates, 0.5, color=colours)
    throughput.bar_label(bars, [f"{value:.3g}" for value in rates], label_type="center", color="white")
    throughput.set_title("throughput, runs per second", loc="left", fontsize=9.5)
    for panel in (latency, throughput):
        panel.set_xlim(-0.8, len(names) - 0.2)
        panel.grid(axis="y", color=_GRID, linewidth=0.8)


def _draw_memory(panel: Any, profile: Profile) -> None:
    """Bars from the file on disk to the pages that one run touches."""
    loading, chosen = profile.loading, _suggested(profile)
    process = loading.process.resident_bytes
    curve = [point for point in profile.points if point.threads == chosen.threads]
    shown = [p for p in curve if p in (curve[0], chosen, curve[-1])]
    files = sum(file.size_bytes for file in profile.model.files)
    rows = [
        ("model files", 0, files),
        ("peak while loading", process, loading.peak_bytes - process),
        ("after loading", process, loading.model.resident_bytes - process),
        *((f"running, batch {p.batch}", process, p.memory.resident_bytes - process) for p in shown),
    ]
    names = [name for name, _, _ in rows]
    below = [base / _MB for _, base, _ in rows]
    added = [max(0, more) / _MB for _, _, more in rows]
    panel.barh(names, below, 0.62, color=_PROCESS, label="process without the model")
    panel.barh(names, added, 0.62, left=below, color=_MODEL, label="model")
    for place, (low, more) in enumerate(zip(below, added, strict=True)):
        panel.text(low + more, place, f"  {_told(low + more)}", va="center", fontsize=8)
    touched = [(f"touched by a run, batch {p.batch}", p.working_set_bytes) for p in shown]
    known = [(name, size / _MB) for name, size in touched if size is not None]
    if known:
        panel.barh(
            [n for n, _ in known], [s for _, s in known], 0.62, color=_WORK, label="pages touched by one run"
        )
        for place, (_, size) in enumerate(known, len(rows)):
            panel.text(size, place, f"  {_told(size)}", va="center", fontsize=8)
    panel.invert_yaxis()
    panel.tick_params(axis="y", length=0, labelcolor=_INK)
    panel.spines["left"].set_visible(False)
    panel.margins(x=0.1)
    panel.grid(axis="x", color=_GRID, linewidth=0.8)
    panel.set_title("memory, MB", loc="left", fontsize=9.5)
    panel.legend(frameon=False, fontsize=8, ncols=3, loc="lower right", bbox_to_anchor=(1.0, 0.97))


def _told(size_mb: float) -> str:
    return f"{size_mb:,.0f} MB" if size_mb >= 1 else f"{size_mb * 1e3:,.0f} kB"


def _plain_ticks(panel: Any) -> None:
    """Label a logarithmic axis in plain numbers, at 1, 2 and 5 where it spans little."""
    ticker = importlib.import_module("matplotlib.ticker")
    panel.yaxis.set_major_locator(ticker.LogLocator(base=10, subs=(1.0, 2.0, 5.0), numticks=12))
    panel.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    panel.yaxis.set_minor_formatter(ticker.NullFormatter())


def _colours(profile: Profile) -> list[str]:
    count = len({point.threads for point in profile.points})
    return [_LINES[index % len(_LINES)] for index in range(count)]


def _by_threads(profile: Profile) -> list[tuple[int, list[Point]]]:
    found: dict[int, list[Point]] = {}
    for point in profile.points:
        found.setdefault(point.threads, []).append(point)
    return sorted(found.items())


def _suggested(profile: Profile) -> Point:
    """Return the measured point that the suggestion names."""
    size, threads = suggested_place(profile.suggestion)
    return next(point for point in profile.points if point.threads == threads and point.batch >= size)
