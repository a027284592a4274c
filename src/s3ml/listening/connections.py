"""What one peer may take of a server before it has asked for anything: places, bytes and time.

Uvicorn's protocol has no deadline for a request's head, no limit of its size, none of the connections or of
the requests on one that wait, and none for a peer that does not take its reply. This module adds them:

1. A head arrives within `head_s` of the connection, or of its first byte on one that was used before.
2. A head, or trailers, are at most `head_bytes` long, and a field that does not end is noticed soon after.
3. At most `pipelined` requests wait on a connection for the one before them.
4. Of more than `connections`, the one that has waited longest without a request makes place.
5. A reply that is not taken in time, `reply_s` and its size at `reply_bytes_per_s`, ends its connection; so
   do the largest while all of them together hold more than `unsent_bytes`.
6. After a reply to a body that was not read, what still comes is thrown away for `linger_s`: closing at once
   would lose the reply.

Source: RFC 9112, sections 9.3 and 9.6; RFC 6585, section 5 (431).
"""

import asyncio
from dataclasses import dataclass
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from s3ml.primitives.units import KIB, MIB

SWEEP_S = 1.0
_REFUSAL = b"HTTP/1.1 %s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_BAD = b"400 Bad Request"
_TOO_LARGE = b"431 Request Header Fields Too Large"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """What connections may take.

    Args:
        connections: How many there are at a time; below the 1,024 descriptors that a process often may have.
        head_s: How long a head may take.
        head_bytes: The target and the fields of a head, or its trailers.
        pipelined: How many requests may wait on one connection.
        reply_s: How long a reply may take, however short.
        reply_bytes_per_s: How fast a longer one has to be taken.
        unsent_bytes: Of all replies that wait to be taken.
        linger_s: How long a body that nobody reads may go on after its reply; also how long an end may take.
    """

    connections: int = 896
    head_s: float = 10.0
    head_bytes: int = 32 * KIB
    pipelined: int = 8
    reply_s: float = 20.0
    reply_bytes_per_s: int = 256 * KIB
    unsent_bytes: int = 256 * MIB
    linger_s: float = 2.0


