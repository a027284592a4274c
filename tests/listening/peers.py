"""Peers that send what they like, and a watch on the memory of whom they send it to."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from s3ml.primitives.units import KIB

PATIENCE_S = 300.0


def resident_bytes(pid: int) -> int:
    """Return how much memory a process holds."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) * KIB


@contextlib.contextmanager
def bounded_memory(pid: int, *, more_bytes: int) -> Iterator[None]:
    """Hold a process to what it had, and so much more."""
    before = resident_bytes(pid)
    yield
    assert resident_bytes(pid) - before < more_bytes


class Peer:
    """A connection that sends what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, port: int) -> "Peer":
        """Connect to a port of loopback."""
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=64 * KIB))

    async def send(self, *pieces: bytes) -> None:
        """Send, as long as somebody listens."""
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                self.writer.write(piece)
                await self.writer.drain()

    async def rest(self) -> bytes:
        """Return what still comes; a reset is an end."""
        found = b""
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(PATIENCE_S):
                while piece := await self.reader.read(64 * KIB):
                    found += piece
        return found

    def close(self) -> None:
        """End it at once."""
        self.writer.transport.abort()


async def ask(port: int, *pieces: bytes) -> bytes:
    """Send, and return everything that comes back until the end of the connection."""
    peer = await Peer.connect(port)
    try:
        await peer.send(*pieces)
        return await peer.rest()
    finally:
        peer.close()


@contextlib.asynccontextmanager
async def crowd(port: int, count: int, *pieces: bytes, drip: bytes = b"") -> AsyncIterator[list[Peer]]:
    """Have so many peers send `pieces`, and then `drip` twice a second."""
    peers = [await Peer.connect(port) for _ in range(count)]
    for peer in peers:
        await peer.send(*pieces)

    async def dripping() -> None:
        while drip:
            for peer in peers:
                peer.writer.write(drip)
            await asyncio.sleep(0.5)

    task = asyncio.ensure_future(dripping())
    try:
        yield peers
    finally:
        task.cancel()
        for peer in peers:
            peer.close()
