"""The sealed request: what opens is fresh, allowed, and answered sealed."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3ml.primitives.errors import ConfigurationError
from s3ml.wire import bhttp, sealed
from s3ml.wire.errors import BinaryHTTPError, RequestTooLargeError, SealRejectedError, UnknownKeyError
from s3ml.wire.hpke import HYBRID_AES256, X25519_AES128, Kem, PrivateKey, Suite
from s3ml.wire.ohttp import KeyConfig, ResponseOpener, encapsulate_request
from s3ml.wire.oip import Endpoint, Route
from s3ml.wire.padding import padded_length
from s3ml.wire.sealed import (
    AnsweredError,
    DateRejectedError,
    InnerRequest,
    InnerRequestError,
    InnerResponse,
    KeyRing,
    OpenedRequest,
    ReplayError,
    ReplayGuard,
    ReplayTableFullError,
    RingKey,
    SealLimits,
    choose_config,
    offered_date,
    open_request,
    seal_request,
)

NOW = datetime(2026, 11, 23, 8, 0, 0, tzinfo=UTC)
DATE = (b"date", b"Mon, 23 Nov 2026 08:00:00 GMT")
INFER = InnerRequest(
    method="POST",
    path="/v2/models/tumours/infer",
    fields=(("content-type", "application/json"),),
    content=b'{"inputs":[]}',
)


def _ring_key(key_id: int, suite: Suite, epoch: int) -> RingKey:
    private_key = PrivateKey.generate(suite.kem)
    config = KeyConfig(key_id=key_id, kem=suite.kem, public_key=private_key.public, suites=(suite,))
    return RingKey(config=config, private_key=private_key, service="tumours", epoch=epoch)


HYBRID = _ring_key(7, HYBRID_AES256, epoch=2)
CLASSIC = _ring_key(8, X25519_AES128, epoch=3)
RING = KeyRing.of([HYBRID, CLASSIC])


@dataclass(slots=True)
class Server:
    """A model server's view: a ring, a memory, a clock."""

    replays: ReplayGuard
    now: datetime = NOW

    def open(self, body: bytes, limits: SealLimits = sealed.DEFAULT_LIMITS) -> OpenedRequest:
        return open_request(RING, body, now=self.now, replays=self.replays, limits=limits)


@pytest.fixture
def server() -> Server:
    return Server(ReplayGuard(window_s=300, capacity=100))


def _seal_message(message: bhttp.Request | bytes) -> tuple[bytes, Callable[[bytes], InnerResponse]]:
    """Seal any message, also one that `seal_request` would not make."""
    plaintext = message if isinstance(message, bytes) else bhttp.encode_request(message)
    body, opener = encapsulate_request(HYBRID.config, plaintext)
    return body, sealed.SealedRequest(body=body, opener=opener, limits=SealLimits()).open_response


def _message(
    *,
    method: bytes = b"POST",
    scheme: bytes = b"https",
    authority: bytes = b"",
    path: bytes = b"/v2/models/m/infer",
    fields: bhttp.Fields = (DATE,),
    content: bytes = b"",
    trailers: bhttp.Fields = (),
) -> bhttp.Request:
    return bhttp.Request(
        method=method,
        scheme=scheme,
        authority=authority,
        path=path,
        fields=fields,
        content=content,
        trailers=trailers,
    )


def test_package_exports_what_it_documents() -> None:
    assert set(sealed.__all__) <= set(dir(sealed))
    assert {"seal_request", "open_request", "ReplayGuard", "KeyRing", "SealLimits"} <= set(sealed.__all__)


@pytest.mark.parametrize("key", [HYBRID, CLASSIC], ids=["hybrid", "classic"])
class TestExchange:
    """A request goes there, its response comes back, and the key says whose they are."""

    def test_the_request_arrives(self, server: Server, key: RingKey) -> None:
        opened = server.open(seal_request(key.config, INFER, date=NOW).body)

        fields = (("date", DATE[1].decode()), *INFER.fields)
        assert opened.request == replace(INFER, fields=fields)
        assert (opened.service, opened.epoch) == ("tumours", key.epoch)
        assert opened.route == Route(endpoint=Endpoint.INFER, model="tumours")

    def test_the_response_returns(self, server: Server, key: RingKey) -> None:
        request = seal_request(key.config, INFER, date=NOW)
        response = InnerResponse(status=200, fields=(("content-type", "application/json"),), content=b"{}")

        answer = server.open(request.body).seal_response(response)

        assert request.open_response(answer) == response

    def test_content_is_not_copied_on_opening(self, server: Server, key: RingKey) -> None:
        opened = server.open(seal_request(key.config, INFER, date=NOW).body)

        assert isinstance(opened.request.content, memoryview)


