"""What the gateway is told: one frozen value, checked on construction.

Nothing here is secret, and nothing here is trusted: the gateway sees sealed bytes only. Every default states
its reason in ``docs/adr/0004-gateway-settings.md``.
"""

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.names import check_name
from s3ml.primitives.units import GIB, MIB

KEY_SERVICE_CLUSTER = "key-service"

# uvicorn's default `timeout_keep_alive`: the shortest of the servers behind the gateway.
SERVER_KEEP_ALIVE_S = 5.0

_PORT_LIMIT = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class Picker:
    """Who is asked where each request to a service goes.

    Args:
        address: ``ip:port`` of a server of the endpoint picker protocol.
        is_failing_open: Whether requests go on without it where it does not answer; else they get an error.
        timeout_s: How long it may take for one answer, and to say that it is well.

    Raises:
        ConfigurationError: a value that cannot work.
    """

    address: str
    is_failing_open: bool = True
    timeout_s: float = 0.2

    def __post_init__(self) -> None:
        parse_address(self.address)
        if self.timeout_s <= 0:
            raise ConfigurationError(f"picker: timeout_s: expected more than 0, got {self.timeout_s}")


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """The settings of one gateway.

    Args:
        folder: Where the gateway keeps its bootstrap, endpoint files, log and admin socket.
        services: The services that it routes to, each an RFC 1123 label.
        listen_host: The IP address to listen on.
        listen_port: The port to listen on; 0 lets the kernel choose a free one.
        max_request_bytes: The largest sealed request; a larger one gets 413.
        request_timeout_s: How long one request may take in all, its upload included.
        connect_timeout_s: How long a connection to a replica may take.
        server_keep_alive_s: After how many idle seconds the servers behind the gateway close a connection.
        upstream_idle_timeout_s: After how many idle seconds the gateway does; less than the servers.
        retries: How many other replicas are tried with a request that was not sent.
        health_interval_s: How often each replica is asked whether it is ready.
        health_timeout_s: How long its answer may take, on a machine that is not starved.
        max_connections: How many callers may be connected at once.
        memory_limit_bytes: Above 95 % of it the gateway refuses new requests instead of dying.
        picker: Who is asked where each request goes; None leaves it to the endpoints' weights.

    Raises:
        ConfigurationError: a value that cannot work.
    """

    folder: Path
    services: tuple[str, ...]
    listen_host: str = "127.0.0.1"
    listen_port: int = 0
    max_request_bytes: int = 16 * MIB
    request_timeout_s: float = 60.0
    connect_timeout_s: float = 0.5
    server_keep_alive_s: float = SERVER_KEEP_ALIVE_S
    upstream_idle_timeout_s: float = 4.0
    retries: int = 3
    health_interval_s: float = 0.2
    health_timeout_s: float = 0.3
    max_connections: int = 4096
    memory_limit_bytes: int = GIB
    picker: Picker | None = None

    def __post_init__(self) -> None:
        for service in self.services:
            check_name(service, what="gateway: service")
        if len(set(self.services)) != len(self.services):
            raise ConfigurationError("gateway: services: expected each name once")
        _check_ip(self.listen_host, what="gateway: listen address")
        if not 0 <= self.listen_port <= _PORT_LIMIT:
            raise ConfigurationError(f"gateway: port: expected 0 to {_PORT_LIMIT}, got {self.listen_port}")
        if not 0 < self.upstream_idle_timeout_s < self.server_keep_alive_s:
            raise ConfigurationError(
                f"gateway: upstream_idle_timeout_s: expected less than the servers' keep-alive of "
                f"{self.server_keep_alive_s} s, got {self.upstream_idle_timeout_s}"
            )
        for name in (
            "max_request_bytes",
            "request_timeout_s",
            "connect_timeout_s",
            "retries",
            "health_interval_s",
            "health_timeout_s",
            "max_connections",
            "memory_limit_bytes",
        ):
            if getattr(self, name) <= 0:
                raise ConfigurationError(f"gateway: {name}: expected more than 0, got {getattr(self, name)}")

    @property
    def endpoints_folder(self) -> Path:
        """Where the endpoint files lie, and nothing else: Envoy watches it."""
        return endpoints_folder(self.folder)


def endpoints_folder(folder: Path) -> Path:
    """Return where the endpoint files of the gateway of `folder` lie."""
    return folder / "endpoints"


def service_cluster(service: str) -> str:
    """Return the name of the cluster of replicas that serve `service`."""
    return f"service-{service}"


def parse_address(address: str) -> tuple[str, int]:
    """Read ``ip:port`` (``[ip]:port`` for IPv6).

    Raises:
        ConfigurationError: no IP address (names are not resolved here), or no port from 1 to 65535.
    """
    host, separator, port = address.rpartition(":")
    if not separator or not (port.isascii() and port.isdigit() and 0 < int(port) <= _PORT_LIMIT):
        raise ConfigurationError(f"endpoint: expected ip:port, got {address[:80]!r}")
    host = host.removeprefix("[").removesuffix("]")
    _check_ip(host, what="endpoint")
    return host, int(port)


def _check_ip(host: str, *, what: str) -> None:
    try:
        ipaddress.ip_address(host)
    except ValueError as error:
        raise ConfigurationError(f"{what}: expected an IP address, got {host[:80]!r}") from error
