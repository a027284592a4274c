"""Figures of one run of an experiment, and their spread over seeds.

Latencies count from the intended send. A request that was never answered counts as unanswered, not as fast.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.summaries import percentile

PERCENTILES = {"p50_ms": 0.5, "p99_ms": 0.99, "p999_ms": 0.999}


def summarise(
    latencies_s: Sequence[float], *, objective_s: float, pages: float | None, unanswered: int = 0
) -> dict[str, Any]:
    """Return the summary of one run; pure.

    Args:
        latencies_s: Of each answered request, from its intended send; at least one.
        objective_s: The latency that p99 shall stay under.
        pages: Pages brought back by the servers meanwhile; None where it is unknown.
        unanswered: Requests that got no answer; each is over the objective.

    Returns:
        `requests`, `unanswered`, `mean_ms`, p50, p99 and p99.9 in ms, `over_objective` (share),
        `pages_per_request`.
    """
    ordered = sorted(latencies_s)
    count = len(ordered)
    late = sum(1 for latency in ordered if latency > objective_s) + unanswered
    return {
        "requests": count,
        "unanswered": unanswered,
        "mean_ms": round(1e3 * sum(ordered) / count, 3),
        **{name: round(1e3 * _at(ordered, share), 3) for name, share in PERCENTILES.items()},
        "over_objective": round(late / (count + unanswered), 5),
        "pages_per_request": None if pages is None else round(pages / count, 1),
    }


def spread(values: Sequence[float], digits: int = 2) -> dict[str, Any]:
    """Return the median over seeds with the least and the greatest."""
    return {
        "median": round(percentile(values, 0.5), digits),
        "range": [round(min(values), digits), round(max(values), digits)],
        "n": len(values),
    }


def ratios(runs: Iterable[Mapping[str, Any]], policy: str, beside: str, figure: str) -> list[float]:
    """Return `policy`'s figure over `beside`'s, seed by seed; runs are paired by all but the policy."""
    by_policy: dict[str, dict[Any, float]] = {}
    for run in runs:
        by_policy.setdefault(run["policy"], {})[run["seed"], run["arrivals"]] = run[figure]
    mine, other = by_policy[policy], by_policy[beside]
    return [mine[key] / other[key] for key in sorted(mine) if key in other]


def by_policy(runs: Iterable[Mapping[str, Any]], figure: str) -> dict[str, list[float]]:
    """Return a figure of each run, by policy, in the order in which the policies come."""
    found: dict[str, list[float]] = {}
    for run in runs:
        found.setdefault(run["policy"], []).append(run[figure])
    return found


def _at(ordered: Sequence[float], share: float) -> float:
    position = share * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)
