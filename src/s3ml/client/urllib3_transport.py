"""Requests to the gateway over urllib3, for callers who block; threads may share one transport.

A deadline holds for the whole of a request, however slowly a gateway lets head or body of its reply drip in.
What it does not cover is the operating system's: resolving a name, and each further address of a name that
has several.

Source: docs/adr/0003-http-library-of-the-client.md.
"""

import http.client
import io
import socket
import time
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from s3ml.client.addresses import no_tls
from s3ml.client.errors import TransientError
from s3ml.client.steps import HTTPReply, HTTPRequest
from s3ml.primitives.units import KIB

_CHUNK_BYTES = 64 * KIB
_CONNECTIONS = 128


class Urllib3Transport:
    """Requests to the gateway over kept connections."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool = urllib3.PoolManager(maxsize=_CONNECTIONS, retries=False)
        self._pool.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}

    def send(self, request: HTTPRequest) -> HTTPReply:
        """Send one request, once.

        Raises:
            TransientError: no whole reply in time.
            UntrustedServiceError: TLS failed.
        """
        deadline_s = time.monotonic() + request.timeout_s
        try:
            reply = self._pool.request(
                request.method,
                self._url + request.path,
                body=request.body,
                headers={"content-type": request.content_type, "user-agent": "s3ml"},
                timeout=urllib3.Timeout(total=request.timeout_s),
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
            try:
                body = _read(reply, deadline_s, request.limit_bytes)
            except BaseException:
                reply.close()
                raise
            reply.release_conn()
        except urllib3.exceptions.SSLError as error:
            raise no_tls(self._url, error) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise TransientError(f"gateway {self._url}: {_reason(error)}") from error
        headers = {name.lower(): value for name, value in reply.headers.items()}
        return HTTPReply(status=reply.status, headers=headers, body=body)

    def close(self) -> None:
        """Close all connections."""
        self._pool.clear()


class _Reader(io.RawIOBase):
    """What comes through a socket until a deadline: its own timeout would begin anew with each byte."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline_s: float) -> None:
        self._raw = raw
        self._sock = sock
        self._deadline_s = deadline_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left_s = self._deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the reply did not arrive in time")
        self._sock.settimeout(left_s)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """A reply that is read until the deadline that its connection had when it was asked for."""

    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        timeout_s = sock.gettimeout()
        if timeout_s is not None:
            reader = _Reader(self.fp.detach(), sock, time.monotonic() + timeout_s)
            self.fp = io.BufferedReader(reader)


class _HTTPConnection(HTTPConnection):
    response_class = _Response


class _HTTPSConnection(HTTPSConnection):
    response_class = _Response


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


def _read(reply: urllib3.BaseHTTPResponse, deadline_s: float, limit_bytes: int) -> bytes:
    """Read a body whole, however slowly it drips in, within the deadline and the limit."""
    chunks: list[bytes] = []
    size = 0
    while chunk := reply.read1(_CHUNK_BYTES, decode_content=False):
        chunks.append(chunk)
        size += len(chunk)
        if size > limit_bytes:
            raise TransientError(f"gateway: expected a reply of at most {limit_bytes} bytes, got more")
        if time.monotonic() > deadline_s:
            raise TransientError("gateway: the reply did not arrive in time")
    return b"".join(chunks)


def _reason(error: Exception) -> str:
    """Say in a few words what a library says in many."""
    if isinstance(error, urllib3.exceptions.NameResolutionError):
        return "its name does not resolve"
    if isinstance(error, urllib3.exceptions.NewConnectionError):  # A kind of TimeoutError, for urllib3.
        return "refuses connections, or is not there"
    if isinstance(error, urllib3.exceptions.TimeoutError):
        return "did not answer in time"
    return "the connection broke before the reply was whole"
