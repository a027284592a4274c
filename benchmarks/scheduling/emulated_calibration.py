"""What the emulated fleet's model costs, measured on one node of it: the parameters of the experiments.

Compute time, hot set, cost of a page, pages per request against headroom, and the paging rate above which the
latency objective is missed: from this the policies get what a profile would tell them, and a simulation of
the same size its parameters. EMULATED; no figure is one of SGX hardware.
"""

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import msgspec

from benchmarks.scheduling.children import Child
from benchmarks.scheduling.emulated_nodes import Node, Shape, Site
from benchmarks.scheduling.emulated_runs import Ask, Run, measure
from benchmarks.serving.processes import usage
from benchmarks.summaries import percentile
from s3ml.apps.profiling.paging import fit_page_cost
from s3ml.bundle.paging import PagingPoint
from s3ml.scheduling.model import PAGE_COST_S, Model
from s3ml.scheduling.paging import Sample, fit_curve, headroom_of, learn_limit
from s3ml.tee_memory.reading import PAGE_BYTES, compare

OBJECTIVE_S = 0.1
"""The latency that p99 shall stay under; about ten times that of an undisturbed request."""
HEADROOMS = (1.3, 1.1, 1.0, 0.95, 0.9, 0.8)
RATE_PER_S = 20.0
_SEED = 900


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """What requests cost at one size of the EPC.

    Args:
        size: The size over the hot set of all servers.
        limit_bytes: The size.
        sweeps_per_s: Of the antagonist; 0 where it rested.
        headroom: As a reading tells it: the size over all that is resident or evicted.
        page_ins_per_s: Of the whole node.
        pages_per_request: Brought back by the model servers.
        processor_s: Processor time of a request on a replica, the paging it caused included.
        requests: How many there were.
        unanswered: How many of them got no answer.
        mean_s: Latency in the mean.
        p50_s: Its median.
        p99_s: Its 99th percentile.
    """

    size: float
    limit_bytes: int
    sweeps_per_s: float
    headroom: float
    page_ins_per_s: float
    pages_per_request: float
    processor_s: float
    requests: int
    unanswered: int
    mean_s: float
    p50_s: float
    p99_s: float


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """What was found; read by the experiments and by simulations of the same size.

    Args:
        kind: Always "emulation".
        shape: Of the fleet, as `Shape`.
        rate_per_s: What one node was asked.
        objective_s: The latency aimed at.
        processor_s: Processor time of a request on a replica, nothing being short.
        compute_s: Its latency in the mean, in its node's share of a processor.
        hot_set_bytes: What one model server keeps in memory while it serves.
        page_cost_s: What a page adds to the processor time of a request; on a processor of its own that is
            what it adds to its latency.
        points: At sizes of the EPC, without and with the antagonist.
        model: What policies are told.
    """

    kind: str = "emulation"
    shape: dict[str, Any]
    rate_per_s: float
    objective_s: float
    processor_s: float
    compute_s: float
    hot_set_bytes: int
    page_cost_s: float
    points: tuple[Point, ...]
    model: Model


