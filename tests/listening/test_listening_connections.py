"""What one peer may take: places, bytes and time, over real sockets and with short deadlines."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn

from s3ml.listening.connections import ConnectionGuard, ConnectionLimits
from s3ml.primitives.units import KIB, MIB

# What is honest is never late by these; what is late is so by `SHORT`, which no honest request is held to.
PATIENT = ConnectionLimits(
    connections=8, head_s=600.0, head_bytes=4 * KIB, reply_s=600.0, linger_s=600.0, pipelined=2
)
SHORT = ConnectionLimits(
    connections=8, head_s=0.3, head_bytes=4 * KIB, reply_s=0.5, linger_s=0.3, pipelined=2
)
HELLO = b"GET /hello HTTP/1.1\r\nhost: x\r\n\r\n"
LAST = b"GET /hello HTTP/1.1\r\nconnection: close\r\n\r\n"
PATIENCE_S = 120


@dataclass
class House:
    """A server, what it was asked, and what holds its answers back."""

    guard: ConnectionGuard
    port: int = 0
    scopes: list[Any] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    has_begun: asyncio.Event = field(default_factory=asyncio.Event)
    has_sent: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        self.has_begun.set()
        if scope["path"] == "/wait":
            await self.may_answer.wait()
        if scope["path"] == "/read":
            self.bodies.append(await read(receive))
        content = bytes(64 * MIB) if scope["path"] == "/large" else b"hello"
        headers = [(b"content-length", b"%d" % len(content))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content, "more_body": True})
        await send({"type": "http.response.body"})
        self.has_sent.set()

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def ask(self, *pieces: bytes) -> bytes:
        """Send, and return everything until the server ends the connection; a reset ends it, too."""
        reader, writer = await self.open()
        with contextlib.closing(writer):
            with contextlib.suppress(ConnectionError):
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
            return await rest(reader)


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for what the server does by itself."""
    async with asyncio.timeout(PATIENCE_S):
        while not is_so():  # noqa: ASYNC110 - the server has no event for it
            await asyncio.sleep(0.01)


async def read(receive: Any) -> bytes:
    content: bytes = b""
    while True:
        message = await receive()
        content += message.get("body", b"")
        if not message.get("more_body"):
            return content


async def rest(reader: asyncio.StreamReader) -> bytes:
    """Return what still comes; a reset is an end."""
    content: bytes = b""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(PATIENCE_S):
            while piece := await reader.read(1 << 16):
                content += piece
    return content


async def has_lost(writer: asyncio.StreamWriter, piece: bytes) -> bool:
    """Send again and again until the server has ended the connection."""
    async with asyncio.timeout(PATIENCE_S):
        try:
            while True:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.01)
        except ConnectionError:
            return True


async def asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *pieces: bytes) -> bytes:
    for piece in pieces:
        writer.write(piece)
    await writer.drain()
    return await rest(reader)


@contextlib.asynccontextmanager
async def serving(limits: ConnectionLimits) -> AsyncIterator[House]:
    house = House(ConnectionGuard(limits))
    config = uvicorn.Config(
        house,
        http=house.guard,  # type: ignore[arg-type]
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_keep_alive=PATIENCE_S,
    )
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        house.port = listener.getsockname()[1]
        running = asyncio.ensure_future(server.serve(sockets=[listener]))
        await until(lambda: server.started)
        try:
            yield house
        finally:
            house.may_answer.set()
            server.should_exit = server.force_exit = True
            await asyncio.wait_for(running, PATIENCE_S)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with serving(PATIENT) as running:
        yield running


@pytest.fixture
async def hasty() -> AsyncIterator[House]:
    async with serving(SHORT) as running:
        yield running


