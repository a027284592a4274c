"""One request: its limits hold whatever the peer does, and an endpoint that failed is left alone."""

import contextlib
import datetime as dt
import socket
import ssl
from collections.abc import Iterator

import pytest

from s3ml.attestation.collateral import Transport
from s3ml.attestation.collateral.cooldown import ENTRIES_LIMIT, Cooldown
from s3ml.attestation.collateral.item import Target
from s3ml.attestation.collateral.transport import EndpointFailedError
from s3ml.primitives.deadline import Deadline, _watch
from s3ml.primitives.errors import ConfigurationError
from tests.attestation.attestation_world import NOW
from tests.attestation.collateral_world import SetClock
from tests.attestation.fakes.provisioning import (
    Answer,
    Fault,
    ProvisioningServer,
    compressed,
    endless,
    oversized,
    redirect,
    serving,
    silent,
    status,
    stuck,
    trickling,
    truncated,
)
from tests.attestation.fakes.tls import localhost_authority
from tests.ports import refusing_port

BODY = b"the document"
TLS = localhost_authority()


@pytest.fixture
def server() -> Iterator[ProvisioningServer]:
    with serving(
        {"/item": Answer(body=BODY, fields={"ETag": '"1"'}), "/moved": Answer(body=b"here")}
    ) as running:
        yield running


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def transport(clock: SetClock) -> Iterator[Transport]:
    made = Transport(clock=clock, deadline_s=120.0)
    yield made
    made.close()


@pytest.fixture
def hasty(clock: SetClock) -> Iterator[Transport]:
    made = Transport(clock=clock, deadline_s=0.15)
    yield made
    made.close()


def at(server: ProvisioningServer, path: str = "/item", **fields: str) -> Target:
    return Target(url=server.url + path, fields=fields)


@contextlib.contextmanager
def tls_server() -> Iterator[str]:
    with serving({"/item": Answer(body=BODY)}, tls=TLS.context) as server:
        yield server.url.replace("http://127.0.0.1", "https://localhost")


class TestReplies:
    """An answer is its status, its fields by lower-case names, and its body."""

    def test_the_body_comes_whole(self, transport: Transport, server: ProvisioningServer) -> None:
        reply = transport.get(at(server))
        assert (reply.status, reply.body, reply.fields["etag"]) == (200, BODY, '"1"')

    def test_conditions_are_sent_and_their_answer_counts(
        self, transport: Transport, server: ProvisioningServer
    ) -> None:
        assert transport.get(at(server), validators={"if-none-match": '"1"'}).status == 304

    def test_fields_of_the_target_are_sent(self, transport: Transport, server: ProvisioningServer) -> None:
        transport.get(at(server, **{"Ocp-Apim-Subscription-Key": "key"}))
        assert server.fields_of("/item")["ocp-apim-subscription-key"] == "key"

    def test_nothing_compressed_is_asked_for(self, transport: Transport, server: ProvisioningServer) -> None:
        transport.get(at(server))
        assert server.fields_of("/item")["accept-encoding"] == "identity"

    def test_a_target_never_shows_its_fields(self) -> None:
        assert "secret" not in repr(Target(url="http://host/?q=secret", fields={"key": "secret"}))


