"""The gateway: Envoy before the replicas, configured by pure functions, run as one process.

It routes sealed requests that it cannot read. It is trusted with nothing but availability.
"""

from s3ml.gateway.bootstrap import bootstrap
from s3ml.gateway.config import (
    KEY_SERVICE_CLUSTER,
    GatewayConfig,
    Picker,
    endpoints_folder,
    parse_address,
    service_cluster,
)
from s3ml.gateway.endpoints import Endpoint, endpoints, write_endpoints
from s3ml.gateway.process import EnvoyGateway, envoy_binary
from s3ml.gateway.statistics import GatewayStatistics
from s3ml.gateway.upstreams import Upstream, decode_upstreams, read_clusters

__all__ = [
    "KEY_SERVICE_CLUSTER",
    "Endpoint",
    "EnvoyGateway",
    "GatewayConfig",
    "GatewayStatistics",
    "Picker",
    "Upstream",
    "bootstrap",
    "decode_upstreams",
    "endpoints",
    "endpoints_folder",
    "envoy_binary",
    "parse_address",
    "read_clusters",
    "service_cluster",
    "write_endpoints",
]
