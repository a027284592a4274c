"""How the processes of this project speak HTTP: one engine, one set of settings, one way to listen."""

import asyncio
import socket
from typing import Literal

import uvicorn

from s3ml.primitives.errors import ConfigurationError

BACKLOG = 2048


def http_config(
    *,
    connections: int,
    keep_alive_s: int,
    grace_s: int,
    app: object = "",
    protocol: type[asyncio.Protocol] | None = None,
    lifespan: Literal["on", "off"] = "on",
) -> uvicorn.Config:
    """Return uvicorn's settings: nothing of a request is logged, nothing is told of the server.

    Args:
        connections: The most at once.
        keep_alive_s: How long an idle one is kept; longer than the gateway keeps its own.
        grace_s: How long what is under way may take at the end.
        app: The ASGI application; may be set later.
        protocol: What handles a connection, instead of uvicorn's own.
        lifespan: Whether the application is told of the start and the end.
    """
    return uvicorn.Config(
        app=app,  # type: ignore[arg-type]
        loop="uvloop",
        http=protocol or "httptools",
        ws="none",
        interface="asgi3",
        lifespan=lifespan,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        limit_concurrency=connections,
        timeout_keep_alive=keep_alive_s,
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
        raise ConfigurationError(f"{setting}: cannot listen on {host}:{port}: {error.strerror}") from error