def calibrate(
    site: Site, load: Child, *, rate_per_s: float, sweeps_per_s: Sequence[float], lasting_s: float
) -> Calibration:
    """Measure on the only node of a site.

    Args:
        site: With one node.
        load: The process that makes the load.
        rate_per_s: What the node is asked.
        sweeps_per_s: The paces of the antagonist to measure beside its rest.
        lasting_s: Of each point.
    """
    node = site.nodes[0]
    node.epc.resize(1024 * 1024 * 1024)
    _point(site, load, rate_per_s, lasting_s)
    before_s = _used_s(node)
    free = _point(site, load, rate_per_s, lasting_s)
    processor_s = (_used_s(node) - before_s) / max(1, free.sent)
    node.epc.evict()
    _point(site, load, rate_per_s, lasting_s)
    hot_set_bytes = node.source.count().resident_bytes or 0
    points = []
    for size in HEADROOMS:
        node.epc.resize(_pages(hot_set_bytes * size))
        points.append(_measured(site, load, size=size, pace=0.0, rate_per_s=rate_per_s, lasting_s=lasting_s))
    node.epc.resize(site.shape.epc_bytes)
    for pace in sweeps_per_s:
        node.disturb(pace)
        size = site.shape.epc_bytes / hot_set_bytes
        points.append(_measured(site, load, size=size, pace=pace, rate_per_s=rate_per_s, lasting_s=lasting_s))
        node.disturb(0)
    calm = [one.latency_s for one in free.answers if one.latency_s is not None]
    return conclude(
        points,
        shape=site.shape,
        rate_per_s=rate_per_s,
        processor_s=processor_s,
        compute_s=statistics.mean(calm),
        hot_set_bytes=hot_set_bytes // len(node.replicas),
    )


def conclude(
    points: Sequence[Point],
    *,
    shape: Shape,
    rate_per_s: float,
    processor_s: float,
    compute_s: float,
    hot_set_bytes: int,
) -> Calibration:
    """Return what the points come to; pure."""
    page_cost_s = fit_page_cost([_as_profiled(one) for one in points], compute_s=processor_s) or PAGE_COST_S
    limit = learn_limit([(one.page_ins_per_s, one.p99_s) for one in points], objective_s=OBJECTIVE_S)
    curve = fit_curve([Sample(headroom=one.headroom, pages=one.pages_per_request) for one in points])
    model = Model(
        compute_s=compute_s,
        curve=curve,
        hot_set_bytes=hot_set_bytes,
        page_cost_s=page_cost_s,
        paging_limit_per_s=limit,
    )
    return Calibration(
        shape=asdict(shape),
        rate_per_s=rate_per_s,
        objective_s=OBJECTIVE_S,
        processor_s=processor_s,
        compute_s=compute_s,
        hot_set_bytes=hot_set_bytes,
        page_cost_s=page_cost_s,
        points=tuple(points),
        model=model,
    )


def _point(site: Site, load: Child, rate_per_s: float, lasting_s: float) -> Run:
    ask = Ask(rate_per_s=rate_per_s, cv=1.0, lasting_s=lasting_s, warmup_s=lasting_s / 4, seed=_SEED)
    return measure(site, load, ask)


def _measured(
    site: Site, load: Child, *, size: float, pace: float, rate_per_s: float, lasting_s: float
) -> Point:
    node: Node = site.nodes[0]
    before, before_s = node.source.count(), _used_s(node)
    run = _point(site, load, rate_per_s, lasting_s)
    reading = compare(node.source, before, node.source.count())
    found = run.latencies_s or [lasting_s]
    return Point(
        size=round(size, 3),
        limit_bytes=reading.capacity_bytes or 0,
        sweeps_per_s=pace,
        headroom=headroom_of(reading) or 0.0,
        page_ins_per_s=reading.page_ins_per_s or 0.0,
        pages_per_request=run.pages / max(1, len(run.answers)),
        processor_s=(_used_s(node) - before_s) / max(1, run.sent),
        requests=len(run.latencies_s),
        unanswered=run.unanswered,
        mean_s=statistics.mean(found),
        p50_s=percentile(found, 0.5),
        p99_s=percentile(found, 0.99),
    )


def _used_s(node: Node) -> float:
    used = usage([replica.child.pid for replica in node.replicas])
    return used.user_s + used.system_s


def _as_profiled(point: Point) -> PagingPoint:
    return PagingPoint(
        headroom=point.size,
        limit_bytes=point.limit_bytes,
        requests=max(1, point.requests),
        pages_per_request=point.pages_per_request,
        mean_s=point.processor_s,
        p50_s=point.p50_s,
        p99_s=point.p99_s,
    )


def _pages(size_bytes: float) -> int:
    return int(size_bytes) // PAGE_BYTES * PAGE_BYTES
