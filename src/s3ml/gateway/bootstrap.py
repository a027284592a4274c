"""Envoy's bootstrap, rendered: one listener, one route table, a cluster per service, an admin socket.

Pure: the same settings give the same document. There is no access log, so neither bodies nor callers are
written anywhere.

Source: Envoy, `envoy.config.bootstrap.v3.Bootstrap`; docs/adr/0004-gateway-settings.md.
"""

import json
from typing import Any

from s3ml.gateway.clusters import clusters
from s3ml.gateway.config import GatewayConfig
from s3ml.gateway.picking import picker_filter
from s3ml.gateway.rendering import TYPE, seconds
from s3ml.gateway.routes import route_configuration, stripped_headers

LISTENER = "edge"
# Relative to Envoy's working directory, the gateway's folder: a socket's path has room for 107 bytes only.
ADMIN_SOCKET = "admin.sock"

_MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_BUFFER = "envoy.extensions.filters.http.buffer.v3.Buffer"
_ROUTER = "envoy.extensions.filters.http.router.v3.Router"
_MAX_CONNECTIONS = "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"
_FIXED_HEAP = "envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig"
_CALLER_IDLE_S = 75.0
_HEADERS_TIMEOUT_S = 10.0


def bootstrap(config: GatewayConfig) -> dict[str, Any]:
    """Render the whole bootstrap of `config` as a JSON-ready document."""
    return {
        "node": {"id": "gateway", "cluster": "s3ml"},
        "admin": {"address": {"pipe": {"path": ADMIN_SOCKET, "mode": 0o600}}},
        "static_resources": {"listeners": [_listener(config)], "clusters": clusters(config)},
        "overload_manager": _overload_manager(config),
    }


def _listener(config: GatewayConfig) -> dict[str, Any]:
    return {
        "name": LISTENER,
        "address": {"socket_address": {"address": config.listen_host, "port_value": config.listen_port}},
        # Otherwise a second gateway would silently share the port.
        "enable_reuse_port": False,
        "per_connection_buffer_limit_bytes": config.max_request_bytes,
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": _connection_manager(config),
                    }
                ]
            }
        ],
    }


def _connection_manager(config: GatewayConfig) -> dict[str, Any]:
    return {
        "@type": TYPE + _MANAGER,
        "stat_prefix": LISTENER,
        "codec_type": "AUTO",
        "server_name": "s3ml",
        "use_remote_address": True,
        "skip_xff_append": True,
        "generate_request_id": False,
        "normalize_path": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
        "common_http_protocol_options": {
            "idle_timeout": seconds(_CALLER_IDLE_S),
            "headers_with_underscores_action": "REJECT_REQUEST",
        },
        "request_timeout": seconds(config.request_timeout_s),
        "request_headers_timeout": seconds(_HEADERS_TIMEOUT_S),
        "stream_idle_timeout": seconds(config.request_timeout_s),
        "early_header_mutation_extensions": stripped_headers(),
        "route_config": route_configuration(config),
        "local_reply_config": _local_replies(),
        "http_filters": _filters(config),
    }


def _filters(config: GatewayConfig) -> list[dict[str, Any]]:
    """Read a request whole before a replica is chosen: a slow caller then occupies no replica."""
    buffer = {"@type": TYPE + _BUFFER, "max_request_bytes": config.max_request_bytes}
    router = {"@type": TYPE + _ROUTER, "suppress_envoy_headers": True}
    return [
        {"name": "envoy.filters.http.buffer", "typed_config": buffer},
        *([] if config.picker is None else [picker_filter(config.picker)]),
        {"name": "envoy.filters.http.router", "typed_config": router},
    ]


def _local_replies() -> dict[str, Any]:
    """Give what Envoy answers by itself one short JSON body.

    Without Retry-After: its least is a second, and a replica may be ready long before.
    """
    no_replica = {"error": "unavailable: no replica is ready"}
    error = {"error": "%LOCAL_REPLY_BODY%"}
    return {
        "mappers": [
            {
                "filter": {"response_flag_filter": {"flags": ["UH"]}},
                "body_format_override": {
                    "text_format_source": {"inline_string": json.dumps(no_replica)},
                    "content_type": "application/json",
                },
            },
            # A direct response brings its own body.
            {
                "filter": {
                    "status_code_filter": {
                        "comparison": {"op": "EQ", "value": {"default_value": 404, "runtime_key": "s3ml.404"}}
                    }
                },
                "body_format_override": {
                    "text_format_source": {"inline_string": "%LOCAL_REPLY_BODY%"},
                    "content_type": "application/json",
                },
            },
        ],
        "body_format": {"json_format": error, "content_type": "application/json"},
    }


def _overload_manager(config: GatewayConfig) -> dict[str, Any]:
    connections = {
        "@type": TYPE + _MAX_CONNECTIONS,
        "max_active_downstream_connections": config.max_connections,
    }
    heap = {"@type": TYPE + _FIXED_HEAP, "max_heap_size_bytes": config.memory_limit_bytes}
    heap_name = "envoy.resource_monitors.fixed_heap"
    return {
        "refresh_interval": "0.25s",
        "resource_monitors": [
            {
                "name": "envoy.resource_monitors.global_downstream_max_connections",
                "typed_config": connections,
            },
            {"name": heap_name, "typed_config": heap},
        ],
        "actions": [
            {
                "name": "envoy.overload_actions.stop_accepting_requests",
                "triggers": [{"name": heap_name, "threshold": {"value": 0.95}}],
            }
        ],
    }
