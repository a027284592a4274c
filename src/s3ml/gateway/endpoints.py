"""Endpoint files: who is in a cluster, and with what weight; told to Envoy by renaming a file.

Envoy watches the folder. It ignores a write in place and keeps the old list when a new one is malformed, so
every file is complete before it gets its name.

Source: Envoy, "Endpoint discovery service" and `core.v3.PathConfigSource`; docs/adr/0004-gateway-settings.md.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3ml.gateway.config import parse_address
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.files import write_atomically

WEIGHT_LIMIT = 1_000_000
"""The largest weight; Envoy adds those of a cluster up in 32 bits."""
NODE_METADATA = "s3ml"
"""Under which name an endpoint's metadata says its node."""

_LOAD_ASSIGNMENT = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One member of a cluster.

    Args:
        address: ``ip:port``.
        weight: 1 to a million, beside those of the others; None leaves all alike.
        node: The host that it runs on; goes along as metadata.

    Raises:
        ConfigurationError: an address that is no ``ip:port``, or a weight out of bounds: Envoy would refuse
            the whole file.
    """

    address: str
    weight: int | None = None
    node: str | None = None

    def __post_init__(self) -> None:
        parse_address(self.address)
        if self.weight is not None and not 1 <= self.weight <= WEIGHT_LIMIT:
            raise ConfigurationError(f"endpoint: weight: expected 1 to {WEIGHT_LIMIT}, got {self.weight}")


def endpoints(cluster: str, members: Iterable[Endpoint | str]) -> dict[str, Any]:
    """Render the endpoint file of `cluster`.

    Args:
        cluster: The name that the bootstrap gives to the cluster.
        members: Endpoints, or plain ``ip:port``; none at all is allowed and answers 503. Of several with the
            same address the first counts.

    Raises:
        ConfigurationError: an address that is no ``ip:port``.
    """
    found: dict[str, Endpoint] = {}
    for member in members:
        endpoint = Endpoint(address=member) if isinstance(member, str) else member
        found.setdefault(endpoint.address, endpoint)
    assignment = {
        "@type": _LOAD_ASSIGNMENT,
        "cluster_name": cluster,
        "endpoints": [{"lb_endpoints": [_rendered(endpoint) for endpoint in found.values()]}],
    }
    return {"resources": [assignment]}


def write_endpoints(folder: Path, cluster: str, members: Iterable[Endpoint | str]) -> None:
    """Put the endpoint file of `cluster` in its place in `folder`, which Envoy watches.

    It is renewed several times a second, so nothing waits for the disk: after a crash of the machine Envoy
    starts anew as well.

    Raises:
        ConfigurationError: an address that is no ``ip:port``, or a folder that cannot be written.
    """
    rendered = json.dumps(endpoints(cluster, members)).encode()
    write_atomically(folder / f"{cluster}.json", rendered, is_durable=False)


def _rendered(endpoint: Endpoint) -> dict[str, Any]:
    host, port = parse_address(endpoint.address)
    rendered: dict[str, Any] = {
        "endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}
    }
    if endpoint.weight is not None:
        rendered["load_balancing_weight"] = endpoint.weight
    if endpoint.node is not None:
        rendered["metadata"] = {"filter_metadata": {NODE_METADATA: {"node": endpoint.node}}}
    return rendered
