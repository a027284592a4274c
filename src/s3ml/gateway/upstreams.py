"""The servers behind the gateway as Envoy sees them: who is healthy, and what each was sent and answered.

Parsed into exact types from the admin interface's own form; informative, nothing trusts it.

Source: Envoy, `envoy.admin.v3.Clusters`; "Cluster manager, per-host statistics".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from s3ml.gateway.admin import query_bytes
from s3ml.primitives.errors import UnavailableError

_PATH = "/clusters?format=json"
_HEALTHY = "HEALTHY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """One server as the gateway sees it.

    Args:
        address: ``ip:port``.
        is_healthy: Whether it gets requests.
        requests: How many it was sent since it is known, health checks aside.
        in_flight: How many of them it has not answered.
        succeeded: How many it answered with anything but an error of its own.
        failed: How many it answered with one (5xx), or lost.
    """

    address: str
    is_healthy: bool
    requests: int
    in_flight: int = 0
    succeeded: int = 0
    failed: int = 0


class _SocketAddress(msgspec.Struct):
    address: str
    port_value: int


class _Address(msgspec.Struct):
    # None for what listens on a Unix socket, which no replica does.
    socket_address: _SocketAddress | None = None


class _Stat(msgspec.Struct):
    name: str
    # A 64-bit number is a text in protobuf's JSON; 0 is left out.
    value: str | int = 0


class _Host(msgspec.Struct):
    address: _Address
    stats: tuple[_Stat, ...] = ()
    health_status: dict[str, Any] = {}


class _Cluster(msgspec.Struct):
    name: str
    host_statuses: tuple[_Host, ...] = ()


class _Clusters(msgspec.Struct):
    cluster_statuses: tuple[_Cluster, ...] = ()


_DECODER = msgspec.json.Decoder(_Clusters)


def decode_upstreams(body: bytes) -> Mapping[str, tuple[Upstream, ...]]:
    """Parse what Envoy's admin interface says of its clusters.

    Args:
        body: From the operator's own Envoy.

    Returns:
        The members of each cluster, in the order of their addresses.

    Raises:
        UnavailableError: it is no such document.
    """
    try:
        clusters = _DECODER.decode(body).cluster_statuses
        return {
            cluster.name: tuple(sorted(_upstreams(cluster), key=lambda found: found.address))
            for cluster in clusters
        }
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise UnavailableError("gateway: expected Envoy's clusters as JSON, got something else") from error


def read_clusters(folder: Path) -> Mapping[str, tuple[Upstream, ...]]:
    """Read the members of all clusters as the running gateway of `folder` sees them.

    Raises:
        UnavailableError: the gateway does not run, or answered something else.
    """
    return decode_upstreams(query_bytes(folder, _PATH))


def read_upstreams(folder: Path, cluster: str) -> tuple[Upstream, ...]:
    """Read the members of `cluster` as the running gateway sees them, in the order of their addresses.

    Raises:
        UnavailableError: the gateway does not run.
    """
    return read_clusters(folder).get(cluster, ())


def _upstreams(cluster: _Cluster) -> list[Upstream]:
    return [
        _upstream(host, host.address.socket_address)
        for host in cluster.host_statuses
        if host.address.socket_address is not None
    ]


def _upstream(host: _Host, address: _SocketAddress) -> Upstream:
    name, port = address.address, address.port_value
    health = host.health_status
    is_failed = any(
        value is True and key.startswith(("failed_", "pending_")) for key, value in health.items()
    )
    counters = {stat.name: int(stat.value) for stat in host.stats}
    return Upstream(
        address=f"[{name}]:{port}" if ":" in name else f"{name}:{port}",
        is_healthy=not is_failed and health.get("eds_health_status", _HEALTHY) == _HEALTHY,
        requests=counters.get("rq_total", 0),
        in_flight=counters.get("rq_active", 0),
        succeeded=counters.get("rq_success", 0),
        failed=counters.get("rq_error", 0),
    )