class TestSizes:
    """Sizes say little: requests, responses and errors are padded alike."""

    def test_small_requests_look_alike(self) -> None:
        sizes = {
            len(seal_request(HYBRID.config, replace(INFER, content=bytes(size)), date=NOW).body)
            for size in (0, 1, 500, 800)
        }

        assert sizes == {7 + 1120 + 1024 + 16}

    def test_responses_and_errors_look_alike(self, server: Server) -> None:
        body = seal_request(HYBRID.config, INFER, date=NOW).body
        answer = server.open(body).seal_response(InnerResponse(status=200, content=bytes(700)))
        with pytest.raises(ReplayError) as replayed:
            server.open(body)

        assert len(answer) == len(replayed.value.sealed_answer()) == 32 + 1024 + 16

    def test_large_ones_are_padded_by_padme(self, server: Server) -> None:
        request = seal_request(HYBRID.config, replace(INFER, content=bytes(600_000)), date=NOW)
        answer = server.open(request.body).seal_response(InnerResponse(status=200, content=bytes(600_000)))

        plaintext = len(request.body) - 7 - 1120 - 16
        assert plaintext == padded_length(plaintext) > 600_000
        assert len(answer) - 32 - 16 == padded_length(600_000)


class TestBeforeOpening:
    """What cannot be opened is answered without a seal, and says little."""

    def test_too_large_a_body_rejects(self, server: Server) -> None:
        body = seal_request(HYBRID.config, INFER, date=NOW).body

        with pytest.raises(RequestTooLargeError) as rejected:
            server.open(body, SealLimits(max_request_bytes=len(body) - 1))

        assert rejected.value.limit_bytes == len(body) - 1
        assert rejected.value.size_bytes == len(body)

    def test_a_body_at_the_limit_opens(self, server: Server) -> None:
        body = seal_request(HYBRID.config, INFER, date=NOW).body

        assert server.open(body, SealLimits(max_request_bytes=len(body)))

    def test_an_unknown_key_rejects(self, server: Server) -> None:
        config = replace(HYBRID.config, key_id=99)

        with pytest.raises(UnknownKeyError):
            server.open(seal_request(config, INFER, date=NOW).body)

    def test_garbage_rejects(self, server: Server) -> None:
        body = bytearray(seal_request(HYBRID.config, INFER, date=NOW).body)
        body[-1] ^= 1

        with pytest.raises(SealRejectedError):
            server.open(bytes(body))

    def test_garbage_is_not_remembered(self, server: Server) -> None:
        body = seal_request(HYBRID.config, INFER, date=NOW).body
        with pytest.raises(SealRejectedError):
            server.open(body[:-1])

        assert server.open(body)


