"""Both clients over real connections: the same facts hold of each."""

import asyncio
import socket
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from s3ml.client import (
    AsyncClient,
    Client,
    DeadlineExceededError,
    Statistics,
    TransientError,
    UnknownServiceError,
    UntrustedServiceError,
)
from s3ml.client.inputs import ArrayLike
from s3ml.client.results import InferResult
from s3ml.client.steps import Alone, HTTPReply, HTTPRequest, Pause, Program
from s3ml.keyservice.client import VerifiedService
from s3ml.primitives.errors import ConfigurationError
from tests.client.servers import WorldServer, shut, write
from tests.client.world import SERVICE, TRUST, World, sealed_reply, status

SHORT_S = 4.0
ROWS = np.array([[1.0, 2.0]], dtype=np.float32)


class Blocking:
    """`Client`, as it is."""

    def __init__(self, url: str, **options: Any) -> None:
        self.client = Client(url, TRUST, **options)

    def infer(self, inputs: Mapping[str, ArrayLike], service: str = SERVICE) -> InferResult:
        return self.client.infer(service, inputs)

    def many(self, count: int) -> list[InferResult]:
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(lambda _: self.infer({"x": ROWS}), range(count)))

    def verify(self) -> VerifiedService:
        return self.client.verify(SERVICE)

    def metadata(self) -> dict[str, Any]:
        return self.client.metadata(SERVICE)

    @property
    def statistics(self) -> Statistics:
        return self.client.statistics

    def close(self) -> None:
        self.client.close()


class Awaited:
    """`AsyncClient`, awaited in a loop of its own."""

    def __init__(self, url: str, **options: Any) -> None:
        self.runner = asyncio.Runner()
        self.client = AsyncClient(url, TRUST, **options)

    def infer(self, inputs: Mapping[str, ArrayLike], service: str = SERVICE) -> InferResult:
        return self.runner.run(self.client.infer(service, inputs))

    def many(self, count: int) -> list[InferResult]:
        async def gather() -> list[InferResult]:
            return await asyncio.gather(*(self.client.infer(SERVICE, {"x": ROWS}) for _ in range(count)))

        return self.runner.run(gather())

    def verify(self) -> VerifiedService:
        return self.runner.run(self.client.verify(SERVICE))

    def metadata(self) -> dict[str, Any]:
        return self.runner.run(self.client.metadata(SERVICE))

    @property
    def statistics(self) -> Statistics:
        return self.client.statistics

    def close(self) -> None:
        self.runner.run(self.client.close())
        self.runner.close()


Shell = Blocking | Awaited


@pytest.fixture
def gateway(live_world: World) -> Iterator[WorldServer]:
    made = WorldServer(live_world)
    yield made
    made.close()


@pytest.fixture(params=[Blocking, Awaited])
def kind(request: pytest.FixtureRequest) -> type[Shell]:
    chosen: type[Shell] = request.param
    return chosen


@pytest.fixture(params=[Client, AsyncClient])
def client(request: pytest.FixtureRequest) -> type[Client | AsyncClient]:
    chosen: type[Client | AsyncClient] = request.param
    return chosen


@pytest.fixture
def shell(kind: type[Shell], gateway: WorldServer) -> Iterator[Shell]:
    made = kind(gateway.url + "/", timeout_s=120.0)
    yield made
    made.close()


class TestCalls:
    """Both clients do the same, over connections that they keep."""

    def test_arrays_in_arrays_out(self, shell: Shell) -> None:
        assert shell.infer({"x": ROWS})["y"].tolist() == [[2.0, 4.0]]
        assert shell.infer({"x": [[3, 4]]})["y"].tolist() == [[6.0, 8.0]]

    def test_a_large_body(self, shell: Shell) -> None:
        rows = np.arange(600_000, dtype=np.float32).reshape(-1, 2)
        assert (shell.infer({"x": rows})["y"] == rows * 2).all()

    def test_verify_and_metadata(self, shell: Shell) -> None:
        assert shell.verify().deployment == TRUST.deployment
        assert shell.metadata() == {"name": "s3ml"}

    def test_connections_are_kept(self, shell: Shell, gateway: WorldServer) -> None:
        for _ in range(5):
            shell.infer({"x": ROWS})
        assert len(gateway.connections) == 1

    def test_a_gateway_learns_no_more_than_it_must(self, shell: Shell, gateway: WorldServer) -> None:
        shell.infer({"x": ROWS})
        allowed = {"host", "content-type", "content-length", "user-agent", "accept-encoding"}
        for headers in gateway.headers:
            assert set(headers) <= allowed
            assert headers["user-agent"] == "s3ml"
            assert headers.get("accept-encoding", "identity") == "identity"

    def test_many_at_once_verify_once(self, shell: Shell, gateway: WorldServer) -> None:
        answers = shell.many(16)
        assert [answer["y"].tolist() for answer in answers] == [[[2.0, 4.0]]] * 16
        assert len(gateway.world.asked) == 1
        assert shell.statistics == Statistics(requests=16, retries=0, refreshes=1)

    def test_a_new_epoch_is_fetched_once_for_all(self, shell: Shell, gateway: WorldServer) -> None:
        shell.infer({"x": ROWS})
        gateway.world.rotate()
        shell.many(8)
        assert shell.statistics.refreshes == 2

    def test_unknown_service(self, shell: Shell) -> None:
        with pytest.raises(UnknownServiceError):
            shell.infer({"x": ROWS}, "birds")


