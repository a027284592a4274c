"""A replica asks its peers over HTTP, one after the other, until one is a source; or says why none is."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, MutableSequence, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from s3ml.keyservice.client import KeyServiceRefusedError, KeyServiceUnavailableError
from s3ml.keyservice.documents import DeploymentReply, ErrorReply
from s3ml.keyservice.documents.joining import JoinHello, JoinRequest
from s3ml.keyservice.errors import BusyError, ConflictError, RefusedError
from s3ml.keyservice.joining import JoinSession, OpenedJoin, Reading
from s3ml.keyservice.parsing import encode_document, parse_document
from s3ml.keyservice.peers import (
    JOIN_PATH,
    OFFER_PATH,
    NoSourceError,
    PeerClient,
    UntrustedSourcesError,
    find_source,
)
from s3ml.primitives.errors import S3MLError, UnavailableError, UntrustedPeerError
from tests.clocks import NOW, FakeClock
from tests.keyservice.keyservice_join_world import CACHE, GENUINE, STRANGER, Deployment, Enclave
from tests.ports import refusing_port

STATUSES: Sequence[tuple[type[S3MLError], int]] = (
    (BusyError, 429),
    (UnavailableError, 503),
    (ConflictError, 409),
    (UntrustedPeerError, 403),
)


@dataclass
class Peer:
    """A replica behind a socket: honest, unless a test says what it fails with or answers."""

    deployment: Deployment
    enclave: Enclave = GENUINE
    fails: S3MLError | None = None
    answers: bytes | None = None
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        peer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.send(200, peer.standing())

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                peer.asked.append(self.path)
                try:
                    self.send(200, peer.answer(self.path, body))
                except S3MLError as error:
                    status = next(status for kind, status in STATUSES if isinstance(error, kind))
                    wait_s = getattr(error, "retry_after_s", None)
                    self.send(status, encode_document(ErrorReply(error=str(error))), wait_s)

            def send(self, status: int, body: bytes, wait_s: float | None = None) -> None:
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                if wait_s is not None:
                    self.send_header("retry-after", f"{wait_s:.0f}")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()
        self.client = PeerClient(f"http://127.0.0.1:{self.server.server_port}/", timeout_s=120.0)

    def standing(self) -> bytes:
        reply = DeploymentReply(
            state="serving",
            deployment=self.deployment.id,
            is_simulated=True,
            is_fork_protected=False,
            replica="ab" * 32,
            replica_nonce=bytes(32),
        )
        return encode_document(reply)

    def answer(self, path: str, body: bytes) -> bytes:
        if self.fails is not None:
            raise self.fails
        if self.answers is not None:
            return self.answers
        if path == OFFER_PATH:
            hello = parse_document(body, JoinHello, what="hello", limit_bytes=4096)
            return encode_document(self.deployment.offer(hello))
        request = parse_document(body, JoinRequest, what="request", limit_bytes=2**18)
        return encode_document(self.deployment.reply(request, self.enclave))

    def stop(self) -> None:
        self.client.close()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(120)


Make = Callable[..., Peer]


@pytest.fixture
def peer() -> Iterator[Make]:
    with contextlib.ExitStack() as stack:

        def make(deployment: Deployment, **fields: object) -> Peer:
            made = Peer(deployment, **fields)  # type: ignore[arg-type]
            stack.callback(made.stop)
            return made

        yield make


@pytest.fixture
def ours() -> Deployment:
    return Deployment("ours")


def in_order(_: MutableSequence[PeerClient]) -> None:
    """Leave the peers as they are."""


def joined(
    deployment: Deployment,
    *peers: Peer | PeerClient,
    read: Callable[[int], Reading] | None = None,
    shuffle: Callable[[MutableSequence[PeerClient]], None] = in_order,
) -> OpenedJoin:
    clock = FakeClock()

    def begin() -> JoinSession:
        return JoinSession(deployment.id, GENUINE.quote, now_s=clock.monotonic_s())

    return find_source(
        [one.client if isinstance(one, Peer) else one for one in peers],
        begin,
        read or (lambda size: deployment.reading(size=size)),
        clock=clock,
        cache=CACHE,
        shuffle=shuffle,
    )


class TestPeerClient:
    def test_where_it_stands(self, ours: Deployment, peer: Make) -> None:
        assert peer(ours).client.standing().deployment == ours.id

    def test_it_asks_for_an_offer_and_for_the_secrets(self, ours: Deployment, peer: Make) -> None:
        one = peer(ours)
        session = ours.session()
        reply = one.client.join(ours.answer(session, one.client.join_offer(session.hello())))
        opened = session.open(reply, now=NOW, now_s=ours.clock.monotonic_s(), cache=CACHE)
        assert opened.secrets.reveal() == ours.secrets
        assert one.asked == [OFFER_PATH, JOIN_PATH]

    @pytest.mark.parametrize(
        ("fails", "error"),
        [
            (BusyError("join: too many", retry_after_s=2.0), KeyServiceUnavailableError),
            (RefusedError("join", []), KeyServiceRefusedError),
        ],
    )
    def test_what_it_fails_with(
        self, ours: Deployment, peer: Make, fails: S3MLError, error: type[S3MLError]
    ) -> None:
        with pytest.raises(error, match="join"):
            peer(ours, fails=fails).client.join_offer(ours.session().hello())

    def test_a_reply_beyond_its_limit(self, ours: Deployment, peer: Make) -> None:
        with pytest.raises(UntrustedPeerError, match="at most 65536 bytes"):
            peer(ours, answers=b" " * 65537).client.join_offer(ours.session().hello())
        with pytest.raises(UntrustedPeerError, match="at most 2097152 bytes"):
            peer(ours, answers=b" " * 2097153).client.join(JoinRequest(nonce=bytes(32), evidence=b"x"))


class TestFindingASource:
    def test_the_first_that_serves(self, ours: Deployment, peer: Make) -> None:
        first, second = peer(ours), peer(ours)
        opened = joined(ours, first, second)
        assert opened.secrets.reveal() == ours.secrets
        assert (first.asked, second.asked) == ([OFFER_PATH, JOIN_PATH], [])

    def test_the_order_is_random(self, ours: Deployment, peer: Make) -> None:
        first, second = peer(ours), peer(ours)
        joined(ours, first, second, shuffle=lambda peers: peers.reverse())
        assert (first.asked, second.asked) == ([], [OFFER_PATH, JOIN_PATH])

    def test_each_that_fails_is_passed_over(self, ours: Deployment, peer: Make) -> None:
        """Nobody there, recovering, another deployment, another build, nonsense; then one that serves."""
        with refusing_port() as port:
            opened = joined(
                ours,
                PeerClient(f"http://127.0.0.1:{port}", timeout_s=120.0),
                peer(ours, fails=UnavailableError("key service: is recovering")),
                peer(Deployment("theirs")),
                peer(ours, enclave=STRANGER),
                peer(ours, answers=b"<html>"),
                peer(ours),
            )
        assert opened.secrets.reveal() == ours.secrets

    def test_it_reads_on_to_where_the_source_stands(self, ours: Deployment, peer: Make) -> None:
        sizes: list[int] = []

        def read(size: int) -> Reading:
            sizes.append(size)
            return ours.reading(size=size)

        ours.size = 7
        assert joined(ours, peer(ours), read=read).offer.log_size == 7
        assert sizes == [7]

    def test_no_peers(self, ours: Deployment) -> None:
        with pytest.raises(NoSourceError, match="at least one other replica, got none"):
            joined(ours)

    def test_every_reason_is_told_in_one_line(self, ours: Deployment, peer: Make) -> None:
        one = peer(ours, fails=BusyError("join: too many\nreplicas join", retry_after_s=9.0))
        two = peer(ours, fails=UnavailableError("key service: is recovering", retry_after_s=4.0))
        three = peer(Deployment("theirs"))
        with pytest.raises(NoSourceError) as caught:
            joined(ours, one, two, three)
        told = str(caught.value)
        assert "\n" not in told
        assert "none of 3 peers is a source" in told
        for each, reason in ((one, "too many replicas join"), (two, "is recovering"), (three, "deployment")):
            assert f"{each.client.url}: key service: " in told
            assert reason in told
        assert caught.value.retry_after_s == 4.0

    def test_what_may_pass_asks_for_another_try(self, ours: Deployment, peer: Make) -> None:
        """A peer that is ahead of what can be read here; one whose policy changed between two messages."""
        for one in (peer(ours), peer(ours, fails=ConflictError("join: the policy changed"))):
            with pytest.raises(NoSourceError) as caught:
                joined(ours, one, read=lambda _: ours.reading(size=3))
            assert caught.value.retry_after_s is None

    def test_nobody_who_can_be_trusted(self, ours: Deployment, peer: Make) -> None:
        with pytest.raises(UntrustedSourcesError, match="none of 2 peers") as caught:
            joined(ours, peer(Deployment("theirs")), peer(ours, enclave=STRANGER))
        assert "measurement" in str(caught.value)
        assert ours.secrets.decode() not in str(caught.value)

    def test_a_peer_that_never_answers_holds_up_for_its_deadline_alone(
        self, ours: Deployment, peer: Make
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            dead = PeerClient(f"http://127.0.0.1:{port}", timeout_s=0.2)
            assert joined(ours, dead, peer(ours)).secrets.reveal() == ours.secrets
