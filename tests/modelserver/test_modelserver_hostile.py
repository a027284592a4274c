"""Hostile peers before a real process: who behaves is served meanwhile, and memory stays where it was."""

import asyncio
import gzip
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from s3ml.listening.connections import ConnectionLimits
from s3ml.modelserver.app import MAX_REQUESTS
from s3ml.primitives.units import KIB, MIB
from s3ml.wire.sealed import InnerRequest, InnerResponse, SealedRequest, seal_request
from tests.listening.peers import PATIENCE_S, Peer, ask, bounded_memory, crowd, resident_bytes
from tests.modelserver.conftest import World
from tests.modelserver.test_modelserver_server import ROWS, Process, running

pytestmark = pytest.mark.integration

POST = b"POST /services/tumours/ohttp HTTP/1.1\r\nhost: x\r\ncontent-type: message/ohttp-req\r\n"
LIVE = b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n"
CLOSE = b"connection: close\r\n\r\n"
INFER = "/v2/models/tumours/infer"
LIMIT_BYTES = 16 * MIB
CALLS = 10


def seal(process: Process, content: bytes, *, path: str = INFER) -> SealedRequest:
    request = InnerRequest(method="POST", path=path, content=content)
    return seal_request(process.config, request, date=datetime.now(UTC))


def framed(sealed: SealedRequest) -> bytes:
    return POST + b"content-length: %d\r\n" % len(sealed.body) + CLOSE + sealed.body


async def ask_sealed(process: Process, content: bytes, *, path: str = INFER) -> InnerResponse:
    sealed = seal(process, content, path=path)
    reply = await ask(process.port, framed(sealed))
    assert reply.startswith(b"HTTP/1.1 200 "), reply[:200]
    return sealed.open_response(reply.partition(b"\r\n\r\n")[2])


async def assert_served(process: Process) -> None:
    """Ask honestly, one after the other; each is answered rightly, beside whatever crowd there is."""
    for _ in range(CALLS):
        answer = await ask_sealed(process, json.dumps(ROWS).encode())
        assert json.loads(bytes(answer.content))["outputs"][0]["data"] == [6, 9]


async def until_admitted(process: Process) -> None:
    """Ask until there is room: who is too slow is given up after the grace that an honest body has, too."""
    async with asyncio.timeout(PATIENCE_S):
        while (reply := await ask(process.port, framed(seal(process, json.dumps(ROWS).encode())))).startswith(
            b"HTTP/1.1 503 "
        ):
            assert b"\r\nretry-after: 1\r\n" in reply


