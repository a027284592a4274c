"""How much a model pages: pages per request against headroom, fitted offline and corrected online.

*Headroom* is the memory of a node's TEEs over what all that run there would keep in it (their hot set): at 1
and more everything fits. Each pass over weights that do not fit brings pages back, and evicts others; less
headroom never means fewer pages. So a curve is a line through points, non-negative and falling with headroom.

Offline it comes from a profile's measured points; online each observation pulls the points beside it. What is
observed is the host's word: an observation moves a point by a bounded part, and never beyond a bounded
multiple of the most that was measured.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Annotated, Self

import msgspec

from s3ml.primitives.errors import ConfigurationError
from s3ml.tee_memory.reading import PAGE_BYTES, Reading

KNEE_HEADROOM = 0.9
"""Where paging begins: below it pages per request grew nearly linearly where servers shared an emulated
EPC."""
GAIN = 0.1
"""How far an observation pulls the curve: a tenth of the difference. About 20 are needed to forget a wrong
fit."""
EXCESS_LIMIT = 4.0
"""No observation counts for more than this many times the most pages that the offline fit knows."""
POINTS_LIMIT = 256
HEADROOM_LIMIT = 1e6
PAGES_LIMIT = 2.0**40

Headroom = Annotated[float, msgspec.Meta(ge=0, le=HEADROOM_LIMIT)]
Pages = Annotated[float, msgspec.Meta(ge=0, le=PAGES_LIMIT)]


class Sample(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pages that a request brought back in the mean, at a headroom."""

    headroom: Headroom
    pages: Pages


