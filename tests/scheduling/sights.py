"""Replicas, readings and views as tests need them."""

from collections.abc import Mapping
from typing import Any

from s3ml.scheduling.balancer.view import Replica, View
from s3ml.tee_memory.reading import PAGE_BYTES, Confidence, Kind, Reading

NOW_S = 100.0
HOT_PAGES = 1000
HOT_BYTES = HOT_PAGES * PAGE_BYTES


def replica(name: str, node: str = "", **changes: Any) -> Replica:
    """Return a ready replica that answers 20 requests in a second in 10 ms each, the newest one just now."""
    figures: dict[str, Any] = {
        "is_ready": True,
        "latency_s": 0.01,
        "service_s": 0.01,
        "rate_rps": 20.0,
        "answered_at_s": NOW_S,
    }
    return Replica(name=name, node=node or f"node of {name}", **(figures | changes))


def unmeasured(name: str, node: str = "", **changes: Any) -> Replica:
    """Return a replica that never answered."""
    figures: dict[str, Any] = {"is_ready": True}
    return Replica(name=name, node=node or f"node of {name}", **(figures | changes))


def reading(**changes: Any) -> Reading:
    """Return a reading of now, of a node that has room and pages nothing."""
    figures: dict[str, Any] = {
        "kind": Kind.SIMULATED,
        "source": "a test",
        "taken_at_s": NOW_S,
        "span_s": 1.0,
        "capacity_bytes": 4 * HOT_BYTES,
        "resident_bytes": 2 * HOT_BYTES,
        "evicted_bytes": 0,
        "page_ins_per_s": 0.0,
        "page_outs_per_s": 0.0,
        "pressure": 0.0,
        "confidence": Confidence.COUNTED,
    }
    return Reading(**(figures | changes))


def crowded(**changes: Any) -> Reading:
    """Return a reading of a node that lacks half of what is wanted there, and pages."""
    figures: dict[str, Any] = {
        "capacity_bytes": 2 * HOT_BYTES,
        "resident_bytes": 2 * HOT_BYTES,
        "evicted_bytes": 2 * HOT_BYTES,
        "page_ins_per_s": 20_000.0,
        "page_outs_per_s": 20_000.0,
    }
    return reading(**(figures | changes))


def view(*replicas: Replica, nodes: Mapping[str, Reading] | None = None, **changes: Any) -> View:
    """Return a view of now."""
    figures: dict[str, Any] = {"now_s": NOW_S, "replicas": replicas, "nodes": nodes or {}}
    return View(**(figures | changes))
