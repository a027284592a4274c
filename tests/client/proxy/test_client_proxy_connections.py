"""Connections to a real server: heads of a bounded size in a bounded time, and so many of them."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest
import uvicorn

from s3ml.apps.processes.listening import http_config, listen
from s3ml.client.proxy import connections
from s3ml.client.proxy.connections import GuardedProtocol
from s3ml.client.proxy.intake import Intake
from s3ml.client.proxy.metrics import ProxyMetrics
from s3ml.client.proxy.rest import RestApplication
from tests.client.proxy.forwarding_world import Desk

LIVE = b"GET /v2/health/live HTTP/1.1\r\nhost: localhost\r\n\r\n"
MANY_FIELDS = b"a: b\r\n" * (connections.HEAD_LIMIT_BYTES // 6 + 1)
DEADLINE_S = 20.0


class Server(uvicorn.Server):
    """Without signals."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@pytest.fixture
async def port(desk: Desk) -> AsyncIterator[int]:
    application = RestApplication(desk.proxy, ProxyMetrics(desk.keeper), intake=Intake())
    config = http_config(
        connections=10_000,
        keep_alive_s=30,
        grace_s=1,
        app=application,
        protocol=GuardedProtocol,
        lifespan="off",
    )
    with listen("127.0.0.1", 0, setting="test") as listener:
        server = Server(config)
        async with asyncio.TaskGroup() as group:
            group.create_task(server.serve(sockets=[listener]))
            yield listener.getsockname()[1]
            server.should_exit = True


class Connection:
    """One client's end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def reply(self) -> tuple[int, dict[str, object]]:
        async with asyncio.timeout(DEADLINE_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
            content = await self.reader.readexactly(length)
        document: dict[str, object] = json.loads(content)
        return int(head.split(b" ")[1]), document

    async def end(self) -> bytes:
        """Return what comes before the server closes."""
        async with asyncio.timeout(DEADLINE_S):
            try:
                return await self.reader.read()
            except ConnectionResetError:  # Something that it sent was not read any more.
                return b""

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            return


async def connect(port: int) -> Connection:
    return Connection(*await asyncio.open_connection("127.0.0.1", port))


class TestHeads:
    async def test_several_requests_on_one_connection(self, port: int) -> None:
        connection = await connect(port)
        for _ in range(3):
            await connection.send(LIVE)
            assert await connection.reply() == (200, {"live": True})
        await connection.close()

    async def test_pipelined_requests_are_answered_in_order(self, port: int) -> None:
        connection = await connect(port)
        await connection.send(LIVE + LIVE.replace(b"live", b"none", 1))
        assert (await connection.reply())[0] == 200
        assert (await connection.reply())[0] == 404
        await connection.close()

    @pytest.mark.parametrize(
        "head",
        [
            b"GET / HTTP/1.1\r\nx: " + b"a" * (connections.HEAD_LIMIT_BYTES + 1),
            b"GET /" + b"a" * (connections.HEAD_LIMIT_BYTES + 1),
            b"GET / HTTP/1.1\r\n" + MANY_FIELDS,
        ],
        ids=["one long field", "a long path", "many fields"],
    )
    async def test_one_that_does_not_end_is_refused(self, port: int, head: bytes) -> None:
        connection = await connect(port)
        await connection.send(head)
        status, document = await connection.reply()
        assert status in (400, 431)
        assert document["error"]
        assert await connection.end() == b""
        await connection.close()

    async def test_a_large_one_that_ends_is_refused_too(self, port: int) -> None:
        connection = await connect(port)
        await connection.send(LIVE[:-2] + b"x: " + b"a" * (connections.HEAD_LIMIT_BYTES + 1) + b"\r\n\r\n")
        assert (await connection.reply())[0] == 400
        await connection.close()

    async def test_fields_behind_a_chunked_body_count_as_well(self, port: int) -> None:
        connection = await connect(port)
        head = b"POST /v2/repository/index HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
        await connection.send(head + b"0\r\n" + MANY_FIELDS)
        assert (await connection.reply())[0] == 400
        await connection.close()

    @pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x02\x00", b"hello\r\n\r\n", b"GET / HTTP/9\r\n\r\n"])
    async def test_what_is_no_http(self, port: int, garbage: bytes) -> None:
        connection = await connect(port)
        await connection.send(garbage)
        assert (await connection.reply())[0] == 400
        assert await connection.end() == b""
        await connection.close()

    @pytest.mark.parametrize("begun", [b"", b"GET /v2 HTTP/1.1\r\nhost: loc"])
    async def test_one_that_takes_too_long_ends_the_connection(
        self, port: int, begun: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connections, "HEAD_DEADLINE_S", 0.05)
        connection = await connect(port)
        await connection.send(begun)
        assert await connection.end() == b""
        await connection.close()

    async def test_a_second_one_that_takes_too_long(self, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
        connection = await connect(port)
        await connection.send(LIVE)
        await connection.reply()
        monkeypatch.setattr(connections, "HEAD_DEADLINE_S", 0.05)
        await connection.send(b"GET")
        assert await connection.end() == b""
        await connection.close()


class TestConnections:
    async def test_more_than_the_limit_are_refused(self, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connections, "CONNECTIONS_LIMIT", 2)
        kept = [await connect(port) for _ in range(2)]
        for connection in kept:
            await connection.send(LIVE)
            assert (await connection.reply())[0] == 200
        refused = await connect(port)
        assert (await refused.reply())[0] == 503
        assert await refused.end() == b""
        for connection in (*kept, refused):
            await connection.close()