class Curve(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Pages per request at any headroom: linear between points, level beyond the outer ones.

    Args:
        points: 1 to 256, by headroom, each once, pages never growing.
        most_pages: The most pages per request that the offline fit knows; bounds what is learned online.

    Raises:
        ConfigurationError: the points are none, too many, out of order, or grow with headroom.
    """

    points: tuple[Sample, ...]
    most_pages: Pages

    def __post_init__(self) -> None:
        """Check what the types do not say."""
        if not 1 <= len(self.points) <= POINTS_LIMIT:
            raise ConfigurationError(f"curve: expected 1 to {POINTS_LIMIT} points, got {len(self.points)}")
        for before, after in pairwise(self.points):
            if before.headroom >= after.headroom:
                raise ConfigurationError(
                    f"curve: expected points by headroom, each once, "
                    f"got {before.headroom:g} before {after.headroom:g}"
                )
            if before.pages < after.pages:
                raise ConfigurationError(
                    f"curve: expected no more pages at {after.headroom:g} than at {before.headroom:g}, "
                    f"got {after.pages:g} and {before.pages:g}"
                )

    def pages(self, headroom: float) -> float:
        """Return the pages per request at a headroom."""
        left, weight = self._place(headroom)
        if weight == 0:
            return self.points[left].pages
        return self.points[left].pages * (1 - weight) + self.points[left + 1].pages * weight

    def corrected(self, observed: Sample, *, gain: float = GAIN) -> Self:
        """Return the curve pulled towards an observation; it stays non-negative and falling.

        The two points around the headroom move by `gain` of the difference, each by its nearness; others only
        where the curve would grow otherwise. A single observation, forged or not, so moves no point by more
        than `gain` of 4 times the most pages of the offline fit.

        Args:
            observed: The host's word; more than 4 times the most pages of the offline fit counts as that.
            gain: From 0 to 1.
        """
        seen = min(observed.pages, self.most_pages * EXCESS_LIMIT)
        pull = gain * (seen - self.pages(observed.headroom))
        left, weight = self._place(observed.headroom)
        pages = [point.pages for point in self.points]
        pages[left] += pull * (1 - weight)
        if weight:
            pages[left + 1] += pull * weight
        falling = _falling(pages, keep_high=pull > 0)
        points = tuple(
            Sample(headroom=point.headroom, pages=max(0.0, new))
            for point, new in zip(self.points, falling, strict=True)
        )
        return type(self)(points=points, most_pages=self.most_pages)

    def _place(self, headroom: float) -> tuple[int, float]:
        """Return the point at or left of a headroom, and how far it is to the next, from 0 to below 1."""
        points = self.points
        index = bisect_left(points, headroom, key=lambda point: point.headroom)
        if index == len(points):
            return len(points) - 1, 0.0
        if index == 0 or points[index].headroom == headroom:
            return index, 0.0
        left, right = points[index - 1].headroom, points[index].headroom
        return index - 1, (headroom - left) / (right - left)


def _falling(pages: list[float], *, keep_high: bool) -> list[float]:
    """Make pages fall with headroom: of two that contradict each other the higher holds, or the lower."""
    if keep_high:
        return list(accumulate(reversed(pages), max))[::-1]
    return list(accumulate(pages, min))


def fit_curve(samples: Iterable[Sample]) -> Curve:
    """Fit the falling curve that is nearest to measured samples, in the sense of least squares; pure.

    Isotonic regression by pooling adjacent violators: samples at one headroom are averaged, then neighbours
    that grow with headroom are, until none do. No shape is assumed beyond that, so a knee lies where it was
    measured.

    Args:
        samples: In any order, at most 256 different headrooms.

    Raises:
        ConfigurationError: there are none, or too many.

    Source: R. E. Barlow et al., "Statistical Inference under Order Restrictions", 1972.
    """
    by_headroom: dict[float, list[float]] = {}
    for sample in samples:
        by_headroom.setdefault(sample.headroom, []).append(sample.pages)
    blocks: list[tuple[float, int, list[float]]] = []
    for headroom in sorted(by_headroom):
        pages = by_headroom[headroom]
        total, weight, members = sum(pages), len(pages), [headroom]
        while blocks and blocks[-1][0] / blocks[-1][1] < total / weight:
            before = blocks.pop()
            total, weight, members = before[0] + total, before[1] + weight, before[2] + members
        blocks.append((total, weight, members))
    points = tuple(
        Sample(headroom=headroom, pages=total / weight)
        for total, weight, members in blocks
        for headroom in members
    )
    return Curve(points=points, most_pages=points[0].pages if points else 0.0)


def assumed_curve(hot_set_bytes: int, *, knee: float = KNEE_HEADROOM) -> Curve:
    """Return the curve of a model whose paging was not measured: nothing down to the knee, then linear.

    At no headroom at all each request brings its whole hot set back. That is the most there can be, so it
    errs towards too many pages.

    Args:
        hot_set_bytes: The pages that one request touches, times their size.
        knee: The headroom at which paging begins, above 0.
    """
    most = hot_set_bytes / PAGE_BYTES
    points = (Sample(headroom=0.0, pages=most), Sample(headroom=knee, pages=0.0))
    return Curve(points=points, most_pages=most)


def headroom_of(reading: Reading) -> float | None:
    """Return a node's headroom by its reading: capacity over what is resident or evicted; None if unknown.

    Evicted pages that nobody will touch again count too, so true headroom may be more: correcting the curve
    online makes up for that.
    """
    if reading.capacity_bytes is None or reading.resident_bytes is None:
        return None
    wanted = reading.resident_bytes + (reading.evicted_bytes or 0)
    if wanted <= 0:
        return HEADROOM_LIMIT
    return min(reading.capacity_bytes / wanted, HEADROOM_LIMIT)


def learn_limit(samples: Sequence[tuple[float, float]], *, objective_s: float) -> float | None:
    """Learn above which paging rate a node misses a latency objective; pure, done offline.

    The limit is the cut that judges most samples rightly: those at or below it as within the objective, those
    above as beyond. Among cuts that judge equally well the lowest is taken: excluding early is the safer
    error.

    Args:
        samples: Pages brought back in a second, and the latency (say p99) seen at that rate.
        objective_s: The latency aimed at.

    Returns:
        The rate; None if no sample misses the objective, and so no limit can be learned.
    """
    ordered = sorted((rate, latency_s) for rate, latency_s in samples if rate > 0)
    missed = sum(latency_s > objective_s for _, latency_s in ordered)
    if not missed:
        return None
    # At limit 0 all that page are judged beyond; what does not page is within any limit, and tells nothing.
    best_right, best_limit, right = missed, 0.0, missed
    for index, (rate, latency_s) in enumerate(ordered):
        right += -1 if latency_s > objective_s else 1
        is_last_of_rate = index + 1 == len(ordered) or ordered[index + 1][0] > rate
        if is_last_of_rate and right > best_right:
            best_right, best_limit = right, rate
    return best_limit
