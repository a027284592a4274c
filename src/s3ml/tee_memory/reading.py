"""One reading of the memory that TEEs of a host share, whatever it was read from.

Sources count; a reading is the difference of two counts. All of it is the host's word: it steers routing and
scaling, and no security decision.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol, TypeVar

PAGE_BYTES = 4096

Figure = TypeVar("Figure", int, float)


class Confidence(StrEnum):
    """How a reading's rates came about."""

    COUNTED = "counted"
    """Each paging event was counted where it happens."""
    INFERRED = "inferred"
    """Other events were counted, of which paging is the largest part."""
    BLIND = "blind"
    """There is nothing to count here; only what else is known is filled in."""


class Kind(StrEnum):
    """What the memory is."""

    SGX = "sgx"
    CVM = "cvm"
    EMULATED = "emulated"
    SIMULATED = "simulated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What a source counted up to an instant; None is what it cannot know.

    Args:
        taken_at_s: Monotonic.
        capacity_bytes: The memory that there is.
        resident_bytes: What of it is in use.
        evicted_bytes: What would be in it if there were room.
        page_ins: Pages brought back since some beginning.
        page_outs: Pages evicted since some beginning.
        stalled_s: How long somebody waited for memory since some beginning.
        confidence: How the pages were counted.
        guests: Confidential machines that there are, on a host of such.
        guests_capacity: Confidential machines that there can be.
    """

    taken_at_s: float
    capacity_bytes: int | None = None
    resident_bytes: int | None = None
    evicted_bytes: int | None = None
    page_ins: int | None = None
    page_outs: int | None = None
    stalled_s: float | None = None
    confidence: Confidence = Confidence.COUNTED
    guests: int | None = None
    guests_capacity: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The state of a host's TEE memory.

    Args:
        kind: What the memory is.
        source: What it was read from, in a word or two for people.
        taken_at_s: When, on the clock of whoever holds this reading; monotonic.
        span_s: Over how long the rates were taken; 0 in a first reading, which has none.
        capacity_bytes: The memory that there is.
        resident_bytes: What of it is in use.
        evicted_bytes: What would be in it if there were room.
        page_ins_per_s: Pages brought back in a second.
        page_outs_per_s: Pages evicted in a second.
        pressure: The share of the time, from 0 to 1, in which somebody waited for memory.
        confidence: How the rates came about.
        guests: Confidential machines that there are, on a host of such.
        guests_capacity: Confidential machines that there can be.
    """

    kind: Kind
    source: str
    taken_at_s: float
    span_s: float
    capacity_bytes: int | None
    resident_bytes: int | None
    evicted_bytes: int | None
    page_ins_per_s: float | None
    page_outs_per_s: float | None
    pressure: float | None
    confidence: Confidence
    guests: int | None = None
    guests_capacity: int | None = None

    def age_s(self, now_s: float) -> float:
        """Return how old this reading is at a monotonic instant."""
        return max(0.0, now_s - self.taken_at_s)

    @property
    def is_sane(self) -> bool:
        """Whether no figure is absurd: negative, infinite, no number, or a pressure above 1."""
        figures = (
            self.capacity_bytes,
            self.resident_bytes,
            self.evicted_bytes,
            self.page_ins_per_s,
            self.page_outs_per_s,
            self.pressure,
            self.guests,
            self.guests_capacity,
        )
        known = [figure for figure in figures if figure is not None]
        return all(math.isfinite(figure) and figure >= 0 for figure in known) and (self.pressure or 0) <= 1


class Source(Protocol):
    """Counts the paging of one host, or of one node of it."""

    @property
    def kind(self) -> Kind:
        """What the memory is."""
        ...

    @property
    def name(self) -> str:
        """What is read, in a word or two for people."""
        ...

    def count(self) -> Counts:
        """Read the counts as they stand; a few system calls.

        Raises:
            UnavailableError: they cannot be read now.
        """
        ...

    def close(self) -> None:
        """Undo what was set up for counting."""
        ...


def compare(source: Source, before: Counts | None, now: Counts) -> Reading:
    """Turn two counts of `source` into a reading; pure.

    A count that went down began anew (a restart, a module loaded again): what it shows since is taken.

    Args:
        source: For its kind and name.
        before: None at the beginning: the reading has no rates.
        now: Taken after `before`.
    """
    span_s = 0.0 if before is None else max(0.0, now.taken_at_s - before.taken_at_s)
    earlier = before or now
    stalled = _rate(earlier.stalled_s, now.stalled_s, span_s)
    return Reading(
        kind=source.kind,
        source=source.name,
        taken_at_s=now.taken_at_s,
        span_s=span_s,
        capacity_bytes=now.capacity_bytes,
        resident_bytes=now.resident_bytes,
        evicted_bytes=now.evicted_bytes,
        page_ins_per_s=_rate(earlier.page_ins, now.page_ins, span_s),
        page_outs_per_s=_rate(earlier.page_outs, now.page_outs, span_s),
        pressure=None if stalled is None else min(stalled, 1.0),
        confidence=now.confidence,
        guests=now.guests,
        guests_capacity=now.guests_capacity,
    )


def complete(node: Reading, servers: Iterable[Reading]) -> Reading:
    """Fill in what a node's reading lacks from those of its servers; pure.

    What is filled in is a lower bound: what servers that nobody told of do is not in it. Rates are filled in
    where the node's source is blind, and are inferred then.

    Args:
        node: Of the whole node.
        servers: Of those that are known; their newest readings.
    """
    known = list(servers)
    found = node
    if node.evicted_bytes is None:
        found = replace(found, evicted_bytes=_total([server.evicted_bytes for server in known]))
    if node.confidence is Confidence.BLIND:
        page_ins_per_s = _total([server.page_ins_per_s for server in known])
        if page_ins_per_s is not None:
            found = replace(
                found,
                page_ins_per_s=page_ins_per_s,
                page_outs_per_s=_total([server.page_outs_per_s for server in known]),
                confidence=Confidence.INFERRED,
            )
    return found


def _total(figures: list[Figure | None]) -> Figure | None:
    """Return the sum of the figures that are known; None where none is."""
    known = [figure for figure in figures if figure is not None]
    return sum(known[1:], known[0]) if known else None


def _rate(before: float | None, now: float | None, span_s: float) -> float | None:
    if before is None or now is None or span_s <= 0:
        return None
    return (now - before if now >= before else now) / span_s