class TestInnerRules:
    """After opening, each rule refuses what breaks it, and the answer is sealed."""

    @pytest.mark.parametrize(
        ("message", "status", "reason"),
        [
            pytest.param(b"\x09", 400, "expected a request", id="no Binary HTTP"),
            pytest.param(_message(scheme=b"http"), 400, "https", id="another scheme"),
            pytest.param(_message(trailers=((b"a", b"b"),)), 400, "trailers", id="trailers"),
            pytest.param(_message(fields=(DATE, DATE)), 400, "once", id="two dates"),
            pytest.param(
                _message(fields=(DATE, (b"accept", b"a"), (b"accept", b"b"))), 400, "once", id="a field twice"
            ),
            pytest.param(_message(fields=(DATE, (b"host", b"a"))), 400, "got host", id="host"),
            pytest.param(
                _message(fields=(DATE, (b"content-length", b"0"))), 400, "content-length", id="framing"
            ),
            pytest.param(
                _message(fields=(DATE, (b"transfer-encoding", b"chunked"))),
                400,
                "transfer-encoding",
                id="more framing",
            ),
            pytest.param(
                _message(fields=(DATE, (b"connection", b"close"))), 400, "connection", id="hop by hop"
            ),
            pytest.param(
                _message(fields=(DATE, (b"expect", b"100-continue"))), 400, "expect", id="expectation"
            ),
            pytest.param(
                _message(fields=(DATE, (b"content-encoding", b"gzip"))), 400, "encoding", id="compression"
            ),
            pytest.param(
                _message(fields=((b":protocol", b"x"), DATE)), 400, ":protocol", id="a pseudo-field"
            ),
            pytest.param(_message(fields=(DATE, (b"accept", b"\xe9"))), 400, "ASCII", id="not ASCII"),
            pytest.param(_message(path=b"/admin"), 404, "endpoint", id="another path"),
            pytest.param(_message(path=b"/v2/\xff"), 404, "endpoint", id="a path of other bytes"),
            pytest.param(_message(method=b"GET"), 405, "expected POST", id="another method"),
            pytest.param(
                _message(method=b"GET", path=b"/v2", content=b"x"), 400, "content", id="GET with content"
            ),
        ],
    )
    def test_rejects(self, server: Server, message: bhttp.Request | bytes, status: int, reason: str) -> None:
        body, open_response = _seal_message(message)

        with pytest.raises(InnerRequestError, match=reason) as rejected:
            server.open(body)

        answer = open_response(rejected.value.sealed_answer())
        assert answer.status == status
        assert answer.field("content-type") == "application/json"
        assert reason in bytes(answer.content).decode()

    def test_the_authority_is_whatever_the_client_says(self, server: Server) -> None:
        body, _ = _seal_message(_message(authority=b"example.com"))

        assert server.open(body).service == "tumours"

    def test_the_indeterminate_form_is_accepted(self, server: Server) -> None:
        body, _ = _seal_message(bhttp.encode_request(_message(content=b"abc"), is_indeterminate=True))

        assert server.open(body).request.content == b"abc"

    @given(plaintext=st.binary(max_size=150))
    def test_any_plaintext_is_accepted_or_answered(self, plaintext: bytes) -> None:
        body, open_response = _seal_message(b"\x00" + plaintext)
        try:
            Server(ReplayGuard()).open(body)
        except AnsweredError as error:
            assert open_response(error.sealed_answer()).status in {400, 404, 405}


class TestDate:
    """A request is opened within its window, and a client whose clock is off learns the time."""

    @pytest.mark.parametrize("offset_s", [-300, 0, 300])
    def test_inside_the_window_opens(self, server: Server, offset_s: int) -> None:
        request = seal_request(HYBRID.config, INFER, date=NOW + timedelta(seconds=offset_s))

        assert server.open(request.body)

    @pytest.mark.parametrize("offset_s", [-301, 301])
    def test_outside_the_window_gets_the_date_problem(self, server: Server, offset_s: int) -> None:
        request = seal_request(HYBRID.config, INFER, date=NOW + timedelta(seconds=offset_s))

        with pytest.raises(DateRejectedError) as rejected:
            server.open(request.body)

        answer = request.open_response(rejected.value.sealed_answer())
        assert answer.status == 400
        assert offered_date(answer) == NOW

    def test_the_offered_date_opens(self, server: Server) -> None:
        request = seal_request(HYBRID.config, INFER, date=NOW - timedelta(days=1))
        with pytest.raises(DateRejectedError) as rejected:
            server.open(request.body)
        offered = offered_date(request.open_response(rejected.value.sealed_answer()))
        assert offered is not None

        assert server.open(seal_request(HYBRID.config, INFER, date=offered).body)

    def test_the_offered_date_opens_after_the_clock_was_turned_back(self, server: Server) -> None:
        """The server's time never runs backwards, and what it offers is that time, not the host's."""
        later = NOW + timedelta(hours=1)
        server.now = later
        server.open(seal_request(HYBRID.config, INFER, date=later).body)
        server.now = NOW
        request = seal_request(HYBRID.config, INFER, date=NOW)
        with pytest.raises(DateRejectedError) as rejected:
            server.open(request.body)

        offered = offered_date(request.open_response(rejected.value.sealed_answer()))
        assert offered == later
        assert server.open(seal_request(HYBRID.config, INFER, date=offered).body)

    @pytest.mark.parametrize(
        "fields",
        [
            (),
            ((b"date", b"yesterday"),),
            ((b"date", b"Monday, 23-Nov-26 08:00:00 GMT"),),
            ((b"date", b"Mon, 32 Nov 2026 08:00:00 GMT"),),
            ((b"date", b"Mon, 23 Nov 2026 08:00:00 +0000"),),
        ],
    )
    def test_none_or_a_malformed_one_gets_the_date_problem(
        self, server: Server, fields: bhttp.Fields
    ) -> None:
        body, _ = _seal_message(_message(fields=fields))

        with pytest.raises(DateRejectedError):
            server.open(body)

    def test_other_answers_offer_none(self) -> None:
        assert offered_date(InnerResponse(status=200)) is None

    def test_a_problem_without_a_date_offers_none(self, server: Server) -> None:
        request = seal_request(HYBRID.config, INFER, date=NOW - timedelta(days=1))
        with pytest.raises(DateRejectedError) as rejected:
            server.open(request.body)
        answer = rejected.value.response

        assert offered_date(replace(answer, fields=(("content-type", "application/problem+json"),))) is None

    def test_a_date_in_another_zone_is_the_same_instant(self, server: Server) -> None:
        elsewhere = NOW.astimezone().replace(microsecond=900_000)

        assert server.open(seal_request(HYBRID.config, INFER, date=elsewhere).body)


