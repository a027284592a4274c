"""Routes and headers: the few paths that lead anywhere, and the headers that never get in.

Anything that is not listed here answers 404. Headers that steer Envoy, claim an origin or follow a caller
are removed before the first routing decision; what Envoy would add of the kind is removed on the way out.

Source: docs/adr/0004-gateway-settings.md.
"""

import json
from typing import Any

from s3ml.gateway.config import KEY_SERVICE_CLUSTER, GatewayConfig, service_cluster
from s3ml.gateway.picking import DESTINATION, UNPICKED
from s3ml.gateway.rendering import TYPE, seconds

KEY_SERVICE_PREFIX = "/keyservice"
KEY_SERVICE_ROUTES = (
    ("GET", "/v1/deployment"),
    ("GET", "/v1/authority"),
    ("GET", "/v1/status"),
    ("GET", "/v1/resources"),
    ("GET", "/v1/checkpoint"),
    ("GET", "/v1/entries"),
    ("GET", "/v1/audit"),
    ("POST", "/v1/trust-bundle"),
    ("POST", "/v1/genesis"),
    ("POST", "/v1/control"),
    ("GET", "/v1/recovery/shares"),
)

STRIPPED_PREFIXES = ("x-envoy-", "x-forwarded-", "x-gateway-", "x-s3ml-", "x-b3-")
STRIPPED_HEADERS = (
    "b3",
    "cookie",
    "forwarded",
    "traceparent",
    "tracestate",
    "true-client-ip",
    "via",
    "x-client-trace-id",
    "x-dest",
    "x-ot-span-context",
    "x-real-ip",
    "x-request-id",
)
# What Envoy itself would tell a replica of the caller.
ADDED_BY_ENVOY = (
    "x-envoy-attempt-count",
    "x-envoy-external-address",
    "x-envoy-internal",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-request-id",
)

# Only what was not sent: a sealed request that a replica saw must be sealed afresh by its client.
RETRY_ON = "connect-failure,refused-stream,reset-before-request"
# Every route of the key service here may be sent twice; a replica that does not serve says 503.
KEY_SERVICE_RETRY_ON = f"{RETRY_ON},retriable-status-codes"
_NOT_SERVING = 503
# A dead replica has the fewest requests in flight, so least-request draws it in three draws of four when
# there are two: after 8 draws one retry in ten would go back to it, after 32 one in ten thousand.
HOST_SELECTION_ATTEMPTS = 32

_PREVIOUS_HOSTS = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
_MUTATION = "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"


def route_configuration(config: GatewayConfig) -> dict[str, Any]:
    """Render the routes of `config`, with 404 for all else."""
    services = [
        _route(config, "POST", f"/services/{service}/ohttp", service_cluster(service))
        for service in config.services
    ]
    key_service = [
        _route(config, method, KEY_SERVICE_PREFIX + path, KEY_SERVICE_CLUSTER, rewrite=path)
        for method, path in KEY_SERVICE_ROUTES
    ]
    return {
        "name": "edge",
        "request_headers_to_remove": [*ADDED_BY_ENVOY, DESTINATION],
        "virtual_hosts": [
            {"name": "edge", "domains": ["*"], "routes": [*services, *key_service, _nothing_here(config)]}
        ],
    }


def stripped_headers() -> list[dict[str, Any]]:
    """Render the removal of all headers from outside that steer, claim an origin or follow a caller."""
    exact = [{"remove": name} for name in STRIPPED_HEADERS]
    prefixed = [{"remove_on_match": {"key_matcher": {"prefix": prefix}}} for prefix in STRIPPED_PREFIXES]
    return [
        {
            "name": "envoy.http.early_header_mutation.header_mutation",
            "typed_config": {"@type": TYPE + _MUTATION, "mutations": [*exact, *prefixed]},
        }
    ]


def _route(
    config: GatewayConfig, method: str, path: str, cluster: str, *, rewrite: str | None = None
) -> dict[str, Any]:
    action: dict[str, Any] = {
        "cluster": cluster,
        "timeout": seconds(config.request_timeout_s),
        "retry_policy": _retry_policy(config, is_key_service=cluster == KEY_SERVICE_CLUSTER),
        "cluster_not_found_response_code": "SERVICE_UNAVAILABLE",
    }
    if rewrite is not None:
        action["prefix_rewrite"] = rewrite
    is_picked = config.picker is not None and cluster != KEY_SERVICE_CLUSTER
    method_matcher = {"name": ":method", "string_match": {"exact": method}}
    return {
        "match": {"path": path, "headers": [method_matcher]},
        "route": action,
        "request_body_buffer_limit": config.max_request_bytes,
        **({} if config.picker is None or is_picked else UNPICKED),
    }


def _retry_policy(config: GatewayConfig, *, is_key_service: bool) -> dict[str, Any]:
    return {
        "retry_on": KEY_SERVICE_RETRY_ON if is_key_service else RETRY_ON,
        "retriable_status_codes": [_NOT_SERVING] if is_key_service else [],
        "num_retries": config.retries,
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {"@type": TYPE + _PREVIOUS_HOSTS},
            }
        ],
        "host_selection_retry_max_attempts": HOST_SELECTION_ATTEMPTS,
        "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.05s"},
    }


def _nothing_here(config: GatewayConfig) -> dict[str, Any]:
    body = json.dumps({"error": "not found: no such service or path behind this gateway"})
    return {
        "match": {"prefix": "/"},
        **({} if config.picker is None else UNPICKED),
        "direct_response": {"status": 404, "body": {"inline_string": body}},
        "response_headers_to_add": [
            {
                "header": {"key": "content-type", "value": "application/json"},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ],
    }