async def reply_beside(process: Process, content: bytes, count: int, piece: bytes) -> bytes:
    """Ask beside a crowd until it is refused: one that comes more slowly than its grace makes room again."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            async with crowd(process.port, count, piece):
                reply = await ask(process.port, content)
            if reply.startswith(b"HTTP/1.1 503 "):
                return reply


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """One process for all of them: what one peer did is nothing to the next."""
    folder = tmp_path_factory.mktemp("hostile")
    with running(World(folder=folder), folder) as process:
        yield process


@pytest.fixture
async def serving(started: Process) -> Process:
    """One that has answered: its memory is what it stays at."""
    await asyncio.to_thread(started.wait_until_ready)
    await assert_served(started)
    return started


class TestOthersAreServed:
    """However many connect, drip, claim or stall."""

    async def test_beside_slow_heads(self, serving: Process) -> None:
        with bounded_memory(serving.process.pid, more_bytes=64 * MIB):
            async with crowd(serving.port, 400, LIVE + b"x: ", drip=b"y"):
                await assert_served(serving)

    async def test_slow_heads_end(self, serving: Process) -> None:
        async with crowd(serving.port, 50, LIVE, drip=b"x: y\r\n") as peers:
            assert {await peer.rest() for peer in peers} == {b""}
            await assert_served(serving)

    async def test_beside_idle_connections(self, serving: Process) -> None:
        count = ConnectionLimits().connections + 60
        with bounded_memory(serving.process.pid, more_bytes=64 * MIB):
            async with crowd(serving.port, count):
                await assert_served(serving)

    async def test_beside_slow_bodies(self, serving: Process) -> None:
        head = POST + b"content-length: 4000\r\n\r\n"
        with bounded_memory(serving.process.pid, more_bytes=64 * MIB):
            async with crowd(serving.port, MAX_REQUESTS + 20, head, drip=b"x"):
                await until_admitted(serving)
                await assert_served(serving)

    async def test_beside_large_claims(self, serving: Process) -> None:
        head = POST + b"content-length: %d\r\n\r\n" % LIMIT_BYTES
        with bounded_memory(serving.process.pid, more_bytes=64 * MIB):
            async with crowd(serving.port, 20, head, drip=b"x"):
                await until_admitted(serving)
                await assert_served(serving)

    async def test_beside_replies_that_nobody_takes(self, serving: Process) -> None:
        metrics = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n"
        with bounded_memory(serving.process.pid, more_bytes=96 * MIB):
            async with crowd(serving.port, 200, metrics * 5, drip=metrics):
                await assert_served(serving)

    async def test_beside_garbage(self, serving: Process) -> None:
        async def flood() -> None:
            while True:
                await ask(serving.port, b"\x16\x03\x01\x00\xff" * 40)

        floods = [asyncio.ensure_future(flood()) for _ in range(8)]
        with bounded_memory(serving.process.pid, more_bytes=64 * MIB):
            await assert_served(serving)
        for one in floods:
            one.cancel()
        await asyncio.gather(*floods, return_exceptions=True)


class TestFloods:
    """Above what is admitted, there is one answer, and it says when to come again."""

    async def test_too_many_at_once(self, started: Process) -> None:
        await asyncio.to_thread(started.wait_until_ready)
        with bounded_memory(started.process.pid, more_bytes=64 * MIB):
            claim = POST + b"content-length: 4000\r\n\r\n"
            reply = await reply_beside(started, framed(seal(started, b"{}")), MAX_REQUESTS, claim)
        assert b"\r\nretry-after: 1\r\n" in reply

    async def test_more_bytes_than_fit(self, started: Process) -> None:
        await asyncio.to_thread(started.wait_until_ready)
        head = POST + b"content-length: %d\r\n\r\n" % LIMIT_BYTES
        reply = await reply_beside(started, head, 4, head)
        assert b"\r\nretry-after: 1\r\n" in reply

    async def test_thousands_who_leave(self, serving: Process) -> None:
        content = json.dumps(ROWS).encode()
        with bounded_memory(serving.process.pid, more_bytes=64 * MIB):
            for _ in range(20):
                sealed = [framed(seal(serving, content)) for _ in range(100)]
                async with crowd(serving.port, 0):
                    peers = [await Peer.connect(serving.port) for _ in sealed]
                    for peer, piece in zip(peers, sealed, strict=True):
                        await peer.send(piece)
                        peer.close()
        await assert_served(serving)


class TestBodies:
    """A body is what its head says, or it is refused."""

    @pytest.fixture(autouse=True)
    async def ready(self, started: Process) -> None:
        await asyncio.to_thread(started.wait_until_ready)

    async def test_too_large_by_its_head(self, started: Process) -> None:
        with bounded_memory(started.process.pid, more_bytes=16 * MIB):
            head = POST + b"content-length: %d\r\n\r\n" % (LIMIT_BYTES + 1)
            assert (await ask(started.port, head, *[bytes(MIB)] * 17)).startswith(b"HTTP/1.1 413 ")

    async def test_too_large_piece_by_piece(self, started: Process) -> None:
        chunk = b"100000\r\n" + bytes(MIB) + b"\r\n"
        head = POST + b"transfer-encoding: chunked\r\n\r\n"
        assert (await ask(started.port, head, *[chunk] * 18)).startswith(b"HTTP/1.1 413 ")

    @pytest.mark.parametrize("stated", [10**30, 2**64, 2**63, 10**12])
    async def test_more_than_there_is(self, started: Process, stated: int) -> None:
        reply = await ask(started.port, POST + b"content-length: %d\r\n\r\n" % stated)
        assert reply.startswith((b"HTTP/1.1 413 ", b"HTTP/1.1 400 "))

    async def test_shorter_than_stated(self, started: Process) -> None:
        peer = await Peer.connect(started.port)
        await peer.send(POST + b"content-length: 100\r\n\r\n" + bytes(99))
        peer.writer.write_eof()
        assert not (await peer.rest()).startswith(b"HTTP/1.1 200 ")
        peer.close()

    async def test_longer_than_stated(self, started: Process) -> None:
        sealed = seal(started, json.dumps(ROWS).encode())
        head = POST + b"content-length: %d\r\n\r\n" % len(sealed.body)
        replies = await ask(started.port, head + sealed.body + b"garbage\r\n\r\n")
        assert replies.count(b"HTTP/1.1 200 ") + replies.count(b"HTTP/1.1 400 ") <= 1

    @pytest.mark.parametrize("pieces", [1, 7, 1000])
    async def test_in_pieces(self, started: Process, pieces: int) -> None:
        sealed = seal(started, json.dumps(ROWS).encode())
        size = -(-len(sealed.body) // pieces)
        body = b"".join(
            b"%x\r\n%b\r\n" % (len(piece), piece)
            for piece in (sealed.body[at : at + size] for at in range(0, len(sealed.body), size))
        )
        reply = await ask(
            started.port, POST + b"transfer-encoding: chunked\r\n" + CLOSE + body + b"0\r\n\r\n"
        )
        assert reply.startswith(b"HTTP/1.1 200 ")

    async def test_compressed(self, started: Process) -> None:
        body = gzip.compress(seal(started, json.dumps(ROWS).encode()).body)
        head = POST + b"content-encoding: gzip\r\ncontent-length: %d\r\n" % len(body) + CLOSE
        assert (await ask(started.port, head + body)).startswith(b"HTTP/1.1 400 ")

    async def test_a_bomb(self, started: Process) -> None:
        body = gzip.compress(bytes(256 * MIB), compresslevel=9)
        head = POST + b"content-encoding: gzip\r\ncontent-length: %d\r\n" % len(body) + CLOSE
        with bounded_memory(started.process.pid, more_bytes=16 * MIB):
            assert (await ask(started.port, head + body)).startswith(b"HTTP/1.1 400 ")

    @pytest.mark.parametrize("method", [b"GET", b"PUT", b"HEAD", b"OPTIONS", b"TRACE", b"CONNECT", b"X"])
    async def test_other_methods(self, started: Process, method: bytes) -> None:
        head = POST.replace(b"POST", method, 1) + b"content-length: 0\r\n"
        reply = await ask(started.port, head + CLOSE)
        assert reply.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 400 "))


class TestInsideTheSeal:
    """What an admitted caller sends is refused inside, and costs no more than its size."""

    @pytest.fixture(autouse=True)
    async def ready(self, started: Process) -> None:
        await asyncio.to_thread(started.wait_until_ready)

    @staticmethod
    def entry(data: str, shape: str = "[1,3]") -> bytes:
        text = '{"inputs":[{"name":"x","shape":%s,"datatype":"FP32","data":%s}]}'
        return (text % (shape, data)).encode()

    HOSTILE: dict[str, Callable[[], bytes]] = {  # noqa: RUF012 - a table
        "nested": lambda: TestInsideTheSeal.entry("[" * 1_000_000),
        "many rows": lambda: TestInsideTheSeal.entry("[" + "[1]," * 3_000_000 + "[1]]", "[3000001,1]"),
        "empty objects": lambda: b'{"z":[' + b"{}," * 5_000_000 + b"{}]}",
        "keys": lambda: b"{" + b",".join(b'"%d":1' % n for n in range(1_000_000)) + b"}",
        "a shape of millions": lambda: TestInsideTheSeal.entry("[1]", "[" + "1," * 7_000_000 + "1]"),
        "a huge shape": lambda: TestInsideTheSeal.entry("[1]", "[268435456]"),
        "numbers": lambda: TestInsideTheSeal.entry("[" + "1," * 7_000_000 + "1]"),
        "one number": lambda: TestInsideTheSeal.entry("[" + "9" * 15_000_000 + "]"),
        "tensors": lambda: b'{"inputs":[' + b'{"name":0,"shape":0,"datatype":0},' * 400_000 + b"0]}",
        "text that is no UTF-8": lambda: (
            b'{"inputs":[{"name":"x","shape":[1,3],"datatype":"BYTES","data":["'
            + b"\xed\xa0\x80" * 5_000_000
            + b'"]}]}'
        ),
    }

    @pytest.mark.parametrize("name", HOSTILE)
    async def test_refused(self, started: Process, name: str) -> None:
        content = self.HOSTILE[name]()
        peak = 0

        async def watch() -> None:
            nonlocal peak
            while True:
                peak = max(peak, resident_bytes(started.process.pid))
                await asyncio.sleep(0.005)

        before = resident_bytes(started.process.pid)
        watching = asyncio.ensure_future(watch())
        answer = await ask_sealed(started, content)
        watching.cancel()
        assert answer.status == 400
        assert len(answer.content) < 4 * KIB
        assert peak - before < 8 * len(content) + 32 * MIB

    async def test_it_serves_on(self, started: Process) -> None:
        document: dict[str, Any] = {**ROWS, "outputs": [{"name": "y", "parameters": {"binary_data": 1}}]}
        assert (await ask_sealed(started, json.dumps(document).encode())).status == 400
        assert (await ask_sealed(started, json.dumps(ROWS).encode())).status == 200

    async def test_other_paths(self, started: Process) -> None:
        for path in ("/v2/models/../infer", "/v2/models/tumours/infer?x", "/v2/models/%74umours/infer", "*"):
            answer = await ask_sealed(started, b"{}", path=path)
            assert answer.status in (400, 404)
