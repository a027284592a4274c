"""A bare HTTP/1.1 client on asyncio: one request at a time per connection, and nothing that costs much.

For the benchmark's own server only: replies need a Content-Length, and nothing else of HTTP is understood.
"""

import asyncio
from functools import lru_cache
from typing import cast

HOST = "127.0.0.1"
_HEAD_END = b"\r\n\r\n"
_LENGTH = b"\r\ncontent-length:"


class Connection(asyncio.Protocol):
    """A kept-alive connection; make it with `connect`.

    Attributes:
        head: Of the newest reply, in lower case.
    """

    def __init__(self) -> None:
        self.head = b""
        self._transport: asyncio.Transport | None = None
        self._reply: asyncio.Future[tuple[int, bytes]] | None = None
        self._received = bytearray()
        self._body_start = 0
        self._end = 0

    @classmethod
    async def connect(cls, port: int) -> "Connection":
        """Open a connection to `port` of loopback."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(cls, HOST, port)
        return connection

    def post(self, head: bytes, body: bytes) -> "asyncio.Future[tuple[int, bytes]]":
        """Send a request; the future holds status and body of its reply."""
        assert self._transport is not None
        self._reply = asyncio.get_running_loop().create_future()
        self._transport.writelines((head, body))
        return self._reply

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's do not inherit from it

    def data_received(self, data: bytes) -> None:
        """Gather a reply and hand it over once it is complete."""
        self._received += data
        if not self._end:
            head_end = self._received.find(_HEAD_END)
            if head_end < 0:
                return
            self.head = bytes(self._received[:head_end]).lower()
            self._body_start = head_end + len(_HEAD_END)
            start = self.head.index(_LENGTH) + len(_LENGTH)
            self._end = self._body_start + int(self.head[start:].partition(b"\r\n")[0])
        if len(self._received) >= self._end:
            status, body = int(self._received[9:12]), bytes(self._received[self._body_start : self._end])
            self._received.clear()
            self._end = 0
            if self._reply is not None and not self._reply.done():
                self._reply.set_result((status, body))

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the request that waits, if any."""
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(exc or ConnectionError("the server closed the connection"))


@lru_cache(maxsize=256)
def head_of(path: str, fields: tuple[tuple[str, str], ...], length: int) -> bytes:
    """Return the head of a POST."""
    lines = [f"POST {path} HTTP/1.1", f"host: {HOST}", f"content-length: {length}"]
    lines += [f"{name}: {value}" for name, value in fields]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