class TestFaults:
    """A broken connection is a reason to seal afresh; a dead gateway one to say so in time."""

    def test_a_connection_that_breaks_before_the_answer(self, shell: Shell, gateway: WorldServer) -> None:
        shell.infer({"x": ROWS})

        gateway.raw.append(shut)
        assert shell.infer({"x": ROWS})["y"].tolist() == [[2.0, 4.0]]
        assert shell.statistics.retries == 1

    def test_an_answer_that_breaks_off(self, shell: Shell, gateway: WorldServer) -> None:
        def half(handler: BaseHTTPRequestHandler) -> None:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
            handler.close_connection = True

        gateway.raw.append(half)
        shell.infer({"x": ROWS})
        assert shell.statistics.retries == 1

    def test_503_is_tried_again(self, shell: Shell, gateway: WorldServer) -> None:
        gateway.world.sealed.append(status(503))
        shell.infer({"x": ROWS})
        assert shell.statistics.retries == 1

    def test_nobody_there(self, kind: type[Shell]) -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            shell = kind(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=2.0)
            with pytest.raises(DeadlineExceededError, match="refuses connections, or is not there"):
                shell.verify()
            shell.close()

    def test_a_name_that_does_not_resolve(self, kind: type[Shell], monkeypatch: pytest.MonkeyPatch) -> None:
        def unknown(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        shell = kind("http://gateway.invalid", timeout_s=0.2)
        with pytest.raises(DeadlineExceededError, match=r"gateway http://gateway\.invalid: "):
            shell.verify()
        shell.close()

    def test_tls_that_fails_is_not_tried_again(self, kind: type[Shell], gateway: WorldServer) -> None:
        shell = kind(gateway.url.replace("http:", "https:"))
        with pytest.raises(UntrustedServiceError, match="TLS failed: "):
            shell.verify()
        assert shell.statistics.retries == 0
        shell.close()

    def test_a_gateway_that_never_answers(self, kind: type[Shell], gateway: WorldServer) -> None:
        release = threading.Event()

        def hang(_: BaseHTTPRequestHandler) -> None:
            release.wait()

        gateway.raw.append(hang)
        shell = kind(gateway.url, timeout_s=0.2)
        with pytest.raises(DeadlineExceededError, match="did not answer in time"):
            shell.verify()
        shell.close()
        release.set()

    @pytest.mark.parametrize(
        "beginning",
        [b"HTTP/1.1 200 OK\r\nx-slow: ", b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n"],
    )
    def test_an_answer_that_drips_in(self, kind: type[Shell], gateway: WorldServer, beginning: bytes) -> None:
        """Each byte is in time; the answer is not."""
        release = threading.Event()

        def drip(handler: BaseHTTPRequestHandler) -> None:
            handler.wfile.write(beginning)
            while not release.wait(0.01):
                handler.wfile.write(b"H")

        gateway.raw.append(drip)
        shell = kind(gateway.url, timeout_s=0.2)
        fallback = threading.Timer(120.0, release.set)
        fallback.start()
        with pytest.raises(DeadlineExceededError):
            shell.verify()
        assert not release.is_set()
        fallback.cancel()
        release.set()
        shell.close()

    def test_an_answer_that_stalls_late(self, kind: type[Shell], gateway: WorldServer) -> None:
        """What is left of the time counts, not the whole of it anew."""
        release = threading.Event()
        has_ended: list[bool] = []

        def stall(handler: BaseHTTPRequestHandler) -> None:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\nx")
            has_ended.append(not release.wait(120))

        gateway.raw.append(stall)
        shell = kind(gateway.url, timeout_s=0.5)
        with pytest.raises(DeadlineExceededError):
            shell.verify()
        assert has_ended == []
        release.set()
        shell.close()

    def test_a_short_deadline_shortens_no_later_one(self, gateway: WorldServer) -> None:
        """A connection that is kept forgets the deadline of the request before."""
        with Client(gateway.url, TRUST) as client:
            client.infer(SERVICE, {"x": ROWS}, timeout_s=120.0)
            client.infer(SERVICE, {"x": ROWS}, timeout_s=SHORT_S)

            def later(_: HTTPRequest) -> HTTPReply | None:
                threading.Event().wait(1.2 * SHORT_S)
                return None

            gateway.world.sealed.append(later)
            client.infer(SERVICE, {"x": ROWS}, timeout_s=120.0)
            assert client.statistics.retries == 0
        assert len(gateway.connections) == 1

    def test_an_answer_without_end(self, kind: type[Shell], gateway: WorldServer) -> None:
        gateway.raw.append(
            lambda handler: write(handler, HTTPReply(status=200, body=bytes(4 * 1024 * 1024 + 1)))
        )
        shell = kind(gateway.url, timeout_s=60.0)
        shell.verify()
        assert shell.statistics.retries == 1
        shell.close()

    def test_a_redirect_is_not_followed(self, shell: Shell, gateway: WorldServer) -> None:
        shell.verify()
        gateway.world.sealed.append(
            lambda _: HTTPReply(status=307, headers={"location": "http://127.0.0.1:1/"})
        )
        with pytest.raises(UntrustedServiceError, match="got status 307"):
            shell.infer({"x": ROWS})

    def test_a_compressed_answer_is_not_expanded(self, shell: Shell, gateway: WorldServer) -> None:
        def claimed(request: HTTPRequest) -> HTTPReply:
            reply = gateway.world._ohttp(request)
            return HTTPReply(
                status=200, headers={**reply.headers, "content-encoding": "gzip"}, body=reply.body
            )

        gateway.world.sealed.append(claimed)
        assert shell.infer({"x": ROWS})["y"].tolist() == [[2.0, 4.0]]

    def test_an_answer_to_nobody_is_refused(self, shell: Shell, gateway: WorldServer) -> None:
        gateway.world.sealed.append(lambda _: sealed_reply(bytes(100)))
        with pytest.raises(UntrustedServiceError, match="does not open"):
            shell.infer({"x": ROWS})


class TestAlone:
    """One call at a time verifies a service; the others wait for it, or go without."""

    @staticmethod
    def nested(timeout_s: float) -> Program[Any]:
        """Ask for a turn within a turn of the same name."""

        def nothing() -> Program[str]:
            yield Pause(duration_s=0.0)
            return "ran"

        def inner() -> Program[Any]:
            return (yield Alone(name="tumours", program=nothing, timeout_s=timeout_s))

        return (yield Alone(name="tumours", program=inner, timeout_s=5.0))

    @pytest.mark.parametrize("timeout_s", [0.0, 0.01])
    def test_blocking(self, timeout_s: float) -> None:
        with Client("http://h", TRUST) as client:
            if timeout_s == 0:
                assert client._shell.run(self.nested(timeout_s)) is None
                return
            with pytest.raises(TransientError, match="still verifying"):
                client._shell.run(self.nested(timeout_s))

    @pytest.mark.parametrize("timeout_s", [0.0, 0.01])
    async def test_awaited(self, timeout_s: float) -> None:
        async with AsyncClient("http://h", TRUST) as client:
            if timeout_s == 0:
                assert await client._run(self.nested(timeout_s)) is None
                return
            with pytest.raises(TransientError, match="still verifying"):
                await client._run(self.nested(timeout_s))


class TestConstruction:
    """What cannot work is refused before anything is sent."""

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "127.0.0.1:8080",
            "ftp://127.0.0.1",
            "http://",
            "http://user:secret@host",
            "http://h/?q",
            "http://h/#f",
            "http://h:0",
            "http://h:x",
            "http://[::1",
        ],
    )
    def test_url(self, client: type[Client | AsyncClient], url: str) -> None:
        with pytest.raises(ConfigurationError, match="gateway URL: ") as refused:
            client(url, TRUST)
        assert "secret" not in str(refused.value)

    def test_trust_file(self, client: type[Client | AsyncClient], tmp_path: Path) -> None:
        path = tmp_path / "trust.toml"
        TRUST.write(path)
        made = client("http://127.0.0.1:1", str(path))
        assert made.statistics == Statistics(requests=0, retries=0, refreshes=0)
        with pytest.raises(ConfigurationError, match="No such file"):
            client("http://127.0.0.1:1", tmp_path / "missing.toml")

    def test_log_state_outlives_the_client(
        self, kind: type[Shell], tmp_path: Path, gateway: WorldServer
    ) -> None:
        for _ in range(2):
            shell = kind(gateway.url, log_state=tmp_path / "log.json")
            shell.verify()
            shell.close()
        assert [asked.known_size for asked in gateway.world.asked] == [None, 5]

    def test_timeout(self, client: type[Client | AsyncClient]) -> None:
        with pytest.raises(ConfigurationError, match="timeout_s"):
            client("http://h", TRUST, timeout_s=0)


class TestLifetime:
    """Both are context managers, and leave no connection open."""

    def test_blocking(self, gateway: WorldServer) -> None:
        with Client(gateway.url, TRUST) as client:
            client.infer(SERVICE, {"x": ROWS})

    async def test_awaited(self, gateway: WorldServer) -> None:
        async with AsyncClient(gateway.url, TRUST) as client:
            await client.infer(SERVICE, {"x": ROWS})

    async def test_a_cancelled_call_blocks_nobody(self, gateway: WorldServer) -> None:
        """Whoever verified was cancelled; the next one verifies."""
        release = threading.Event()
        reached = threading.Event()

        def hang(_: BaseHTTPRequestHandler) -> None:
            reached.set()
            release.wait()

        gateway.raw.append(hang)
        async with AsyncClient(gateway.url, TRUST) as client:
            first = asyncio.create_task(client.infer(SERVICE, {"x": ROWS}))
            await asyncio.to_thread(reached.wait)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            release.set()
            assert (await client.infer(SERVICE, {"x": ROWS}))["y"].tolist() == [[2.0, 4.0]]
