"""The real server, a real socket, the real client."""

import asyncio
import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

import pytest
import uvicorn

from s3ml.attestation import encode_policy
from s3ml.keyservice.client import KeyServiceClient, KeyServiceRefusedError, KeyServiceUnavailableError
from s3ml.keyservice.documents import GenesisRequest, TrustBundleRequest
from s3ml.keyservice.errors import BusyError
from s3ml.keyservice.fields import GENESIS_LIMIT_BYTES
from s3ml.keyservice.server import Gate, create_app
from s3ml.primitives.errors import UntrustedPeerError
from tests.keyservice.keyservice_world import (
    MODEL_POLICY,
    NONCE,
    OWNER_KEYS,
    World,
    signed_proposal,
)
from tests.ports import refusing_port


class Live:
    """A key service on a port of its own."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.socket.listen(64)
        self.port = self.socket.getsockname()[1]
        config = uvicorn.Config(
            create_app(world.service, world.events), http="httptools", log_config=None, lifespan="on"
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        self.client = KeyServiceClient(f"http://127.0.0.1:{self.port}/", timeout_s=120.0)

    def _run(self) -> None:
        asyncio.run(self.server.serve(sockets=[self.socket]))

    def stop(self) -> None:
        self.client.close()
        self.server.should_exit = True
        self.thread.join(120)
        self.socket.close()

    def serve(self) -> None:
        """Have the owners sign a policy and a service."""
        world = self.world
        self.client.control(world.message("policies/models", 1, encode_policy(MODEL_POLICY)))
        sealed = world.sealed_identity()
        body = world.document(world.manifest(sealed))
        self.client.control(world.message("services/tumours", 1, body, attachments=(sealed,)))

    def raw(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            reply = connection.getresponse()
            return reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read()


@pytest.fixture
def live(world: World) -> Iterator[Live]:
    made = Live(world)
    yield made
    made.stop()


@pytest.fixture
def begun(live: Live) -> Live:
    live.client.genesis(GenesisRequest(proposal=signed_proposal(), nonce=NONCE))
    return live


class TestSlowBodies:
    """Whoever sends slowly waits alone."""

    def test_idle_connections_hold_nobody_up(self, begun: Live) -> None:
        head = b"POST /v1/control HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n"
        with contextlib.ExitStack() as stack:
            for _ in range(40):
                idle = socket.create_connection(("127.0.0.1", begun.port), timeout=120)
                stack.enter_context(contextlib.closing(idle)).sendall(head)
            message = begun.world.message("policies/models", 1, encode_policy(MODEL_POLICY))
            assert begun.client.control(message).index == 1


class TestTheWay:
    def test_from_genesis_to_a_verified_service(self, begun: Live) -> None:
        world, client = begun.world, begun.client
        client.control(world.message("policies/models", 1, encode_policy(MODEL_POLICY)))
        sealed = world.sealed_identity()
        body = world.document(world.manifest(sealed))
        reply = client.control(world.message("services/tumours", 1, body, attachments=(sealed,)))
        assert (reply.index, reply.log_size) == (2, 5)
        session = world.session()
        challenge = client.challenge(session.challenge_request())
        opened = session.open(client.release(session.answer(challenge)))
        assert opened.release.models[0].identity == world.identity
        verified = world.verify(client.trust_bundle(TrustBundleRequest(service="tumours", nonce=NONCE)))
        assert verified.log_size == 5
        assert len(client.entries(0, 99).entries) == 5
        assert client.checkpoint() == client.deployment().checkpoint
        assert len(client.resources().resources) == 2

    def test_the_audit_stream_is_committed_at_the_end(self, world: World) -> None:
        live = Live(world)
        live.client.genesis(GenesisRequest(proposal=signed_proposal(), nonce=NONCE))
        live.serve()
        session = world.session()
        live.client.release(session.answer(live.client.challenge(session.challenge_request())))
        live.stop()
        assert world.view.state.audited == 1

    def test_health(self, live: Live) -> None:
        assert live.raw("GET", "/livez")[0] == 200
        assert live.raw("GET", "/readyz")[0] == 503
        live.client.genesis(GenesisRequest(proposal=signed_proposal(), nonce=NONCE))
        assert live.raw("GET", "/readyz")[0] == 200
        status, headers, text = live.raw("GET", "/metrics")
        assert status == 200
        assert headers["content-type"].startswith("text/plain; version=0.0.4")
        assert b's3ml_keyservice_requests_total{route="/readyz",status="503"} 1' in text


class TestErrors:
    @pytest.mark.parametrize(
        ("method", "path", "body", "status", "told"),
        [
            ("POST", "/v1/genesis", b"{", 400, "request:"),
            ("POST", "/v1/control", b"{}", 400, "missing required field"),
            ("GET", "/v1/resources", b"", 404, "none yet"),
            ("GET", "/v1/checkpoint", b"", 404, "none yet"),
            ("GET", "/v1/entries?start=0&end=1", b"", 404, "entries"),
            ("GET", "/v1/entries?start=-1&end=1", b"", 400, "start: expected a whole number"),
            ("GET", "/v1/entries?start=0", b"", 400, "end: expected a whole number"),
            ("GET", "/v1/nothing", b"", 404, "no such path"),
            ("DELETE", "/v1/control", b"", 405, "no such path or method"),
            ("GET", "/v1/policies/../../metrics", b"", 404, "no such path"),
        ],
    )
    def test_each_has_its_status(
        self, live: Live, *, method: str, path: str, body: bytes, status: int, told: str
    ) -> None:
        got, _, data = live.raw(method, path, body)
        assert (got, told in json.loads(data)["error"]) == (status, True), data

    def test_conflict_and_refusal(self, begun: Live) -> None:
        other = signed_proposal(random=bytes([1]) * 32)
        with pytest.raises(KeyServiceRefusedError, match="begun already") as conflict:
            begun.client.genesis(GenesisRequest(proposal=other, nonce=NONCE))
        assert conflict.value.status == 409
        message = begun.world.message("policies/a", 1, b"", keys=OWNER_KEYS, deployment="ab" * 32)
        with pytest.raises(KeyServiceRefusedError) as refused:
            begun.client.control(message)
        assert refused.value.status == 403
        assert [m.claim for m in refused.value.mismatches] == ["deployment"]

    def test_a_changed_build_learns_what_was_expected(self, begun: Live) -> None:
        begun.serve()
        session = begun.world.session(bytes(32))
        challenge = begun.client.challenge(session.challenge_request())
        request = session.answer(challenge)
        with pytest.raises(KeyServiceRefusedError) as refused:
            begun.client.release(request)
        assert [m.claim for m in refused.value.mismatches] == ["measurement"]

    def test_a_bug_says_nothing_of_itself(self, live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
        def bug() -> None:
            raise RuntimeError("a secret detail")

        monkeypatch.setattr(live.world.service, "checkpoint", bug)
        status, _, data = live.raw("GET", "/v1/checkpoint")
        assert status == 500
        assert b"secret" not in data
        assert "secret" not in live.world.lines.getvalue()

    def test_unavailable_says_when_to_come_again(self, begun: Live) -> None:
        begun.serve()
        begun.world.storage._connection.execute("DELETE FROM head")
        status, headers, data = begun.raw(
            "POST", "/v1/trust-bundle", json.dumps({"service": "tumours", "nonce": "A" * 43 + "="}).encode()
        )
        assert (status, headers["retry-after"]) == (503, "1")
        assert b"the database went back" in data


class TestLimits:
    def test_an_announced_length_is_enough(self, live: Live) -> None:
        status, _, data = live.raw(
            "POST", "/v1/genesis", b"", {"content-length": str(GENESIS_LIMIT_BYTES + 1)}
        )
        assert status == 413
        assert b"at most 262144 bytes" in data

    def test_a_body_in_chunks_is_counted(self, live: Live) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=120)
        with contextlib.closing(connection):
            chunks: Any = (bytes(2**16) for _ in range(5))
            with contextlib.suppress(OSError):
                connection.request("POST", "/v1/genesis", chunks, encode_chunked=True)
            assert connection.getresponse().status == 413

    def test_whoever_leaves_is_forgotten(self, live: Live) -> None:
        with contextlib.closing(socket.create_connection(("127.0.0.1", live.port), 10)) as peer:
            peer.sendall(b"POST /v1/genesis HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
        assert live.raw("GET", "/livez")[0] == 200
        counted = 'route="/v1/genesis",status="400"'
        deadline_s = time.monotonic() + 120
        while counted not in live.world.service.metrics.render(live.world.service.gauges()):
            assert time.monotonic() < deadline_s, counted
            live.raw("GET", "/livez")

    async def test_a_flood_waits_in_bounds(self) -> None:
        gate = Gate(running=1, waiting=1)
        async with gate.enter():
            waiting = asyncio.ensure_future(self.enter(gate))
            await asyncio.sleep(0)
            with pytest.raises(BusyError):
                await self.enter(gate)
        await waiting

    @staticmethod
    async def enter(gate: Gate) -> None:
        async with gate.enter():
            pass


class Canned:
    """A peer that sends the same bytes to everybody."""

    def __init__(self, reply: bytes) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.client = KeyServiceClient(f"http://127.0.0.1:{self.socket.getsockname()[1]}", timeout_s=120.0)
        self.reply = reply
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        peer, _ = self.socket.accept()
        with peer, contextlib.suppress(OSError):
            peer.recv(65536)
            peer.sendall(self.reply)

    def stop(self) -> None:
        self.client.close()
        self.socket.close()
        self.thread.join(120)


@pytest.fixture
def canned() -> Iterator[Callable[[bytes], KeyServiceClient]]:
    made: list[Canned] = []

    def make(reply: bytes) -> KeyServiceClient:
        made.append(Canned(reply))
        return made[-1].client

    yield make
    for one in made:
        one.stop()


class Trickle:
    """A peer that answers one request after the other on one connection, and the last without an end."""

    def __init__(self, *replies: bytes) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.replies = replies
        self.accepted = 0
        self.has_ended = threading.Event()
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._serve)

    def client(self, timeout_s: float) -> KeyServiceClient:
        return KeyServiceClient(f"http://127.0.0.1:{self.socket.getsockname()[1]}", timeout_s=timeout_s)

    def _serve(self) -> None:
        peer, _ = self.socket.accept()
        self.accepted += 1
        with peer, contextlib.suppress(OSError):
            for reply in self.replies:
                peer.recv(65536)
                peer.sendall(reply)
            for _ in range(6000):
                if self.stopped.wait(0.02):
                    return
                peer.sendall(b"x")
            self.has_ended.set()

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.thread.join(120)
        self.socket.close()


def http_reply(status: str, body: bytes, *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *headers, "", ""]
    return "\r\n".join(head).encode() + body


Make = Callable[[bytes], KeyServiceClient]


class TestClientAgainstAnyPeer:
    def test_nobody_there(self) -> None:
        with (
            refusing_port() as port,
            pytest.raises(KeyServiceUnavailableError, match="does not answer"),
        ):
            KeyServiceClient(f"http://127.0.0.1:{port}", timeout_s=2.0).deployment()

    @pytest.mark.parametrize(
        ("field", "expected"),
        [
            ("retry-after: 7", 7.0),
            ("retry-after: 99999", 3600.0),
            ("retry-after: soon", None),
            ("x: y", None),
        ],
    )
    def test_come_again(self, canned: Make, field: str, expected: float | None) -> None:
        client = canned(http_reply("503 Unavailable", b"<html>", field))
        with pytest.raises(KeyServiceUnavailableError, match="answered 503") as caught:
            client.deployment()
        assert caught.value.retry_after_s == expected

    def test_too_many(self, canned: Make) -> None:
        with pytest.raises(KeyServiceUnavailableError):
            canned(http_reply("429 Too Many", b"{}")).deployment()

    def test_no_document(self, canned: Make) -> None:
        from s3ml.keyservice.parsing import DocumentMalformedError

        with pytest.raises(DocumentMalformedError):
            canned(http_reply("200 OK", b"<html>")).deployment()

    def test_a_redirect_is_not_followed(self, canned: Make) -> None:
        with pytest.raises(KeyServiceRefusedError, match="302"):
            canned(http_reply("302 Found", b"", "location: http://127.0.0.1:1/")).deployment()

    def test_a_reply_without_end(self, canned: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        client = canned(http_reply("200 OK", bytes(5000)))
        with pytest.raises(UntrustedPeerError, match="at most 1000 bytes"):
            client._exchange.send("GET", "/v1/deployment", limit_bytes=1000)

    @pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK\r\nx: ", b"HTTP/1.1 200 OK\r\n\r\n"])
    def test_a_reply_that_trickles_in(self, start: bytes) -> None:
        """A byte now and then keeps every single read alive, but not the exchange."""
        with Trickle(start) as peer, contextlib.closing(peer.client(timeout_s=0.3)) as client:
            with pytest.raises(KeyServiceUnavailableError, match="takes too long"):
                client.deployment()
            assert not peer.has_ended.is_set()

    def test_a_reply_that_trickles_in_on_a_connection_that_served(self) -> None:
        served = http_reply("503 Unavailable", b"{}").replace(b"connection: close\r\n", b"")
        with Trickle(served, b"HTTP/1.1 200 OK\r\nx: ") as peer:
            with contextlib.closing(peer.client(timeout_s=2.0)) as client:
                with pytest.raises(KeyServiceUnavailableError, match="answered 503"):
                    client.deployment()
                with pytest.raises(KeyServiceUnavailableError, match="takes too long"):
                    client.deployment()
            assert peer.accepted == 1
