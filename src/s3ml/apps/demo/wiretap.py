"""What whoever runs the network sees: a relay that records every byte that passes."""

import asyncio
import contextlib
import threading
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from s3ml.primitives.errors import UnavailableError
from s3ml.primitives.units import KIB, MIB

_CHUNK_BYTES = 64 * KIB
_DEADLINE_S = 10.0
CAPTURE_LIMIT_BYTES = 256 * MIB


@dataclass(slots=True)
class Capture:
    """One connection: the bytes that went each way."""

    sent: bytearray = field(default_factory=bytearray)
    received: bytearray = field(default_factory=bytearray)


class Wiretap:
    """A TCP relay on loopback to one target, in a thread of its own; a context manager.

    Args:
        host: Where the relay leads.
        port: Where the relay leads.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._captures: list[Capture] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wiretap", daemon=True)
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def captures(self) -> tuple[Capture, ...]:
        """Every connection so far, oldest first."""
        return tuple(self._captures)

    @property
    def total_bytes(self) -> int:
        """How many bytes were recorded."""
        return sum(len(c.sent) + len(c.received) for c in self._captures)

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(_DEADLINE_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(_DEADLINE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_DEADLINE_S)
        self._loop.close()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)
        capture = Capture()
        self._captures.append(capture)
        with contextlib.closing(writer):
            try:
                target_reader, target_writer = await asyncio.open_connection(*self._target)
            except OSError:
                return
            with contextlib.closing(target_writer), contextlib.suppress(asyncio.CancelledError):
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._relay(reader, target_writer, capture.sent))
                    group.create_task(self._relay(target_reader, writer, capture.received))

    async def _relay(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, record: bytearray
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(_CHUNK_BYTES):
                if self.total_bytes > CAPTURE_LIMIT_BYTES:
                    raise UnavailableError("wiretap: more traffic than it records")
                record += chunk
                writer.write(chunk)
                await writer.drain()
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()
