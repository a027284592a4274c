"""Envoy's admin interface over a socket in the gateway's own folder, which nobody else can enter."""

import http.client
import os
import socket
from pathlib import Path
from typing import Any

import msgspec

from s3ml.gateway.bootstrap import ADMIN_SOCKET, LISTENER
from s3ml.primitives.errors import UnavailableError

_DEADLINE_S = 10.0


class _SocketConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket, addressed through its folder so that a long path fits."""

    def __init__(self, folder: Path) -> None:
        super().__init__("admin.invalid", timeout=_DEADLINE_S)
        self._folder = folder

    def connect(self) -> None:
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(_DEADLINE_S)
            self.sock.connect(f"/proc/self/fd/{folder}/{ADMIN_SOCKET}")
        finally:
            os.close(folder)


def is_live(folder: Path) -> bool:
    """Tell whether the gateway of `folder` answers and has started all its listeners."""
    try:
        status, _ = _get(folder, "/ready")
    except (OSError, http.client.HTTPException):
        return False
    return status == http.client.OK


def query(folder: Path, path: str) -> Any:
    """Return the JSON that the admin interface answers at `path`.

    Raises:
        UnavailableError: the gateway does not run, or answered something else.
    """
    try:
        return msgspec.json.decode(query_bytes(folder, path))
    except msgspec.DecodeError as error:
        raise UnavailableError(f"gateway: its admin interface answered no JSON at {path}") from error


def query_bytes(folder: Path, path: str) -> bytes:
    """Return what the admin interface answers at `path`.

    Raises:
        UnavailableError: the gateway does not run, or answered with an error.
    """
    try:
        status, body = _get(folder, path)
    except (OSError, http.client.HTTPException) as error:
        raise UnavailableError("gateway: its admin interface does not answer: is it running?") from error
    if status == http.client.OK:
        return body
    raise UnavailableError(f"gateway: its admin interface answered {status} at {path}")


def listening_port(folder: Path) -> int:
    """Return the port that the gateway listens on.

    Raises:
        UnavailableError: the gateway does not run, or has no listener.
    """
    for listener in query(folder, "/listeners?format=json").get("listener_statuses", ()):
        if listener["name"] == LISTENER:
            return int(listener["local_address"]["socket_address"]["port_value"])
    raise UnavailableError("gateway: it has no listener")


def _get(folder: Path, path: str) -> tuple[int, bytes]:
    connection = _SocketConnection(folder)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