class ConnectionGuard:
    """Knows all connections of a server, and ends those that take too much.

    Args:
        limits: Of each, and of all.
    """

    __slots__ = ("_open", "_timer", "limits")

    def __init__(self, limits: ConnectionLimits | None = None) -> None:
        self.limits = limits or ConnectionLimits()
        self._open: set[GuardedConnection] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self, *arguments: Any, **named: Any) -> "GuardedConnection":
        """Return a protocol for a new connection, as uvicorn's class of protocols does."""
        return GuardedConnection(self, *arguments, **named)

    @property
    def count(self) -> int:
        """How many connections there are."""
        return len(self._open)

    def sweep(self, now_s: float) -> None:
        """End the connections whose time is up, and the largest while too much waits to be taken."""
        for connection in tuple(self._open):
            connection.end_if_late(now_s)
        unsent = {connection: connection.unsent_bytes for connection in self._open}
        total = sum(unsent.values())
        for connection in sorted(unsent, key=lambda one: unsent[one], reverse=True):
            if total <= self.limits.unsent_bytes:
                break
            total -= unsent[connection]
            connection.transport.abort()

    def enter(self, connection: "GuardedConnection") -> None:
        """Count a new connection; where there are too many, the longest without a request makes place."""
        self._open.add(connection)
        if self._timer is None:
            self._look_later(connection.loop)
        if len(self._open) > self.limits.connections:
            waiting = [one for one in self._open if one.waiting_since_s is not None]
            longest = min(waiting, key=lambda one: one.waiting_since_s or 0.0, default=connection)
            self._open.discard(longest)
            longest.transport.abort()

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look at all connections after a while, and again as long as there are any."""

        def look() -> None:
            self._timer = None
            self.sweep(loop.time())
            if self._open:
                self._look_later(loop)

        self._timer = loop.call_later(SWEEP_S, look)

    def leave(self, connection: "GuardedConnection") -> None:
        """Count it no more."""
        self._open.discard(connection)


class _TooLargeError(Exception):
    """A head or trailers are too long, or too many requests wait."""


class GuardedConnection(HttpToolsProtocol):
    """One connection, within limits.

    Args:
        guard: Of all of the server's connections.
        arguments: Uvicorn's.
        named: Uvicorn's.

    Attributes:
        waiting_since_s: Since when it has had no request; None while there is one.
    """

    def __init__(self, guard: ConnectionGuard, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._guard, self._limits = guard, guard.limits
        self.waiting_since_s: float | None = None
        self._head_ends_s: float | None = None
        self._reply_ends_s: float | None = None
        self._linger_ends_s: float | None = None
        self._field_bytes = self._silent_bytes = self._steps = 0
        self._is_in_head = self._is_too_large = self._is_deaf = False

    @property
    def unsent_bytes(self) -> int:
        """How much of replies waits to be taken."""
        return self.transport.get_write_buffer_size()

    @property
    def _is_answered(self) -> bool:
        return not self.pipeline and (self.cycle is None or self.cycle.response_complete)

    def end_if_late(self, now_s: float) -> None:
        """End the connection when one of its deadlines has passed."""
        if self.transport.is_closing() and self._linger_ends_s is None:
            self._linger_ends_s = now_s + self._limits.linger_s
        if not self.unsent_bytes:
            self._reply_ends_s = None
        elif self._reply_ends_s is None:
            self._reply_ends_s = now_s + self._reply_time_s()
        ends = (self._head_ends_s, self._reply_ends_s, self._linger_ends_s)
        if any(end is not None and end <= now_s for end in ends):
            self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Count it, and begin to wait for a head."""
        super().connection_made(transport)
        self.waiting_since_s = self.loop.time()
        self._head_ends_s = self.waiting_since_s + self._limits.head_s
        self._guard.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count it no more."""
        self._guard.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, unless nothing more is wanted; bytes that lead nowhere are counted."""
        if self._is_deaf:
            return
        self._unset_keepalive_if_required()
        steps = self._steps
        try:
            self.parser.feed_data(data)
        except (
            httptools.HttpParserUpgrade
        ):  # No protocol but this one: the request is answered, and that is all.
            self._is_deaf, self.cycle.keep_alive = True, False
            return
        except httptools.HttpParserError:
            self._refuse(_TOO_LARGE if self._is_too_large else _BAD)
            return
        self._silent_bytes = self._silent_bytes + len(data) if steps == self._steps else 0
        if self._silent_bytes > self._limits.head_bytes:
            self._refuse(_TOO_LARGE)
        elif self._head_ends_s is None and self._is_answered and self.timeout_keep_alive_task is None:
            self._head_ends_s = self.loop.time() + self._limits.head_s

    def on_message_begin(self) -> None:
        """Begin a head."""
        if len(self.pipeline) >= self._limits.pipelined:
            raise _TooLargeError
        super().on_message_begin()
        self._field_bytes, self._is_in_head = 0, True
        self._steps += 1
        if self._head_ends_s is None:
            self._head_ends_s = self.loop.time() + self._limits.head_s

    def on_url(self, url: bytes) -> None:
        """Take a piece of the target."""
        self._count_field(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field; those of trailers are counted and dropped."""
        self._count_field(len(name) + len(value))
        if self._is_in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin to answer."""
        self._is_in_head = False
        self._head_ends_s = self.waiting_since_s = None
        self._steps += 1
        super().on_headers_complete()
        self.cycle.transport = _Way(self, self.cycle)  # type: ignore[assignment]  # what a cycle uses of one

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._steps += 1
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._steps += 1
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        if not self.pipeline and self.cycle.response_complete:
            self.waiting_since_s = self.loop.time()

    def pause_writing(self) -> None:
        """Begin the time in which a reply has to be taken."""
        self._reply_ends_s = self.loop.time() + self._reply_time_s()
        super().pause_writing()

    def resume_writing(self) -> None:
        """End that time."""
        self._reply_ends_s = None
        super().resume_writing()

    def write(self, data: bytes) -> None:
        """Write a piece of a reply."""
        if not self.unsent_bytes:
            self._reply_ends_s = None
        self.transport.write(data)

    def linger(self) -> None:
        """Send what is written and no more, and throw away what still comes for a while."""
        self._is_deaf = True
        self._linger_ends_s = self.loop.time() + self._limits.linger_s + self._reply_time_s()
        self.waiting_since_s = self.loop.time()
        self.flow.resume_reading()
        self.transport.write_eof()

    def _reply_time_s(self) -> float:
        return self._limits.reply_s + self.unsent_bytes / self._limits.reply_bytes_per_s

    def _count_field(self, size_bytes: int) -> None:
        self._field_bytes += size_bytes
        if self._field_bytes > self._limits.head_bytes:
            self._is_too_large = True
            raise _TooLargeError

    def _refuse(self, status: bytes) -> None:
        """End with a status, or without one where it would pass for the answer to another request."""
        self._head_ends_s = None
        if not self._is_answered:
            self.transport.abort()
            return
        self.transport.write(_REFUSAL % status)
        self.linger()


class _Way:
    """The way of one reply; its end waits for a body that nobody reads."""

    __slots__ = ("_connection", "_cycle")

    def __init__(self, connection: GuardedConnection, cycle: RequestResponseCycle) -> None:
        self._connection, self._cycle = connection, cycle

    def write(self, data: bytes) -> None:
        self._connection.write(data)

    def is_closing(self) -> bool:
        return self._connection.transport.is_closing()

    def close(self) -> None:
        if self._cycle.more_body and not self.is_closing():
            self._connection.linger()
        else:
            self._connection.transport.close()
