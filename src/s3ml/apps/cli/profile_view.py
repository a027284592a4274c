"""A profile in a terminal: one table of points, and what they suggest in plain words."""

from rich.console import Console
from rich.table import Table

from s3ml.apps.cli.console import facts
from s3ml.apps.profiling.suggesting import BUSY_SHARE, waiting_share
from s3ml.bundle.paging import Paging
from s3ml.bundle.profile import Point, Profile

OUTSIDE_LINE = (
    "[bold black on yellow] OUTSIDE A TEE [/] figures of this machine; a TEE's own costs are in none of them."
)
EMULATED_LINE = (
    "[bold black on yellow] EMULATED [/] a memory cgroup plays the EPC: paging, no figure of SGX hardware."
)
_MB = 1e6
_COLUMNS = (
    "threads",
    "batch",
    "p50\nms",
    "p99\nms",
    "rows\nper s",
    "CPU ms\nper row",
    "resident\nMB",
    "peak\nMB",
    "touched\nMB",
)
_PAGING_COLUMNS = (
    "headroom",
    "EPC\nMB",
    "pages per\nrequest",
    "mean\nms",
    "p50\nms",
    "p99\nms",
    "requests",
)


def show_profile(profile: Profile, console: Console) -> None:
    """Print a profile."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold cyan")
    for name in _COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for point in profile.points:
        table.add_row(*_cells(point))
    console.print(facts(_facts(profile)))
    console.print()
    console.print(table)
    if (waited := waiting_share(profile.points)) > BUSY_SHARE:
        console.print(
            f"[bold black on yellow] BUSY [/] other processes took {waited:.0%} of the time at least: "
            "measure again on a quiet machine; until then times, and the suggested threads, mean little."
        )
    for skipped in profile.skipped:
        console.print(f"skipped: threads {skipped.threads}, batch {skipped.batch} and more: {skipped.reason}")
    console.print()
    console.print(facts(_suggestions(profile), title="suggested"))
    if profile.paging is not None:
        _show_paging(profile.paging, console)


def _show_paging(paging: Paging, console: Console) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold cyan")
    for name in _PAGING_COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    for point in paging.points:
        table.add_row(
            f"{point.headroom:.2f}",
            f"{point.limit_bytes / _MB:,.0f}",
            three_digits(point.pages_per_request),
            three_digits(point.mean_s * 1e3),
            three_digits(point.p50_s * 1e3),
            three_digits(point.p99_s * 1e3),
            str(point.requests),
        )
    console.print()
    console.print(EMULATED_LINE)
    console.print(table)
    cost = (
        "unknown: too little paged"
        if paging.page_cost_s is None
        else f"{paging.page_cost_s * 1e6:.1f} µs, emulated"
    )
    rows = [
        ("hot set", f"{_told(paging.hot_set_bytes)} of {paging.copies} copies"),
        ("request", f"{paging.compute_s * 1e3:.3g} ms, where nothing is short"),
        ("page", cost),
    ]
    console.print()
    console.print(facts(rows, title="paging"))


def _facts(profile: Profile) -> list[tuple[str, str]]:
    loading, machine = profile.loading, profile.machine
    size_bytes = sum(file.size_bytes for file in profile.model.files)
    added = loading.model.resident_bytes - loading.process.resident_bytes
    inputs = ", ".join(
        f"{one.name} {one.datatype} {'x'.join(map(str, one.shape)) or 'scalar'}"
        for one in profile.model.inputs
    )
    return [
        ("model", f"{profile.model.name}, {_told(size_bytes)}"),
        ("inputs", f"{inputs}; {profile.settings.inputs}"),
        (
            "memory",
            (
                f"process {loading.process.resident_bytes / _MB:.0f} MB, model {added / _MB:.0f} MB more, "
                f"peak while loading {loading.peak_bytes / _MB:.0f} MB"
            ),
        ),
        ("loading", f"{loading.duration_s:.2f} s"),
        (
            "machine",
            (
                f"{machine.processor}, {machine.cores} cores, load average "
                f"{machine.load_average[0]:.1f} before, {machine.load_average[1]:.1f} after; outside a TEE"
            ),
        ),
    ]


def three_digits(value: float) -> str:
    """Return a number with three digits, or all those before its point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004 - the least of three digits


def _told(size_bytes: int) -> str:
    return f"{size_bytes / _MB:,.1f} MB" if size_bytes >= _MB else f"{size_bytes / 1e3:,.1f} kB"


def _cells(point: Point) -> tuple[str, ...]:
    touched = point.working_set_bytes
    return (
        str(point.threads),
        str(point.batch),
        three_digits(point.p50_s * 1e3),
        three_digits(point.p99_s * 1e3),
        three_digits(point.rows_per_s),
        three_digits(point.compute_s / point.batch * 1e3),
        f"{point.memory.resident_bytes / _MB:,.0f}",
        f"{point.peak_bytes / _MB:,.0f}",
        "unknown" if touched is None else f"{touched / _MB:,.0f}",
    )


def _suggestions(profile: Profile) -> list[tuple[str, str]]:
    suggestion = profile.suggestion
    batching, resources = suggestion.batching, suggestion.resources
    joined = (
        "none: joining requests gains too little"
        if batching is None
        else f"max_size {batching.max_size}, max_delay_us {batching.max_delay_us}"
    )
    rows = [
        ("batching", joined),
        (
            "resources",
            (
                f"memory_bytes {resources.memory_bytes} ({suggestion.memory_margin:.0%} more than measured), "
                f"threads {resources.threads}"
            ),
        ),
    ]
    objective_s = profile.settings.p99_objective_s
    if objective_s is not None and all(point.p99_s > objective_s for point in profile.points):
        rows.append(("objective", f"missed: no point has p99 within {objective_s * 1e3:g} ms"))
    return rows