class TestLimits:
    """No peer gets more time or memory than the limits say."""

    @pytest.mark.parametrize(
        ("fault", "told"),
        [
            (oversized, "more than 65536 bytes"),
            (endless, "more than 65536 bytes"),
            (compressed, "compressed"),
            (truncated, "failed with ProtocolError"),
            (status(304), "304 to a request without conditions"),
            (status(500), "answered 500"),
            (lambda exchange: exchange.write(b"no HTTP\r\n\r\n"), "failed with ProtocolError"),
        ],
    )
    def test_a_fault_is_a_failure(
        self, transport: Transport, server: ProvisioningServer, fault: Fault, told: str
    ) -> None:
        server.fault = fault
        with pytest.raises(EndpointFailedError, match=told) as failed:
            transport.get(at(server))
        assert failed.value.retry_after_s == 1.0

    @pytest.mark.parametrize("fault", [silent, trickling, stuck])
    def test_the_deadline_ends_the_exchange(
        self, hasty: Transport, server: ProvisioningServer, fault: Fault
    ) -> None:
        server.fault = fault
        with pytest.raises(EndpointFailedError, match="did not answer in time"):
            hasty.get(at(server))

    def test_nobody_there_is_a_failure(self, transport: Transport) -> None:
        with (
            refusing_port() as port,
            pytest.raises(EndpointFailedError, match="failed with NewConnectionError"),
        ):
            transport.get(Target(url=f"http://127.0.0.1:{port}/item", fields={}))

    def test_a_field_that_is_too_long_is_passed_over(
        self, transport: Transport, server: ProvisioningServer
    ) -> None:
        server.answers["/item"] = Answer(body=BODY, fields={"X-Long": "x" * 16_385})
        assert "x-long" not in transport.get(at(server)).fields

    def test_a_socket_that_comes_late_is_shut(self, server: ProvisioningServer) -> None:
        deadline = Deadline(1.0)
        deadline._end()
        left, right = socket.socketpair()
        with left, right:
            deadline.watch(left)
            assert right.recv(1) == b""

    def test_a_socket_without_deadline_is_left_alone(self) -> None:
        left, right = socket.socketpair()
        with left, right:
            _watch(left)
            left.sendall(b"x")
            assert right.recv(1) == b"x"


class TestRedirects:
    """A redirect is followed on the same endpoint and nowhere else."""

    def test_the_same_endpoint_is_followed(self, transport: Transport, server: ProvisioningServer) -> None:
        def moved(exchange: object) -> None:
            server.fault = None
            redirect("/moved")(exchange)  # type: ignore[arg-type]

        server.fault = moved
        assert transport.get(at(server)).body == b"here"

    @pytest.mark.parametrize(
        "location",
        [
            "http://127.0.0.2:1/moved",
            "https://127.0.0.1/moved",
            "//example.test/",
            "http://user@127.0.0.1/",
            "http://[",
        ],
    )
    def test_another_endpoint_is_not(
        self, transport: Transport, server: ProvisioningServer, location: str
    ) -> None:
        server.fault = redirect(location)
        with pytest.raises(EndpointFailedError, match="another host"):
            transport.get(at(server))
        assert len(server.requests) == 1

    def test_a_redirect_to_nowhere_is_a_failure(
        self, transport: Transport, server: ProvisioningServer
    ) -> None:
        server.fault = status(302)
        with pytest.raises(EndpointFailedError, match="another host"):
            transport.get(at(server))

    def test_a_circle_ends(self, transport: Transport, server: ProvisioningServer) -> None:
        server.fault = redirect("/item")
        with pytest.raises(EndpointFailedError, match="more than 3 times"):
            transport.get(at(server))
        assert len(server.requests) == 4


