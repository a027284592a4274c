"""How Envoy asks an endpoint picker: a filter that sends headers only, and clusters that heed the answer.

The picker gets a request's path and its response's status, and nothing else of either: bodies are sealed, and
headers may follow a caller. Where it does not answer, requests go on by weights, or fail, as configured.

Source: Envoy, "External processing", "Override host load balancing policy"; Gateway API inference extension,
proposal 004; docs/spec/endpoint-picker.md.
"""

from typing import Any

from s3ml.gateway.config import Picker, parse_address
from s3ml.gateway.rendering import TYPE, seconds

PICKER_CLUSTER = "endpoint-picker"
DESTINATION = "x-gateway-destination-endpoint"
SERVED = "x-gateway-destination-endpoint-served"
NAMESPACE = "envoy.lb"
SUBSET_NAMESPACE = "envoy.lb.subset_hint"

_FILTER = "envoy.filters.http.ext_proc"
_EXT_PROC = "envoy.extensions.filters.http.ext_proc.v3"
_POLICIES = "envoy.extensions.load_balancing_policies"
_SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_HEALTH_INTERVAL_S = 0.5
_CONNECT_TIMEOUT_S = 0.2
_REQUESTS_LIMIT = 4096

UNPICKED: dict[str, Any] = {
    "typed_per_filter_config": {_FILTER: {"@type": f"{TYPE}{_EXT_PROC}.ExtProcPerRoute", "disabled": True}}
}
"""What a route says whose requests nobody picks a destination for."""


def picker_filter(picker: Picker) -> dict[str, Any]:
    """Render the filter that asks `picker`, to stand right before the router."""
    return {
        "name": _FILTER,
        "typed_config": {
            "@type": f"{TYPE}{_EXT_PROC}.ExternalProcessor",
            "grpc_service": {"envoy_grpc": {"cluster_name": PICKER_CLUSTER}},
            "failure_mode_allow": picker.is_failing_open,
            "message_timeout": seconds(picker.timeout_s),
            "processing_mode": {
                "request_header_mode": "SEND",
                "response_header_mode": "SEND",
                "request_body_mode": "NONE",
                "response_body_mode": "NONE",
                "request_trailer_mode": "SKIP",
                "response_trailer_mode": "SKIP",
            },
            "forward_rules": {"allowed_headers": {"patterns": [{"exact": ":path"}, {"exact": ":status"}]}},
            "metadata_options": {
                "forwarding_namespaces": {"untyped": [NAMESPACE, SUBSET_NAMESPACE]},
                "receiving_namespaces": {"untyped": [NAMESPACE]},
            },
            "mutation_rules": {
                "disallow_all": {"value": True},
                "allow_expression": {"regex": f"^{DESTINATION}$", "google_re2": {}},
            },
        },
    }


def picker_cluster(picker: Picker) -> dict[str, Any]:
    """Render the cluster that `picker` is; its health is asked for: one that hangs then delays no request."""
    host, port = parse_address(picker.address)
    address = {"socket_address": {"address": host, "port_value": port}}
    return {
        "name": PICKER_CLUSTER,
        "type": "STATIC",
        "connect_timeout": seconds(_CONNECT_TIMEOUT_S),
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}, "update_merge_window": "0s"},
        "load_assignment": {
            "cluster_name": PICKER_CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
        "health_checks": [
            {
                "timeout": seconds(picker.timeout_s),
                "interval": seconds(_HEALTH_INTERVAL_S),
                "no_traffic_interval": seconds(_HEALTH_INTERVAL_S),
                "unhealthy_interval": seconds(_HEALTH_INTERVAL_S),
                "unhealthy_threshold": 1,
                "healthy_threshold": 1,
                "grpc_health_check": {"service_name": _SERVICE},
            }
        ],
        "circuit_breakers": {
            "thresholds": [{"max_pending_requests": _REQUESTS_LIMIT, "max_requests": _REQUESTS_LIMIT}]
        },
        "typed_extension_protocol_options": {
            _HTTP_OPTIONS: {
                "@type": TYPE + _HTTP_OPTIONS,
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
    }


def override_host(cluster: dict[str, Any]) -> None:
    """Let the cluster send a request where the picker said; by its own policy where it said nothing of use.

    The answer is taken from metadata, which callers cannot set; the header of the same name is for other
    gateways.
    """
    choices = cluster.pop("least_request_lb_config")
    del cluster["lb_policy"]
    least_request = {"@type": f"{TYPE}{_POLICIES}.least_request.v3.LeastRequest", **choices}
    fallback = {"name": "envoy.load_balancing_policies.least_request", "typed_config": least_request}
    override = {
        "@type": f"{TYPE}{_POLICIES}.override_host.v3.OverrideHost",
        "override_host_sources": [{"metadata": _metadata_key(DESTINATION)}],
        "selected_host_key": _metadata_key(SERVED),
        "fallback_policy": {"policies": [{"typed_extension_config": fallback}]},
    }
    named = {"name": "envoy.load_balancing_policies.override_host", "typed_config": override}
    cluster["load_balancing_policy"] = {"policies": [{"typed_extension_config": named}]}


def _metadata_key(key: str) -> dict[str, Any]:
    return {"key": NAMESPACE, "path": [{"key": key}]}
