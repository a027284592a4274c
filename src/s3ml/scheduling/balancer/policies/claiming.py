"""What hosts claim: how long a request takes by the readings of its node and server.

All of it is the host's word. What is absent, old, blind or absurd is no claim; what is left may still be
forged, and `estimating` bounds what that can do.
"""

from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from s3ml.scheduling.balancer.view import Replica
from s3ml.scheduling.model import Model
from s3ml.scheduling.paging import headroom_of
from s3ml.tee_memory.reading import PAGE_BYTES, Confidence, Reading

STALE_S = 10.0
"""A reading that is older says nothing: antagonists come and go within seconds."""
ABSURD_PER_S = 1e7
"""More pages in a second than any host can bring back: about a hundred times one serial path's ceiling."""
READING_VARIANCE = 0.25
"""Of the logarithm of a claim: a factor of 1.6; a curve fits one workload, and page costs vary by twice."""
DRIFT_PER_S = 0.1
"""How much variance a second of age adds: after 5 s without news a factor of 2 is nothing unusual."""
LEAST_RATE_RPS = 1.0
"""At fewer answers in a second, paging is not divided by them: a model's curve says more."""
PRESSURE_LIMIT = 0.9
"""More pressure than this is taken for this: a tenth of the time is left to work."""
FITS_HEADROOM = 1.0
DISPLACING = 2.0
"""What is brought back where there is no room pushes as much of others out, to be brought back in turn."""
LEAST_S = 1e-6


@dataclass(frozen=True, slots=True)
class Node:
    """What the replicas of a node have in common.

    Args:
        reading: The newest one that can be used; None if there is none.
        rate_rps: Answers of its replicas in a second; 0 if they are not known.
        mate: The replica whose newest answer is the newest of the node; None before the first one.
    """

    reading: Reading | None
    rate_rps: float
    mate: Replica | None


class Claim(NamedTuple):
    """How long a request takes, by a host's word; a tuple because each pick makes up to 16 of them.

    Attributes:
        service_s: At least 1 µs.
        variance: Of its logarithm, by what the reading is and how old.
    """

    service_s: float
    variance: float


def usable(reading: Reading | None, now_s: float) -> Reading | None:
    """Return a reading if it can be relied on at all: present, newer than 10 s, not blind, and not absurd."""
    if reading is None or reading.confidence is Confidence.BLIND or now_s - reading.taken_at_s > STALE_S:
        return None
    # Where a figure is no number, no comparison with it holds.
    is_sound = (
        0 <= (reading.page_ins_per_s or 0) <= ABSURD_PER_S
        and 0 <= (reading.pressure or 0) <= 1
        and 0 <= (reading.capacity_bytes or 0) < inf
        and 0 <= (reading.resident_bytes or 0) < inf
        and 0 <= (reading.evicted_bytes or 0) < inf
    )
    return reading if is_sound else None


def claimed(replica: Replica, node: Node, model: Model, *, compute_s: float, now_s: float) -> Claim | None:
    """Return what a request takes by what the host claims; None if it claims nothing that can be used.

    Pages are brought back on one path of the node, which whoever else waits for memory shares: so each costs
    more by the share of the time in which somebody does. Where nobody counts pages (TDX, SEV-SNP), work gets
    what of the time is left.

    Args:
        replica: Whose request it would be.
        node: Its node.
        model: The model's costs.
        compute_s: Without paging.
        now_s: The view's.
    """
    own = usable(replica.own, now_s)
    reading = own or node.reading
    if reading is None:
        return None
    variance = READING_VARIANCE + DRIFT_PER_S * max(0.0, now_s - reading.taken_at_s)
    pressure = 0.0 if node.reading is None else node.reading.pressure or 0.0
    rate_rps = replica.rate_rps or 0.0
    if own is not None and own.page_ins_per_s is not None and rate_rps >= LEAST_RATE_RPS:
        pages: float | None = own.page_ins_per_s / rate_rps
        # Of n answers' paging the mean is known to about one in the root of n.
        variance += 1 / max(1.0, rate_rps * own.span_s)
    else:
        pages = _pages_otherwise(own, node, model)
    if pages is not None:
        return Claim(max(compute_s + pages * model.page_cost_s * (1 + pressure), LEAST_S), variance)
    if node.reading is None or node.reading.pressure is None:
        return None
    return Claim(max(compute_s / (1 - min(pressure, PRESSURE_LIMIT)), LEAST_S), variance)


def _pages_otherwise(own: Reading | None, node: Node, model: Model) -> float | None:
    """Return pages per request where the server's own paging cannot be divided by its answers.

    1. Of a server that rests on a node without room, what it lacks of its hot set: a set that rests is pushed
       out. If the node has room, the first request brings it back for all that follow: not held against them.
    2. Else the lesser of two that are both too much: the node's paging over its answers, which is more than
       the truth where others page too, and the curve at the node's headroom, which knows nothing of who
       pages.
    """
    reading = node.reading
    if reading is None:
        return None
    headroom = headroom_of(reading)
    by_curve = None if model.curve is None or headroom is None else model.curve.pages(headroom)
    if own is not None and headroom is not None and model.hot_set_bytes is not None:
        fits = headroom >= FITS_HEADROOM
        return 0.0 if fits else DISPLACING * _lacking_pages(own, model.hot_set_bytes)  # (1)
    if reading.page_ins_per_s is None or node.rate_rps < LEAST_RATE_RPS:
        return by_curve
    by_node = reading.page_ins_per_s / node.rate_rps
    return by_node if by_curve is None else min(by_curve, by_node)  # (2)


def _lacking_pages(own: Reading, hot_set_bytes: int) -> float:
    """Return how much of a hot set is not resident, by a server's own reading; at most what was evicted."""
    lacking_bytes = hot_set_bytes - (own.resident_bytes or 0)
    if own.evicted_bytes is not None:
        lacking_bytes = min(lacking_bytes, own.evicted_bytes)
    return max(0, lacking_bytes) / PAGE_BYTES