class TestReplay:
    """A sealed request is opened once."""

    def test_the_second_time_is_refused(self, server: Server) -> None:
        request = seal_request(HYBRID.config, INFER, date=NOW)
        server.open(request.body)

        with pytest.raises(ReplayError) as rejected:
            server.open(request.body)

        assert request.open_response(rejected.value.sealed_answer()).status == 409

    def test_the_same_content_sealed_afresh_is_not_a_replay(self, server: Server) -> None:
        server.open(seal_request(HYBRID.config, INFER, date=NOW).body)

        assert server.open(seal_request(HYBRID.config, INFER, date=NOW).body)

    def test_a_replay_until_the_end_of_the_window_is_refused(self, server: Server) -> None:
        request = seal_request(HYBRID.config, INFER, date=NOW + timedelta(seconds=300))
        server.open(request.body)

        server.now = NOW + timedelta(seconds=600)
        with pytest.raises(ReplayError):
            server.open(request.body)
        server.now = NOW + timedelta(seconds=601)
        with pytest.raises(DateRejectedError):
            server.open(request.body)

    def test_turning_the_clock_back_revives_nothing(self, server: Server) -> None:
        request = seal_request(HYBRID.config, INFER, date=NOW)
        server.open(request.body)
        server.now = NOW + timedelta(hours=1)
        server.open(seal_request(HYBRID.config, INFER, date=server.now).body)

        server.now = NOW
        with pytest.raises(DateRejectedError):
            server.open(request.body)

    def test_a_full_memory_admits_nothing_until_it_forgets(self) -> None:
        server = Server(ReplayGuard(window_s=300, capacity=2))
        first = seal_request(HYBRID.config, INFER, date=NOW)
        server.open(first.body)
        server.open(seal_request(HYBRID.config, INFER, date=NOW).body)
        third = seal_request(HYBRID.config, INFER, date=NOW)

        with pytest.raises(ReplayTableFullError) as rejected:
            server.open(third.body)
        with pytest.raises(ReplayError):
            server.open(first.body)

        answer = third.open_response(rejected.value.sealed_answer())
        assert (answer.status, answer.field("retry-after")) == (503, "5")
        server.now = NOW + timedelta(seconds=301)
        assert server.open(seal_request(HYBRID.config, INFER, date=server.now).body)
        assert len(server.replays) == 1

    @pytest.mark.parametrize(("window_s", "capacity"), [(0, 1), (1, 0)])
    def test_a_guard_without_window_or_capacity_rejects(self, window_s: int, capacity: int) -> None:
        with pytest.raises(ConfigurationError, match="at least 1"):
            ReplayGuard(window_s, capacity)

    @given(
        events=st.lists(st.tuples(st.integers(0, 3), st.integers(-8, 8), st.integers(0, 5)), max_size=60),
    )
    def test_nothing_is_admitted_twice(self, events: list[tuple[int, int, int]]) -> None:
        """Whatever the clock does, and whatever is sent: no pair of `enc` and Date passes twice."""
        guard = ReplayGuard(window_s=5, capacity=1000)
        now, admitted = NOW, set()
        for enc, offset_s, step_s in events:
            now += timedelta(seconds=step_s - 2)
            date = now + timedelta(seconds=offset_s)
            if guard.admit(bytes([enc]), date=date, now=now) is sealed.Admission.ADMITTED:
                assert (enc, date) not in admitted
                admitted.add((enc, date))