class TestHeads:
    """A head comes in time and within its size, or its connection ends."""

    async def test_an_honest_one(self, house: House) -> None:
        assert (await house.ask(LAST)).endswith(b"hello")

    @pytest.mark.parametrize(
        "begun", [b"", b"\r\n\r\n", b"GET /hello HT", b"GET /hello HTTP/1.1\r\nhost: x\r\n"]
    )
    async def test_one_that_never_ends(self, hasty: House, begun: bytes) -> None:
        assert await hasty.ask(begun) == b""
        assert hasty.scopes == []

    async def test_one_that_drips(self, hasty: House) -> None:
        reader, writer = await hasty.open()
        ended = asyncio.ensure_future(rest(reader))
        with contextlib.suppress(ConnectionError):
            for byte in b"GET /hello HTTP/1.1\r\nx: " + b"y" * 10_000:
                writer.write(bytes([byte]))
                await asyncio.wait({ended}, timeout=0.05)
                if ended.done():
                    break
        assert await ended == b""
        writer.close()

    async def test_blank_lines_do_not_keep_a_connection(self, house: House) -> None:
        reader, writer = await house.open()
        writer.write(HELLO)
        assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200")
        (connection,) = house.guard._open
        writer.write(b"\r\n")
        await until(lambda: connection._head_ends_s is not None)
        house.guard.sweep(asyncio.get_running_loop().time() + 1.1 * PATIENT.head_s)
        assert await rest(reader) == b""
        writer.close()

    @pytest.mark.parametrize(
        "head",
        [
            b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\n\r\n",
            b"GET /hello HTTP/1.1\r\nx: " + b"y" * 5000 + b"\r\n\r\n",
            b"GET /hello HTTP/1.1\r\n" + b"x" * 5000 + b": y\r\n\r\n",
            b"GET /hello HTTP/1.1\r\n" + b"x: y\r\n" * 5000 + b"\r\n",
            b"GET /hello HTTP/1.1\r\n" + b"x:\r\n" * 150 + b"\r\n",
            b"GET /" + b"x" * 1_000_000,
            b"GET /hello HTTP/1.1\r\nx: " + b"y" * 1_000_000,
            b"GET /hello HTTP/1.1\r\n" + b"x" * 1_000_000,
            b"\r\n" * 500_000,
        ],
    )
    async def test_one_that_is_too_large(self, house: House, head: bytes) -> None:
        assert (await house.ask(head)).startswith(b"HTTP/1.1 431 ")
        assert house.scopes == []

    async def test_garbage(self, house: House) -> None:
        for garbage in (b"\x16\x03\x01\x02\x00\x01", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET\r\n\r\n"):
            assert (await house.ask(garbage)).startswith(b"HTTP/1.1 400 ")
        assert house.scopes == []


class TestTrailers:
    """They are counted like a head, and mean nothing."""

    CHUNKED = b"POST /read HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"

    async def test_they_do_not_become_fields(self, house: House) -> None:
        reply = await house.ask(self.CHUNKED + b"1\r\na\r\n0\r\ncontent-type: x\r\n\r\n")
        assert reply.endswith(b"hello")
        assert b"content-type" not in dict(house.scopes[0]["headers"])

    @pytest.mark.parametrize("rest", [b"x: " + b"y" * 1_000_000, b"x: y\r\n" * 5000])
    async def test_too_many(self, house: House, rest: bytes) -> None:
        await house.ask(self.CHUNKED + b"1\r\na\r\n0\r\n" + rest)
        assert house.bodies in ([], [b"a"])
        assert house.guard.count == 0


class TestUnreadBodies:
    """A reply is read although its request was not; what comes after is thrown away, for a while."""

    async def test_the_reply_arrives(self, house: House) -> None:
        head = b"POST /hello HTTP/1.1\r\nhost: x\r\ncontent-length: 8000000\r\nconnection: close\r\n\r\n"
        assert (await house.ask(head, *[bytes(1_000_000)] * 8)).endswith(b"hello")

    async def test_an_endless_one_ends(self, hasty: House) -> None:
        head = b"POST /hello HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        reader, writer = await hasty.open()
        writer.write(head)
        assert (await rest(reader)).endswith(b"hello")
        assert await has_lost(writer, b"400\r\n" + bytes(1024) + b"\r\n")


class TestReplies:
    """A reply that nobody takes does not stay."""

    async def test_one_that_is_not_taken(self, house: House) -> None:
        reader, writer = await house.open()
        writer.write(HELLO.replace(b"/hello", b"/large"))
        await asyncio.wait_for(house.has_begun.wait(), PATIENCE_S)
        assert not house.has_sent.is_set()
        (connection,) = house.guard._open
        connection.end_if_late(asyncio.get_running_loop().time() + 1e6)
        await asyncio.wait_for(house.has_sent.wait(), PATIENCE_S)
        assert len(await rest(reader)) < 64 * MIB
        writer.close()

    async def test_one_that_is_taken_slowly(self, house: House) -> None:
        reader, writer = await house.open()
        writer.write(LAST.replace(b"/hello", b"/large"))
        taken = 0
        while piece := await reader.read(4 * MIB):
            taken += len(piece)
            await asyncio.sleep(0.002)
        assert taken > 64 * MIB
        writer.close()

    async def test_too_much_that_waits(self) -> None:
        async with serving(ConnectionLimits(unsent_bytes=100 * MIB)) as house:
            writers = [(await house.open())[1] for _ in range(3)]
            for writer in writers:
                writer.write(HELLO.replace(b"/hello", b"/large"))
            await until(lambda: house.guard.count == 1)
            for writer in writers:
                writer.close()


class TestPlaces:
    """Who asks for something finds a place, however many ask for nothing."""

    async def test_idle_connections_make_place(self, house: House) -> None:
        idle = [await house.open() for _ in range(4 * PATIENT.connections)]
        assert (await house.ask(LAST)).endswith(b"hello")
        assert house.guard.count <= PATIENT.connections
        for _, writer in idle:
            writer.close()

    async def test_requests_under_way_keep_theirs(self, house: House) -> None:
        waiting = [await house.open() for _ in range(PATIENT.connections)]
        for number, (_, writer) in enumerate(waiting, start=1):
            writer.write(LAST.replace(b"/hello", b"/wait"))
            await until(lambda asked=number: len(house.scopes) == asked)  # type: ignore[misc]
        assert await house.ask(HELLO) == b""
        house.may_answer.set()
        for reader, writer in waiting:
            assert (await rest(reader)).endswith(b"hello")
            writer.close()


class TestPipelining:
    """A few requests may wait for the one before them."""

    async def test_two(self, house: House) -> None:
        assert (await house.ask(HELLO + HELLO + LAST)).count(b"hello") == 3

    async def test_a_thousand(self, house: House) -> None:
        assert (await house.ask(HELLO * 1000)).count(b"hello") == 0
        assert len(house.scopes) <= 1 + PATIENT.pipelined

    async def test_no_refusal_passes_for_the_answer_to_another(self, house: House) -> None:
        assert b"400" not in await house.ask(HELLO.replace(b"/hello", b"/wait") + b"garbage\r\n\r\n")


class TestFraming:
    """What two readers could read differently is not read at all."""

    @pytest.mark.parametrize(
        "fields",
        [
            b"content-length: 3\r\ntransfer-encoding: chunked",
            b"transfer-encoding: chunked\r\ncontent-length: 3",
            b"content-length: 3\r\ncontent-length: 4",
            b"content-length: 3\r\ncontent-length: 3",
            b"content-length: 3, 3",
            b"content-length: +3",
            b"content-length: -3",
            b"content-length: 0x3",
            b"content-length: 3 4",
            b"content-length: " + b"9" * 30,
            b"content-length:",
            b"transfer-encoding: gzip",
            b"transfer-encoding: chunked, gzip",
            b"transfer-encoding: xchunked",
            b"transfer-encoding : chunked",
            b"content-length : 3",
            b" content-length: 3",
            b"x: y\r\n content-length: 3",
            b"x\x00: y",
            b"x: \x00",
            b"x: y\rz: w",
        ],
    )
    async def test_refused(self, house: House, fields: bytes) -> None:
        head = b"POST /read HTTP/1.1\r\nhost: x\r\n" + fields + b"\r\n\r\n"
        reply = await house.ask(head + b"3\r\nabc\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n")
        assert reply == b"" or reply.startswith(b"HTTP/1.1 400 ")
        assert b"abc" not in b"".join(house.bodies)
        assert "/smuggled" not in [scope["path"] for scope in house.scopes]

    @pytest.mark.parametrize(
        "body",
        [
            b"g\r\nabc\r\n0\r\n\r\n",
            b"-1\r\nabc\r\n0\r\n\r\n",
            b"3\r\nabcd\r\n0\r\n\r\n",
            b"ffffffffffffffffff\r\nabc",
            b"3 \r\nabc\r\n0\r\n\r\n",
            b"3\nabc\n0\n\n",
            b"0x3\r\nabc\r\n0\r\n\r\n",
        ],
    )
    async def test_chunks_that_are_none(self, house: House, body: bytes) -> None:
        head = b"POST /read HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        assert b"hello" not in await house.ask(head + body)

    async def test_an_upgrade_is_a_request_and_the_end(self, house: House) -> None:
        head = b"GET /hello HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"
        assert (await house.ask(head + b"PRI * HTTP/2.0\r\n\r\n" * 100)).count(b"hello") == 1

    async def test_http_1_0(self, house: House) -> None:
        reply = await house.ask(b"GET /hello HTTP/1.0\r\n\r\n" + HELLO)
        assert reply.count(b"hello") == 1

    async def test_who_expects_to_go_on_is_told(self, house: House) -> None:
        reader, writer = await house.open()
        writer.write(
            b"POST /read HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 3\r\nconnection: close\r\n\r\n"
        )
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert (await asked(reader, writer, b"abc")).endswith(b"hello")
        assert house.bodies == [b"abc"]
        writer.close()
