"""What a balancer tells of itself: which policy decides, what it sees, and what follows for each replica.

For operators; informative. The kind of each reading goes along: what is EMULATED or SIMULATED says so.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from s3ml.scheduling.balancer.fleet import Fleet
from s3ml.scheduling.balancer.view import Reason, Shares, View
from s3ml.tee_memory.reading import Reading

MS_PER_S = 1000.0


class ReplicaStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One replica: what is seen of it, and what it gets of the requests, and why."""

    name: str
    node: str
    address: str
    is_ready: bool
    in_flight: int
    latency_ms: float | None
    error_share: float
    share: float
    weight: int
    reason: Reason


class ServiceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One service; `is_fallback` while its readings could not be relied on."""

    service: str
    is_fallback: bool
    replicas: tuple[ReplicaStatus, ...]


class NodeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One node's newest reading; all but the name is None before the first one."""

    node: str
    kind: str | None = None
    source: str | None = None
    age_s: float | None = None
    capacity_bytes: int | None = None
    resident_bytes: int | None = None
    evicted_bytes: int | None = None
    page_ins_per_s: float | None = None
    page_outs_per_s: float | None = None
    pressure: float | None = None
    confidence: str | None = None


class BalancerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A balancer at an instant."""

    policy: str
    policies: tuple[str, ...]
    steering: str
    is_gateway_lost: bool
    services: tuple[ServiceStatus, ...]
    nodes: tuple[NodeStatus, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What one step of one service came to.

    Args:
        view: What was seen.
        shares: What the policy said.
        weights: What the gateway was told.
    """

    view: View
    shares: Shares
    weights: Mapping[str, int]

    @property
    def is_fallback(self) -> bool:
        """Whether the policy did without its readings."""
        return Reason.FELL_BACK in self.shares.reasons.values()


def service_status(service: str, fleet: Fleet, decided: Decided | None) -> ServiceStatus:
    """Describe one service by what its last step saw."""
    if decided is None:
        return ServiceStatus(service=service, is_fallback=False, replicas=())
    replicas = tuple(
        ReplicaStatus(
            name=replica.name,
            node=replica.node,
            address=fleet.address_of(replica.name) or "",
            is_ready=replica.is_ready,
            in_flight=replica.in_flight,
            latency_ms=None if replica.latency_s is None else replica.latency_s * MS_PER_S,
            error_share=replica.error_share,
            share=decided.shares.share.get(replica.name, 0.0),
            weight=decided.weights.get(replica.name, 0),
            reason=decided.shares.reasons.get(replica.name, Reason.NOT_READY),
        )
        for replica in decided.view.replicas
    )
    return ServiceStatus(service=service, is_fallback=decided.is_fallback, replicas=replicas)


def node_status(node: str, reading: Reading | None, now_s: float) -> NodeStatus:
    """Describe one node."""
    if reading is None:
        return NodeStatus(node=node)
    return NodeStatus(
        node=node,
        kind=str(reading.kind),
        source=reading.source,
        age_s=reading.age_s(now_s),
        capacity_bytes=reading.capacity_bytes,
        resident_bytes=reading.resident_bytes,
        evicted_bytes=reading.evicted_bytes,
        page_ins_per_s=reading.page_ins_per_s,
        page_outs_per_s=reading.page_outs_per_s,
        pressure=reading.pressure,
        confidence=str(reading.confidence),
    )
