"""Endpoint files: who is in a cluster, told to Envoy by renaming a file into the folder it watches.

Envoy ignores a write in place and keeps the old list when a new one is malformed, so every file is complete
before it gets its name.

Source: Envoy, "Endpoint discovery service" and `core.v3.PathConfigSource`; docs/adr/0004-gateway-settings.md.
"""

import json
from collections.abc import Iterable
from typing import Any

from s3ml.gateway.config import GatewayConfig, parse_address
from s3ml.primitives.files import write_atomically

_LOAD_ASSIGNMENT = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"


def endpoints(cluster: str, addresses: Iterable[str]) -> dict[str, Any]:
    """Render the endpoint file of `cluster`.

    Args:
        cluster: The name that the bootstrap gives to the cluster.
        addresses: Each ``ip:port``; none at all is allowed and answers 503.

    Raises:
        ConfigurationError: an address that is no ``ip:port``.
    """
    members = []
    for address in dict.fromkeys(addresses):
        host, port = parse_address(address)
        members.append({"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}})
    assignment = {
        "@type": _LOAD_ASSIGNMENT,
        "cluster_name": cluster,
        "endpoints": [{"lb_endpoints": members}],
    }
    return {"resources": [assignment]}


def write_endpoints(config: GatewayConfig, cluster: str, addresses: Iterable[str]) -> None:
    """Put the endpoint file of `cluster` in its place.

    Raises:
        ConfigurationError: an address that is no ``ip:port``, or a folder that cannot be written.
    """
    rendered = json.dumps(endpoints(cluster, addresses)).encode()
    write_atomically(config.endpoints_folder / f"{cluster}.json", rendered)
