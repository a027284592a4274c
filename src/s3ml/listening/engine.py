"""uvicorn's settings, and sockets to listen on.

Nothing of a request is logged, and nothing is told of the server.
"""

import socket
from typing import Literal

import uvicorn

from s3ml.listening.connections import ConnectionGuard, ConnectionLimits
from s3ml.primitives.errors import ConfigurationError

BACKLOG = 2048
# Above the idle time of the gateway's connections, so that the gateway closes first.
KEEP_ALIVE_S = 75


def http_config(
    *,
    grace_s: int,
    connections: int | None = None,
    app: object = "",
    lifespan: Literal["on", "off"] = "on",
) -> uvicorn.Config:
    """Return uvicorn's settings.

    Args:
        grace_s: How long what is under way may take at the end.
        connections: The most at once, where the application does not bound its work: idle ones make place
            for others, and requests beyond get 503.
        app: The ASGI application; may be set later.
        lifespan: Whether the application is told of the start and the end.
    """
    limits = ConnectionLimits() if connections is None else ConnectionLimits(connections=connections - 1)
    return uvicorn.Config(
        app=app,  # type: ignore[arg-type]
        loop="uvloop",
        http=ConnectionGuard(limits),  # type: ignore[arg-type]  # called as the class of a protocol is
        ws="none",
        interface="asgi3",
        lifespan=lifespan,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        limit_concurrency=connections,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=grace_s,
    )


def listen(host: str, port: int, *, setting: str) -> socket.socket:
    """Return a socket that listens.

    Args:
        host: An address.
        port: 0 lets the system choose.
        setting: What messages call it.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        reason = (error.strerror or str(error)).partition(" (while ")[0]  # Python repeats the address
        raise ConfigurationError(f"{setting}: cannot listen on {host}:{port}: {reason}") from error
