"""Connections of local clients: so many, each with a head of a bounded size in a bounded time.

uvicorn's own protocol takes heads of any size and waits for them for ever.

Source: RFC 6585, section 5; RFC 9110, section 15.5.9.
"""

import asyncio
from typing import Any

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from s3ml.primitives.units import KIB

HEAD_LIMIT_BYTES = 32 * KIB
HEAD_DEADLINE_S = 15.0
CONNECTIONS_LIMIT = 1024
_PHRASES = {400: b"Bad Request", 431: b"Request Header Fields Too Large", 503: b"Service Unavailable"}


class GuardedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head_bytes = 0
        self._field_bytes = 0
        self._is_in_head = True
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, unless there are too many."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS_LIMIT:
            self._end(503, "proxy: too many connections")
            return
        self._head_timer = self.loop.call_later(HEAD_DEADLINE_S, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what arrived; the head of a request is counted until it is whole."""
        if self.transport.is_closing():
            return
        if self._is_in_head:
            self._head_bytes += len(data)
            if self._head_timer is None:
                self._head_timer = self.loop.call_later(HEAD_DEADLINE_S, self.transport.close)
        super().data_received(data)
        if self._is_in_head and self._head_bytes > HEAD_LIMIT_BYTES and not self.transport.is_closing():
            self._end(431, f"head: expected at most {HEAD_LIMIT_BYTES} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one field, of the head or behind a chunked body."""
        self._field_bytes += len(name) + len(value)
        if self._field_bytes > HEAD_LIMIT_BYTES:
            raise ValueError  # Which the parser takes for malformed HTTP.
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin the request."""
        self._is_in_head = False
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Expect the next head."""
        self._is_in_head = True
        self._head_bytes = self._field_bytes = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        self._end(400, msg)

    def _end(self, status: int, message: str) -> None:
        """Say why, and close."""
        content = msgspec.json.encode({"error": message})
        lines = (
            b"HTTP/1.1 %d %s" % (status, _PHRASES[status]),
            b"content-type: application/json",
            b"content-length: %d" % len(content),
            b"connection: close",
        )
        self.transport.write(b"\r\n".join((*lines, b"", content)))
        self.transport.close()

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