class TestKeyRing:
    def test_a_key_and_its_configuration_belong_together(self) -> None:
        with pytest.raises(ConfigurationError, match="private half"):
            replace(HYBRID, private_key=PrivateKey.generate(Kem.MLKEM768_X25519))
        with pytest.raises(ConfigurationError, match="private half"):
            replace(HYBRID, private_key=CLASSIC.private_key)

    def test_an_id_stands_once(self) -> None:
        other = _ring_key(7, X25519_AES128, epoch=9)

        with pytest.raises(ConfigurationError, match="7 twice"):
            KeyRing.of([HYBRID, other])


class TestSealing:
    """A client seals what HTTP can carry, to the best key."""

    def test_the_hybrid_is_chosen_first(self) -> None:
        assert choose_config([CLASSIC.config, HYBRID.config]) is HYBRID.config
        assert choose_config([CLASSIC.config]) is CLASSIC.config

    def test_no_configuration_rejects(self) -> None:
        with pytest.raises(ConfigurationError, match="got none"):
            choose_config([])

    @pytest.mark.parametrize(
        ("request_", "reason"),
        [
            pytest.param(replace(INFER, fields=(("date", "x"),)), "no date", id="a date"),
            pytest.param(replace(INFER, fields=(("a", "é"),)), "ASCII", id="a field that is not ASCII"),
            pytest.param(replace(INFER, fields=(("A", "b"),)), "lower-case", id="an upper-case name"),
            pytest.param(replace(INFER, path="/a b"), "path", id="a path with a space"),
        ],
    )
    def test_what_http_cannot_carry_rejects(self, request_: InnerRequest, reason: str) -> None:
        with pytest.raises(ConfigurationError, match=reason):
            seal_request(HYBRID.config, request_, date=NOW)

    def test_more_than_the_limit_rejects(self) -> None:
        with pytest.raises(RequestTooLargeError):
            seal_request(HYBRID.config, INFER, date=NOW, limits=SealLimits(max_request_bytes=2000))

    def test_content_and_fields_do_not_show(self) -> None:
        assert "inputs" not in repr(INFER)
        assert "json" not in repr(INFER)


class TestOpeningResponses:
    """A response that was not made for this request, or is malformed, rejects."""

    def _answer(self, message: bhttp.Response) -> tuple[bytes, sealed.SealedRequest]:
        request = seal_request(HYBRID.config, INFER, date=NOW)
        opened = Server(ReplayGuard()).open(request.body)
        return opened.exchange.opened.seal_response(bhttp.encode_response(message)), request

    def test_of_another_request(self, server: Server) -> None:
        answer, _ = self._answer(bhttp.Response(status=200))

        with pytest.raises(SealRejectedError):
            seal_request(HYBRID.config, INFER, date=NOW).open_response(answer)

    @pytest.mark.parametrize(
        "message",
        [
            bhttp.Response(status=200, trailers=((b"a", b"b"),)),
            bhttp.Response(status=200, informational=(bhttp.Informational(status=103),)),
            bhttp.Response(status=200, fields=((b"a", b"b"), (b"a", b"b"))),
            bhttp.Response(status=200, fields=((b"a", b"\xff"),)),
        ],
    )
    def test_malformed(self, message: bhttp.Response) -> None:
        answer, request = self._answer(message)

        with pytest.raises(BinaryHTTPError):
            request.open_response(answer)

    def test_too_large(self) -> None:
        answer, request = self._answer(bhttp.Response(status=200))
        limits = SealLimits(max_response_bytes=len(answer) - 1)

        with pytest.raises(BinaryHTTPError, match="at most"):
            replace(request, limits=limits).open_response(answer)

    def test_the_opener_shows_nothing(self) -> None:
        request = seal_request(HYBRID.config, INFER, date=NOW)

        assert isinstance(request.opener, ResponseOpener)
        assert "inputs" not in repr(request)
