"""Clusters: how Envoy finds, checks and loads the servers behind it.

A server that stopped answering leaves after two missed checks, and a server that answers "not ready" at once;
a new one enters with its first successful check. Panic routing is off: an unready replica has no keys, so
nothing is ever sent to it.

Source: Envoy, "Health checking", "Outlier detection", "Circuit breaking"; docs/adr/0004-gateway-settings.md.
"""

from typing import Any

from s3ml.gateway.config import KEY_SERVICE_CLUSTER, GatewayConfig, service_cluster
from s3ml.gateway.picking import override_host, picker_cluster
from s3ml.gateway.rendering import TYPE, seconds

READY_PATH = "/v2/health/ready"
# Alive, not ready: a key service without a deployment must still be reachable for its genesis.
KEY_SERVICE_ALIVE_PATH = "/livez"

_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_CONCURRENT_RETRIES = 128


def clusters(config: GatewayConfig) -> list[dict[str, Any]]:
    """Render the cluster of the key service and one cluster per service."""
    services = [_cluster(config, service_cluster(service), READY_PATH) for service in config.services]
    pickers = [] if config.picker is None else [picker_cluster(config.picker)]
    if config.picker is not None:
        for service in services:
            override_host(service)
    return [_cluster(config, KEY_SERVICE_CLUSTER, KEY_SERVICE_ALIVE_PATH), *services, *pickers]


def _cluster(config: GatewayConfig, name: str, health_path: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "EDS",
        "eds_cluster_config": {"eds_config": _endpoint_source(config, name)},
        "connect_timeout": seconds(config.connect_timeout_s),
        "lb_policy": "LEAST_REQUEST",
        "least_request_lb_config": {"choice_count": 2},
        "common_lb_config": {
            "healthy_panic_threshold": {"value": 0},
            "ignore_new_hosts_until_first_hc": True,
            # By default a change of health waits up to a second for others to join it.
            "update_merge_window": "0s",
        },
        "ignore_health_on_host_removal": True,
        "health_checks": [_health_check(config, health_path)],
        "outlier_detection": _outlier_detection(),
        "circuit_breakers": {
            "thresholds": [
                {
                    "max_connections": config.max_connections,
                    "max_pending_requests": config.max_connections,
                    "max_requests": config.max_connections,
                    "max_retries": _CONCURRENT_RETRIES,
                }
            ]
        },
        "per_connection_buffer_limit_bytes": config.max_request_bytes,
        "typed_extension_protocol_options": {_HTTP_OPTIONS: _http_options(config)},
    }


def _endpoint_source(config: GatewayConfig, name: str) -> dict[str, Any]:
    folder = config.endpoints_folder
    return {
        "resource_api_version": "V3",
        "path_config_source": {
            "path": str(folder / f"{name}.json"),
            "watched_directory": {"path": str(folder)},
        },
    }


def _health_check(config: GatewayConfig, path: str) -> dict[str, Any]:
    interval = seconds(config.health_interval_s)
    return {
        "timeout": seconds(config.health_timeout_s),
        "interval": interval,
        "no_traffic_interval": interval,
        "no_traffic_healthy_interval": interval,
        "unhealthy_interval": interval,
        "unhealthy_edge_interval": interval,
        "interval_jitter_percent": 10,
        # Missed checks are counted; an answer other than 200 removes the server at once.
        "unhealthy_threshold": 2,
        "healthy_threshold": 1,
        "http_health_check": {"path": path, "host": "gateway.invalid"},
    }


def _outlier_detection() -> dict[str, Any]:
    """Eject a server that fails requests between two checks; a successful check takes it back."""
    return {
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": 2,
        "enforcing_consecutive_local_origin_failure": 100,
        "consecutive_gateway_failure": 5,
        "enforcing_consecutive_gateway_failure": 100,
        "enforcing_consecutive_5xx": 0,
        "enforcing_success_rate": 0,
        "enforcing_local_origin_success_rate": 0,
        "enforcing_failure_percentage": 0,
        "interval": "0.5s",
        "base_ejection_time": "1s",
        "max_ejection_time": "10s",
        "max_ejection_percent": 50,
    }


def _http_options(config: GatewayConfig) -> dict[str, Any]:
    return {
        "@type": TYPE + _HTTP_OPTIONS,
        "explicit_http_config": {"http_protocol_options": {}},
        "common_http_protocol_options": {"idle_timeout": seconds(config.upstream_idle_timeout_s)},
    }
