"""What measured points suggest: threads, the knee of the batch sizes, a delay, memory.

Pure. The rules, and why, are in ``docs/spec/profile.md``, section "Suggestions".
"""

import math
from collections.abc import Sequence

from s3ml.bundle import Batching, Resources
from s3ml.bundle.profile import Point, Suggestion
from s3ml.primitives.units import MIB

# A further thread pays when all of them together still do this share of what they would do apart.
THREAD_EFFICIENCY = 0.8
# The knee: the smallest batch with this share of the most rows per second of processor time.
KNEE_SHARE = 0.9
# Joining requests at all has to gain this much.
LEAST_GAIN = 1.1
DELAY_SHARE = 0.1
# Where a run on one thread waits for more than this share of its time, others had the core.
BUSY_SHARE = 0.2
_LEAST_S = 1e-9
LEAST_DELAY_US = 100
MEMORY_MARGIN = 0.1


def suggest(points: Sequence[Point], *, process_bytes: int, objective_s: float | None) -> Suggestion:
    """Return what these points suggest.

    Args:
        points: At least one.
        process_bytes: What the measuring process held without the model.
        objective_s: The p99 to stay within; None for no such wish.
    """
    threads = suggest_threads(points, objective_s=objective_s)
    curve = sorted((p for p in points if p.threads == threads), key=lambda p: p.batch)
    knee = find_knee(curve, objective_s=objective_s)
    batching = (
        Batching(max_size=knee.batch, max_delay_us=suggest_delay_us(curve, knee)) if knee.batch > 1 else None
    )
    most = max(p.peak_bytes for p in curve if p.batch <= knee.batch)
    added = max(0, most - process_bytes) * (1 + MEMORY_MARGIN)
    return Suggestion(
        batching=batching,
        resources=Resources(memory_bytes=max(1, math.ceil(added / MIB)) * MIB, threads=threads),
        memory_margin=MEMORY_MARGIN,
    )


def suggest_threads(points: Sequence[Point], *, objective_s: float | None) -> int:
    """Return the most threads that each still pay at the smallest batch, or what the objective needs.

    Where p99 is above the objective, more threads are taken, the least that meet it; where none do, those of
    the lowest p99.
    """
    least = min(p.batch for p in points)
    singles = sorted((p for p in points if p.batch == least), key=lambda p: p.threads)
    chosen = singles[0]
    for point in singles[1:]:
        ideal = singles[0].rows_per_s * point.threads / singles[0].threads
        if point.rows_per_s < ideal * THREAD_EFFICIENCY:
            break
        chosen = point
    if objective_s is not None and chosen.p99_s > objective_s:
        meeting = [p for p in singles if p.p99_s <= objective_s]
        chosen = meeting[0] if meeting else min(singles, key=lambda p: p.p99_s)
    return chosen.threads


def find_knee(curve: Sequence[Point], *, objective_s: float | None) -> Point:
    """Return the point after which larger batches gain little: the first with 90 % of the best yield.

    The yield is rows per second of processor time: it decides how much a busy server does, and it is what
    neighbours of a measurement change least.

    Args:
        curve: Points of one number of threads, by batch.
        objective_s: Batches whose p99 is above it do not count, but for the smallest.
    """
    smallest = curve[0]
    allowed = [p for p in curve if objective_s is None or p.p99_s <= objective_s] or [smallest]
    best = max(map(yield_of, allowed))
    if best < yield_of(smallest) * LEAST_GAIN:
        return smallest
    return next(p for p in allowed if yield_of(p) >= best * KNEE_SHARE)


def yield_of(point: Point) -> float:
    """Return rows per second of processor time."""
    return point.batch / max(point.compute_s, _LEAST_S)


def waiting_share(points: Sequence[Point]) -> float:
    """Return how much of their time runs on the fewest threads waited for a core, 0 to 1: what others took.

    The least over the batches; more than a fifth makes times, and suggestions of threads, of little worth.
    """
    threads = min(p.threads for p in points)
    shares = (1 - p.compute_s * p.rows_per_s / (p.batch * threads) for p in points if p.threads == threads)
    return min(1.0, max(0.0, min(shares)))


def suggest_delay_us(curve: Sequence[Point], knee: Point) -> int:
    """Return how long a lone request may wait for others, in microseconds.

    No longer than what joining a run saves, which is the fixed part of its processor time, and than a tenth
    of a run at the knee. Less than 0.1 ms is not worth a timer.
    """
    wait_s = min(fixed_cost_s(curve), knee.p50_s * DELAY_SHARE)
    rounded_us = int(wait_s * 1e6 / LEAST_DELAY_US) * LEAST_DELAY_US
    return min(rounded_us, 1_000_000)


def fixed_cost_s(curve: Sequence[Point]) -> float:
    """Return the part of a run's processor time that does not grow with its rows, at least 0.

    The straight line through the points, by least squares of the relative error.
    """
    weights = [1 / max(p.compute_s, _LEAST_S) ** 2 for p in curve]
    total = sum(weights)
    mean_batch = sum(w * p.batch for w, p in zip(weights, curve, strict=True)) / total
    mean_s = sum(w * p.compute_s for w, p in zip(weights, curve, strict=True)) / total
    apart = [(w, p.batch - mean_batch, p.compute_s - mean_s) for w, p in zip(weights, curve, strict=True)]
    spread = sum(w * rows**2 for w, rows, _ in apart)
    if spread <= 0:
        return 0.0
    slope = sum(w * rows * seconds for w, rows, seconds in apart) / spread
    return max(0.0, mean_s - slope * mean_batch)
