"""The gateway: Envoy before the replicas, configured by pure functions, run as one process.

It routes sealed requests that it cannot read. It is trusted with nothing but availability.
"""

from s3ml.gateway.bootstrap import bootstrap
from s3ml.gateway.config import KEY_SERVICE_CLUSTER, GatewayConfig, parse_address, service_cluster
from s3ml.gateway.endpoints import endpoints, write_endpoints
from s3ml.gateway.process import EnvoyGateway, envoy_binary
from s3ml.gateway.statistics import GatewayStatistics, Upstream

__all__ = [
    "KEY_SERVICE_CLUSTER",
    "EnvoyGateway",
    "GatewayConfig",
    "GatewayStatistics",
    "Upstream",
    "bootstrap",
    "endpoints",
    "envoy_binary",
    "parse_address",
    "service_cluster",
    "write_endpoints",
]