class TestCooldown:
    """Whoever failed is left alone, twice as long each time, and as long as it asks within a limit."""

    def test_it_is_not_asked_meanwhile(
        self, transport: Transport, clock: SetClock, server: ProvisioningServer
    ) -> None:
        server.fault = status(500)
        with pytest.raises(EndpointFailedError):
            transport.get(at(server))
        server.fault = None
        with pytest.raises(EndpointFailedError, match="left alone for 1 s more"):
            transport.get(at(server))
        clock.advance(1.0)
        assert transport.get(at(server)).body == BODY
        assert len(server.requests) == 2

    @pytest.mark.parametrize("code", [429, 503])
    def test_it_is_left_alone_as_long_as_it_asks(
        self, transport: Transport, server: ProvisioningServer, code: int
    ) -> None:
        server.fault = status(code, Retry_After="120")
        with pytest.raises(EndpointFailedError) as failed:
            transport.get(at(server))
        assert failed.value.retry_after_s == 120.0

    @pytest.mark.parametrize(
        ("asked", "seconds"),
        [
            ("999999", 3600.0),
            ("9" * 30, 1.0),
            ("soon", 1.0),
            ("Mon, 01 Jan 99999999999 00:00:00 GMT", 1.0),
            ("Sun, 01 Mar 2026 12:01:00 GMT", 60.0),
            ("Sun, 01 Mar 2026 12:01:00 -0000", 60.0),
            ("Sun, 01 Mar 2026 11:00:00 GMT", 1.0),
        ],
    )
    def test_what_it_asks_is_read_within_a_limit(
        self, transport: Transport, server: ProvisioningServer, asked: str, seconds: float
    ) -> None:
        assert dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC) == NOW
        server.fault = status(429, Retry_After=asked)
        with pytest.raises(EndpointFailedError) as failed:
            transport.get(at(server))
        assert failed.value.retry_after_s == seconds

    def test_other_errors_cannot_ask(self, transport: Transport, server: ProvisioningServer) -> None:
        server.fault = status(500, Retry_After="120")
        with pytest.raises(EndpointFailedError) as failed:
            transport.get(at(server))
        assert failed.value.retry_after_s == 1.0

    def test_not_to_know_something_is_no_failure(
        self, transport: Transport, server: ProvisioningServer
    ) -> None:
        with pytest.raises(EndpointFailedError, match="answered 404"):
            transport.get(at(server, "/unknown"))
        assert transport.get(at(server)).body == BODY

    def test_it_doubles_up_to_five_minutes_and_ends_with_a_success(self, clock: SetClock) -> None:
        cooldown = Cooldown(clock)
        waits = []
        for _ in range(10):
            cooldown.fail("endpoint")
            waits.append(cooldown.remaining_s("endpoint"))
        assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]
        cooldown.succeed("endpoint")
        assert cooldown.remaining_s("endpoint") == 0
        cooldown.fail("endpoint")
        assert cooldown.remaining_s("endpoint") == 1

    def test_what_it_remembers_is_bounded(self, clock: SetClock) -> None:
        cooldown = Cooldown(clock)
        for number in range(ENTRIES_LIMIT + 1):
            cooldown.fail(str(number))
        assert cooldown.remaining_s("0") == 0
        assert cooldown.remaining_s("1") == 1

    def test_what_delivers_garbage_has_failed(
        self, transport: Transport, clock: SetClock, server: ProvisioningServer
    ) -> None:
        for seconds in (1, 2):
            transport.get(at(server))
            transport.report(at(server), is_sound=False)
            with pytest.raises(EndpointFailedError, match=f"left alone for {seconds} s"):
                transport.get(at(server))
            clock.advance(seconds)
        transport.report(at(server), is_sound=True)
        transport.report(at(server), is_sound=False)
        with pytest.raises(EndpointFailedError, match="left alone for 1 s"):
            transport.get(at(server))


class TestSettings:
    """TLS is verified, deadlines are positive, and proxies are those that were named."""

    @pytest.mark.parametrize("deadline_s", [0.0, -1.0])
    def test_no_deadline_is_refused(self, deadline_s: float) -> None:
        with pytest.raises(ConfigurationError, match="deadline"):
            Transport(deadline_s=deadline_s)

    def test_a_context_that_verifies_nothing_is_refused(self) -> None:
        context = ssl.create_default_context()
        context.check_hostname = False
        with pytest.raises(ConfigurationError, match="verifies"):
            Transport(tls=context)
        context.verify_mode = ssl.CERT_NONE
        with pytest.raises(ConfigurationError, match="verifies"):
            Transport(tls=context)

    def test_a_server_that_nobody_vouches_for_is_not_believed(self, transport: Transport) -> None:
        with tls_server() as url, pytest.raises(EndpointFailedError, match="failed with SSLError"):
            transport.get(Target(url=url + "/item", fields={}))

    def test_a_server_that_the_context_vouches_for_is(self, clock: SetClock) -> None:
        with tls_server() as url:
            transport = Transport(clock=clock, tls=ssl.create_default_context(cadata=TLS.pem))
            assert transport.get(Target(url=url + "/item", fields={})).body == BODY
            transport.close()

    def test_the_environment_names_no_proxy(
        self, monkeypatch: pytest.MonkeyPatch, transport: Transport, server: ProvisioningServer
    ) -> None:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        assert transport.get(at(server)).body == BODY

    def test_a_proxy_that_was_named_is_asked(self, clock: SetClock, server: ProvisioningServer) -> None:
        server.answers["http://nowhere.test/item"] = Answer(body=b"by proxy")
        transport = Transport(clock=clock, proxy=server.url)
        assert transport.get(Target(url="http://nowhere.test/item", fields={})).body == b"by proxy"
        transport.close()

    def test_a_proxy_must_be_an_address(self) -> None:
        with pytest.raises(ConfigurationError, match="proxy"):
            Transport(proxy="nowhere")
