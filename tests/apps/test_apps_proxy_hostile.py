"""Hostile peers before a real `s3ml proxy`: each is refused, and who behaves is served meanwhile."""

import gzip
import json
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

from s3ml.primitives.units import MIB
from tests.apps.conftest import Desk
from tests.client.proxy_process import RunningProxy, running_proxy
from tests.listening.peers import ask, bounded_memory, crowd

pytestmark = pytest.mark.integration

POST = b"POST /v2/models/tumours/infer HTTP/1.1\r\nhost: localhost\r\n"
CLOSE = b"connection: close\r\n\r\n"
LIMIT_BYTES = 16 * MIB
CALLS = 10


@pytest.fixture(scope="module")
def proxy(desk: Desk) -> Iterator[RunningProxy]:
    with running_proxy(desk.folder / "trust.toml", desk.gateway) as running:
        yield running


@pytest.fixture
def port(proxy: RunningProxy) -> int:
    return urlsplit(proxy.rest).port or 0


@pytest.fixture
def pid(proxy: RunningProxy) -> int:
    return proxy.process.pid


def framed(content: bytes, *fields: bytes) -> bytes:
    head = POST + b"".join(field + b"\r\n" for field in fields)
    return head + b"content-length: %d\r\n" % len(content) + CLOSE + content


def inputs(data: str, shape: str = "[1,30]") -> bytes:
    text = '{"inputs":[{"name":"x","shape":%s,"datatype":"FP32","data":%s}]}'
    return (text % (shape, data)).encode()


HONEST = framed(inputs(json.dumps([1.0] * 30)))


async def assert_served(port: int) -> None:
    """Ask honestly, one after the other; each is answered, beside whatever crowd there is."""
    for _ in range(CALLS):
        reply = await ask(port, HONEST)
        assert reply.startswith(b"HTTP/1.1 200 "), reply[:500]


class TestOthersAreServed:
    """However many connect and drip."""

    @pytest.mark.parametrize(
        ("count", "piece", "drip"),
        [
            pytest.param(300, POST + b"x: ", b"y", id="slow heads"),
            pytest.param(950, b"", b"", id="idle"),
            pytest.param(200, POST + b"content-length: 4000\r\n\r\n", b"x", id="slow bodies"),
            pytest.param(8, POST + b"content-length: %d\r\n\r\n" % LIMIT_BYTES, b"x", id="large claims"),
        ],
    )
    async def test_beside(self, port: int, pid: int, count: int, piece: bytes, drip: bytes) -> None:
        await assert_served(port)
        with bounded_memory(pid, more_bytes=64 * MIB):
            async with crowd(port, count, piece, drip=drip):
                await assert_served(port)


class TestRefusals:
    """The status says what is wrong, and nothing of it stays in memory."""

    @pytest.mark.parametrize(
        ("request_of", "statuses"),
        [
            pytest.param(lambda: POST + b"x: " + b"y" * 100_000 + b"\r\n\r\n", (431,), id="a large head"),
            pytest.param(lambda: POST + b"x: y\r\n" * 10_000 + b"\r\n", (431,), id="many fields"),
            pytest.param(lambda: framed(bytes(LIMIT_BYTES + 1)), (413,), id="a large body"),
            pytest.param(
                lambda: (
                    POST + b"transfer-encoding: chunked\r\n\r\n" + (b"100000\r\n" + bytes(MIB) + b"\r\n") * 18
                ),
                (413,),
                id="a large body in chunks",
            ),
            pytest.param(
                lambda: framed(gzip.compress(bytes(256 * MIB), 9), b"content-encoding: gzip"),
                (413,),
                id="a bomb",
            ),
            pytest.param(
                lambda: POST + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
                (400,),
                id="two framings",
            ),
            pytest.param(
                lambda: POST + b"content-length: 3\r\ncontent-length: 4\r\n\r\nabcd", (400,), id="two lengths"
            ),
            pytest.param(lambda: b"\x16\x03\x01\x00\xff", (400,), id="TLS"),
            pytest.param(lambda: framed(inputs("[" * 1_000_000)), (400,), id="nested"),
            pytest.param(
                lambda: framed(inputs("[" + "[1]," * 2_000_000 + "[1]]", "[2000001,1]")), (400,), id="rows"
            ),
            pytest.param(lambda: framed(b'{"z":[' + b"{}," * 4_000_000 + b"{}]}"), (400,), id="objects"),
            pytest.param(lambda: framed(b'{"inputs":[],"inputs":[]}'), (400,), id="a key twice"),
            pytest.param(lambda: framed(inputs("[NaN]", "[1,1]")), (400,), id="not a number"),
        ],
    )
    async def test_refused(
        self, port: int, pid: int, request_of: Callable[[], bytes], statuses: tuple[int, ...]
    ) -> None:
        content = request_of()
        with bounded_memory(pid, more_bytes=96 * MIB):
            reply = await ask(port, content)
        status = int(reply.split()[1]) if reply else 0
        assert status in statuses, reply[:500]
