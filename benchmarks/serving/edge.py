"""One Envoy in front of all servers: a listener for each, with the filters of the product's own gateway.

A request is read whole before it goes on, as there.
"""

import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from s3ml.apps.cluster.process import is_port_free
from s3ml.gateway.process import envoy_binary
from s3ml.primitives.units import MIB

BODY_LIMIT_BYTES = 16 * MIB
_HOST = "127.0.0.1"
_DEADLINE_S = 30.0
_TYPE = "type.googleapis.com/envoy.extensions.filters."
_CONNECTIONS = 1024
_IDLE = "2s"


@contextmanager
def running(folder: Path, ports: Mapping[int, int], *, core: int) -> Iterator[int]:
    """Run Envoy on `core`, from each listening port to a server's port; give its process id."""
    config = folder / "edge.json"
    config.write_text(json.dumps(_bootstrap(ports)), encoding="utf-8")
    command = ["taskset", "-c", str(core), str(envoy_binary()), "--config-path", str(config)]
    command += ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    with subprocess.Popen(command, cwd=folder, start_new_session=True) as envoy:
        try:
            _wait(envoy, list(ports))
            yield envoy.pid
        finally:
            envoy.terminate()


def _wait(envoy: "subprocess.Popen[bytes]", ports: list[int]) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while any(map(is_port_free, ports)):
        if envoy.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("serving: Envoy did not start; what it printed is above")
        time.sleep(0.05)


def _bootstrap(ports: Mapping[int, int]) -> dict[str, Any]:
    return {
        "static_resources": {
            "listeners": [_listener(listening, target) for listening, target in ports.items()],
            "clusters": [_cluster(target) for target in ports.values()],
        }
    }


def _listener(listening: int, target: int) -> dict[str, Any]:
    route = {"match": {"prefix": "/"}, "route": {"cluster": f"to-{target}", "timeout": "60s"}}
    buffer = {"@type": _TYPE + "http.buffer.v3.Buffer", "max_request_bytes": BODY_LIMIT_BYTES}
    router = {"@type": _TYPE + "http.router.v3.Router", "suppress_envoy_headers": True}
    manager = {
        "@type": _TYPE + "network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": f"to-{target}",
        "generate_request_id": False,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {"name": "envoy.filters.http.buffer", "typed_config": buffer},
            {"name": "envoy.filters.http.router", "typed_config": router},
        ],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    return {
        "name": f"from-{listening}",
        "address": {"socket_address": {"address": _HOST, "port_value": listening}},
        "per_connection_buffer_limit_bytes": BODY_LIMIT_BYTES,
        "filter_chains": [{"filters": filters}],
    }


def _cluster(target: int) -> dict[str, Any]:
    address = {"socket_address": {"address": _HOST, "port_value": target}}
    endpoint = {"endpoint": {"address": address}}
    limits = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), _CONNECTIONS)
    options = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        # Less than any server waits before it closes a connection.
        "common_http_protocol_options": {"idle_timeout": _IDLE},
        "explicit_http_config": {"http_protocol_options": {}},
    }
    return {
        "name": f"to-{target}",
        "type": "STATIC",
        "connect_timeout": "5s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options
        },
        "circuit_breakers": {"thresholds": [limits]},
        "load_assignment": {"cluster_name": f"to-{target}", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
