"""Small asyncio upstreams and a real Envoy before them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from s3ml.gateway import EnvoyGateway, GatewayConfig

Eventually = Callable[[Callable[[], bool]], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One request as the upstream read it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True, kw_only=True)
class Upstream:
    """A server that answers its name, and 503 on its health path while it is not ready."""

    name: str
    is_ready: bool = True
    drops_requests: bool = False
    delay_s: float = 0.0
    seen: list[Seen] = field(default_factory=list)
    address: str = ""
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def kill(self) -> None:
        if self._server is not None:
            self._server.close()
            for writer in self._writers:
                writer.transport.abort()
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while await self._answer(reader, writer):
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request_line, *lines = head.rstrip("\r\n").split("\r\n")
        method, path, _ = request_line.split(" ")
        headers = {
            name.lower(): value for name, value in (line.split(": ", 1) for line in lines if ": " in line)
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        if path in ("/v2/health/ready", "/livez"):
            status = b"200 OK" if self.is_ready else b"503 Service Unavailable"
            writer.write(b"HTTP/1.1 %b\r\ncontent-length: 0\r\n\r\n" % status)
            return True
        self.seen.append(Seen(method=method, path=path, headers=headers, body=body))
        if self.drops_requests:
            return False
        await asyncio.sleep(self.delay_s)
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(self.name), self.name.encode())
        )
        return True


@pytest.fixture
async def upstreams() -> AsyncIterator[tuple[Upstream, Upstream]]:
    pair = Upstream(name="a"), Upstream(name="b")
    for upstream in pair:
        await upstream.start()
    yield pair
    for upstream in pair:
        await upstream.kill()


@pytest.fixture
def config(tmp_path: Path) -> GatewayConfig:
    """Replicas are asked at once, and then so seldom that none leaves because this process was starved."""
    return GatewayConfig(
        folder=tmp_path / "gateway",
        services=("tumours", "birds"),
        max_request_bytes=65_536,
        health_interval_s=30.0,
    )


@pytest.fixture
def gateway(config: GatewayConfig) -> Iterator[EnvoyGateway]:
    with EnvoyGateway(config) as running:
        yield running


@pytest.fixture
async def caller() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=120)) as session:
        yield session


@pytest.fixture
def eventually() -> Eventually:
    async def wait(condition: Callable[[], bool], within_s: float = 180.0) -> None:
        async with asyncio.timeout(within_s):
            while not condition():  # noqa: ASYNC110 - another process changes it
                await asyncio.sleep(0.01)

    return wait
