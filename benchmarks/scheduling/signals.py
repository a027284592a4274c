"""How much a signal says of latency, and how early: R² over lags, on series of equal steps; pure.

A signal leads by the shift at which it explains most of what follows. R² is the square of Pearson's
correlation: of the latency, and of its logarithm, since latency under paging spans orders of magnitude.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.summaries import percentile

# Below so many pairs a correlation says nothing.
_LEAST_PAIRS = 8
_LEAST_ANSWERS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """What one signal says of latency.

    Args:
        r_squared: At no shift.
        r_squared_log: At no shift, of the logarithm.
        lead_s: The shift at which it explains most of the logarithm; above 0 the signal comes first.
        r_squared_lead: Of the logarithm, at that shift.
    """

    r_squared: float
    r_squared_log: float
    lead_s: float
    r_squared_lead: float


def windowed(
    answers: Sequence[tuple[float, float]], at_s: Sequence[float], *, window_s: float, share: float = 0.99
) -> list[float | None]:
    """Return a percentile of the latencies that an observer saw in the window before each instant.

    Args:
        answers: Instant of the answer and its latency, in seconds, in any order.
        at_s: The instants, rising.
        window_s: How far back each window goes.
        share: Which percentile, from 0 to 1.

    Returns:
        One for each instant; None where fewer than five answers came in its window.
    """
    ordered = sorted(answers)
    ended = [at for at, _ in ordered]
    found: list[float | None] = []
    for instant in at_s:
        within = ordered[bisect_right(ended, instant - window_s) : bisect_right(ended, instant)]
        enough = len(within) >= _LEAST_ANSWERS
        found.append(percentile([latency for _, latency in within], share) if enough else None)
    return found


def r_squared(signal: Sequence[float | None], target: Sequence[float | None], shift: int = 0) -> float:
    """Return the share of the variance of `target` that `signal`, `shift` steps before it, explains.

    Steps at which either is None are left out; 0 where too few are left, or one of the two never changes.
    """
    earlier = signal[: len(signal) - shift] if shift >= 0 else signal[-shift:]
    later = target[shift:] if shift >= 0 else target[: len(target) + shift]
    pairs = [(x, y) for x, y in zip(earlier, later, strict=True) if x is not None and y is not None]
    if len(pairs) < _LEAST_PAIRS:
        return 0.0
    mean_x = math.fsum(x for x, _ in pairs) / len(pairs)
    mean_y = math.fsum(y for _, y in pairs) / len(pairs)
    both = math.fsum((x - mean_x) * (y - mean_y) for x, y in pairs)
    spread = math.fsum((x - mean_x) ** 2 for x, _ in pairs) * math.fsum((y - mean_y) ** 2 for _, y in pairs)
    return both * both / spread if spread > 0 else 0.0


def explain(
    signal: Sequence[float | None], latency_s: Sequence[float | None], *, step_s: float, most_s: float
) -> Explained:
    """Compare a signal with windowed latency, at shifts of up to `most_s` either way.

    Args:
        signal: One value for each step.
        latency_s: As many; above 0 where it is known.
        step_s: How long a step is.
        most_s: The largest shift that is tried.
    """
    logarithms = [None if value is None else math.log(value) for value in latency_s]
    most = min(round(most_s / step_s), len(signal) - 1)
    by_shift = {shift: r_squared(signal, logarithms, shift) for shift in range(-most, most + 1)}
    best = max(by_shift, key=lambda shift: (by_shift[shift], -abs(shift)))
    return Explained(
        r_squared=round(r_squared(signal, latency_s), 3),
        r_squared_log=round(by_shift[0], 3),
        lead_s=round(best * step_s, 3),
        r_squared_lead=round(by_shift[best], 3),
    )
