"""HTTP exchanges that end in time, whatever the peer does.

A socket's timeout starts anew with every byte that arrives, so that a peer which sends its headers byte by
byte is never too slow. Here every read of a reply, its headers included, gets what is left of one deadline.
"""

import http.client
import io
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from s3ml.primitives.errors import ConfigurationError

_LEAST_S = 0.001


class _Reader(io.RawIOBase):
    """Reads a socket's file, each time with what is left of a deadline."""

    def __init__(self, file: io.RawIOBase, sock: socket.socket, deadline_s: float) -> None:
        super().__init__()
        self._file = file
        self._sock = sock
        self._deadline_s = deadline_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left_s = self._deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the deadline has passed")
        if self._sock.fileno() >= 0:
            self._sock.settimeout(max(left_s, _LEAST_S))
        read: int | None = self._file.readinto(buffer)
        return read

    def close(self) -> None:
        self._file.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """A response whose status line, headers and body are read before a deadline."""

    def __init__(self, sock: socket.socket, *arguments: Any, deadline_s: float, **named: Any) -> None:
        super().__init__(sock, *arguments, **named)
        self.fp = io.BufferedReader(_Reader(self.fp.detach(), sock, deadline_s))


def _due(timeout: Any) -> Any:
    """Return what makes a response that is due `timeout` seconds from now."""
    return partial(_Response, deadline_s=time.monotonic() + float(timeout))


class _Connection(HTTPConnection):
    def getresponse(self) -> Any:
        self.response_class = _due(self.timeout)
        return super().getresponse()


class _SecureConnection(HTTPSConnection):
    def getresponse(self) -> Any:
        self.response_class = _due(self.timeout)
        return super().getresponse()


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class DeadlinePool:
    """Kept-alive connections to one address; safe to use from several threads.

    Args:
        url: An address of http or https: a host, optionally a port and a path.
        connections: How many are kept.

    Raises:
        ConfigurationError: `url` is another kind of address.
    """

    def __init__(self, url: str, *, connections: int) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ConfigurationError(f"address: {error}, got {url[:200]!r}") from error
        if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
            raise ConfigurationError(f"address: expected http:// or https:// and a host, got {url[:200]!r}")
        if parts.query or parts.fragment:
            raise ConfigurationError(f"address: expected neither ? nor #, got {url[:200]!r}")
        self._prefix = parts.path.rstrip("/")
        kind = _Pool if parts.scheme == "http" else _SecurePool
        self._pool = kind(parts.hostname, port, maxsize=connections, block=False, retries=False)

    @contextmanager
    def request(
        self, method: str, path: str, *, body: bytes | None = None, timeout_s: float
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """Send a request; the reply's status and headers are there, and its body is still to be read.

        Args:
            method: Of HTTP.
            path: Below the address.
            body: What to send.
            timeout_s: From now to the last byte of the reply. A peer that takes no bytes in can hold the
                sending of the request for as long again.

        Raises:
            urllib3.exceptions.HTTPError: no answer, or not in time.
            OSError: likewise, while the body is read.
        """
        reply = self._pool.urlopen(
            method,
            self._prefix + path,
            body=body,
            timeout=urllib3.Timeout(total=timeout_s),
            preload_content=False,
            decode_content=False,
            redirect=False,
        )
        try:
            yield reply
        except BaseException:
            reply.close()
            raise
        finally:
            reply.release_conn()

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()
