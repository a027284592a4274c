"""The panels of a profile's picture that tell how the model pages on an EMULATED EPC."""

from typing import Any

from s3ml.bundle.paging import Paging

_PAGES, _LATENCY, _GRID, _FAINT = "#8e4a8b", "#2f5d9b", "#e3e7eb", "#6b7682"


def draw_paging(pages: Any, latency: Any, paging: Paging) -> None:
    """Draw pages per request, and latency, against headroom that falls to the right.

    Args:
        pages: Axes of matplotlib for the one.
        latency: Axes for the other.
        paging: What was measured.
    """
    headrooms = [point.headroom for point in paging.points]
    counts = [point.pages_per_request for point in paging.points]
    style = {"marker": "o", "markersize": 3.5, "linewidth": 1.6}
    pages.plot(headrooms, counts, color=_PAGES, **style)
    pages.fill_between(headrooms, counts, color=_PAGES, alpha=0.12, linewidth=0)
    pages.set_ylim(0, 1.1 * max(*counts, 1.0))
    pages.yaxis.set_major_formatter("{x:,.0f}")
    pages.set_title("EMULATED EPC: pages per request", loc="left", fontsize=9.5)
    p50_ms = [point.p50_s * 1e3 for point in paging.points]
    p99_ms = [point.p99_s * 1e3 for point in paging.points]
    latency.fill_between(headrooms, p50_ms, p99_ms, color=_LATENCY, alpha=0.15, linewidth=0)
    latency.plot(headrooms, p50_ms, color=_LATENCY, **style)
    latency.set_ylim(0, 1.1 * max(p99_ms))
    latency.yaxis.set_major_formatter("{x:g}")
    latency.set_title("EMULATED EPC: latency, ms: p50, and up to p99", loc="left", fontsize=9.5)
    if paging.page_cost_s is not None:
        told = f"a page adds {paging.page_cost_s * 1e6:.0f} µs"
        latency.text(0.02, 0.93, told, transform=latency.transAxes, va="top", fontsize=8)
    size_mb = paging.hot_set_bytes / 1e6
    for panel in (pages, latency):
        panel.axvline(1.0, color=_FAINT, linewidth=0.9, linestyle=(0, (4, 3)))
        panel.invert_xaxis()
        panel.set_xlabel(f"EPC over the hot set of {paging.copies} copies ({size_mb:,.0f} MB)")
        panel.grid(axis="y", color=_GRID, linewidth=0.8)
