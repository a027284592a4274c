"""The protocol over HTTP: what is taken, what goes on, what comes back."""

import asyncio
import gzip
import zlib
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from s3ml.client import Token
from s3ml.client.proxy import intake
from s3ml.client.proxy.intake import Intake, is_local_name
from s3ml.client.proxy.metrics import ProxyMetrics
from s3ml.client.proxy.rest import RestApplication
from s3ml.primitives.errors import UnavailableError
from s3ml.wire.sealed import InnerResponse
from tests.client.proxy.forwarding_world import Desk

INFER = "/v2/models/detector/infer"
# No JSON, no tensors, no text: nobody looks.
ODD = b'{"a":1,"a":2}\x00\xff'


@dataclass
class Reply:
    """What came back."""

    status: int = 0
    fields: dict[str, str] = field(default_factory=dict)
    content: bytes = b""

    @property
    def error(self) -> str:
        document: dict[str, str] = msgspec.json.decode(self.content)
        return document["error"]


@dataclass
class Web:
    """The application, called as a server calls it."""

    desk: Desk
    metrics: ProxyMetrics
    application: RestApplication
    pieces: list[bytes] | None = None
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(
        self, method: str, path: str, content: bytes = b"", *, headers: tuple[tuple[str, str], ...] = ()
    ) -> Reply:
        reply = Reply()
        waiting = list(self.pieces) if self.pieces is not None else [content]
        length = () if self.pieces is not None else (("Content-Length", str(len(content))),)

        async def receive() -> dict[str, Any]:
            if waiting:
                return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}
            await self.gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                reply.status = message["status"]
                reply.fields = {name.decode(): value.decode() for name, value in message["headers"]}
            else:
                reply.content += message["body"]

        given = [(name.encode(), value.encode("latin-1")) for name, value in (*headers, *length)]
        scope = {"type": "http", "method": method, "path": path, "headers": given}
        await self.application(scope, receive, send)
        return reply


def web(desk: Desk, **options: Any) -> Web:
    metrics = ProxyMetrics(desk.keeper)
    options.setdefault("intake", Intake())
    return Web(desk, metrics, RestApplication(desk.proxy, metrics, **options))


@pytest.fixture
def rest(desk: Desk) -> Web:
    return web(desk)


class TestPassingThrough:
    """A body goes on byte for byte, and so does the answer."""

    async def test_request(self, rest: Web) -> None:
        headers = (
            ("Content-Type", "application/octet-stream"),
            ("Inference-Header-Content-Length", "13"),
            ("Accept", "*/*"),
            ("User-Agent", "curl/8"),
            ("X-Whatever", "1"),
        )
        assert (await rest.ask("POST", INFER, ODD, headers=headers)).status == 200
        (sent,) = rest.desk.services.forwarded
        assert (sent.service, sent.method, sent.path, sent.content) == ("birds", "POST", INFER, ODD)
        assert sent.fields == (
            ("content-type", "application/octet-stream"),
            ("inference-header-content-length", "13"),
        )

    async def test_a_body_in_pieces(self, rest: Web) -> None:
        rest.pieces = [ODD, b"", ODD]
        await rest.ask("POST", INFER)
        assert rest.desk.services.forwarded[0].content == ODD + ODD

    async def test_answer(self, rest: Web) -> None:
        fields = (
            ("content-type", "application/octet-stream"),
            ("inference-header-content-length", "5"),
            ("s3ml-replica", "tumours-2"),
            ("set-cookie", "a=b"),
            ("transfer-encoding", "chunked"),
        )
        inner = InnerResponse(status=200, fields=fields, content=memoryview(ODD))
        rest.desk.services.answers.append(inner)
        reply = await rest.ask("POST", INFER, ODD)
        assert (reply.status, reply.content) == (200, ODD)
        assert reply.fields == dict(fields[:3]) | {"content-length": str(len(ODD))}

    @pytest.mark.parametrize("status", [400, 403, 404, 429, 500, 503])
    async def test_refusals_of_the_service(self, rest: Web, status: int) -> None:
        inner = InnerResponse(status=status, fields=(("retry-after", "9"),), content=b'{"error":"x"}')
        rest.desk.services.answers.append(inner)
        reply = await rest.ask("POST", INFER, ODD)
        assert (reply.status, reply.fields["retry-after"], reply.error) == (status, "9", "x")

    async def test_a_query_is_nothing_of_the_protocol(self, rest: Web) -> None:
        """An ASGI server keeps it apart from the path, and nothing of it goes on."""
        assert (await rest.ask("GET", "/v2/models/detector")).status == 200
        assert rest.desk.services.forwarded[0].path == "/v2/models/detector"

    @pytest.mark.parametrize("encoding", ["gzip", "deflate"])
    async def test_compression_is_undone_before_sealing(self, rest: Web, encoding: str) -> None:
        content = gzip.compress(ODD, mtime=0) if encoding == "gzip" else zlib.compress(ODD)
        headers = (("Content-Encoding", encoding), ("Inference-Header-Content-Length", "13"))
        assert (await rest.ask("POST", INFER, content, headers=headers)).status == 200
        (sent,) = rest.desk.services.forwarded
        assert sent.content == ODD
        assert sent.fields == (("inference-header-content-length", "13"),)


class TestCredentials:
    """The proxy calls as itself, unless it is told to call as the local client."""

    async def test_a_local_clients_authorization_stays_here(self, rest: Web) -> None:
        await rest.ask("POST", INFER, ODD, headers=(("Authorization", "Bearer abc"),))
        (sent,) = rest.desk.services.forwarded
        assert sent.credentials is None
        assert not any(name == "authorization" for name, _ in sent.fields)

    async def test_it_is_forwarded_on_demand(self, desk: Desk) -> None:
        rest = web(desk, forwards_authorization=True)
        await rest.ask("POST", INFER, ODD, headers=(("Authorization", "bearer abc"),))
        await rest.ask("POST", INFER, ODD)
        first, second = desk.services.forwarded
        assert isinstance(first.credentials, Token)
        assert first.credentials.reveal() == "abc"
        assert second.credentials is None
        assert "abc" not in repr(first)

    @pytest.mark.parametrize("value", ["Basic YTpi", "Bearer", "Bearer a b", "Bearer \x7f"])
    async def test_other_kinds_are_refused(self, desk: Desk, value: str) -> None:
        rest = web(desk, forwards_authorization=True)
        reply = await rest.ask("POST", INFER, ODD, headers=(("Authorization", value),))
        assert reply.status == 401
        assert desk.services.forwarded == []


class TestSenders:
    """No web page calls through a browser on the same machine."""

    @pytest.mark.parametrize(
        "host",
        [
            "localhost",
            "LOCALHOST:8000",
            "localhost.",
            "127.0.0.1:8000",
            "127.0.0.1",
            "[::1]:8000",
            "[::1]",
        ],
    )
    async def test_local_names(self, rest: Web, host: str) -> None:
        assert (await rest.ask("GET", "/v2/health/live", headers=(("Host", host),))).status == 200

    @pytest.mark.parametrize(
        "host",
        ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example:80", ""],
    )
    async def test_a_name_that_was_pointed_here_is_refused(self, rest: Web, host: str) -> None:
        reply = await rest.ask("POST", INFER, ODD, headers=(("Host", host),))
        assert (reply.status, reply.fields["connection"]) == (403, "close")
        assert rest.desk.services.forwarded == []

    async def test_beyond_loopback_names_are_its_owners_matter(self, desk: Desk) -> None:
        rest = web(desk, is_local=False)
        assert (await rest.ask("GET", "/v2/health/live", headers=(("Host", "proxy.lan"),))).status == 200

    async def test_a_page_is_refused(self, rest: Web) -> None:
        reply = await rest.ask("POST", INFER, ODD, headers=(("Origin", "http://localhost:3000"),))
        assert reply.status == 403
        assert rest.desk.services.forwarded == []

    @pytest.mark.parametrize("host", ["localhost:x", "[::1", "::1", "1.2.3", "::1]:80", "[localhost]", "[a]"])
    def test_what_is_no_address(self, host: str) -> None:
        assert not is_local_name(host)


class TestRefusals:
    """What is wrong is refused before anything leaves, with the protocol's error."""

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("GET", "/", 404),
            ("POST", "/v2/models/detector/explain", 404),
            ("GET", INFER, 405),
            ("POST", "/v2", 405),
            ("HEAD", "/v2", 405),
            ("DELETE", "/v2/models/detector", 405),
            ("GET", "/v2/models/../../keys", 404),
            ("GET", "/v2/models/classifier", 400),
        ],
    )
    async def test_paths_and_methods(self, rest: Web, method: str, path: str, status: int) -> None:
        reply = await rest.ask(method, path)
        assert reply.status == status
        assert reply.error
        assert (reply.fields.get("allow") in {"GET", "POST"}) is (status == 405)
        assert rest.desk.services.forwarded == []

    @pytest.mark.parametrize(
        "headers",
        [
            (("Content-Type", "a"), ("content-type", "b")),
            (("Inference-Header-Content-Length", "1"), ("Inference-Header-Content-Length", "2")),
            (("Content-Type", "caf\xe9"),),
            (("Host", "localhost"), ("Host", "localhost")),
        ],
    )
    async def test_fields_that_are_ambiguous(self, rest: Web, headers: tuple[tuple[str, str], ...]) -> None:
        assert (await rest.ask("POST", INFER, ODD, headers=headers)).status == 400
        assert rest.desk.services.forwarded == []

    async def test_a_body_that_says_it_is_too_large(self, rest: Web) -> None:
        headers = (("Content-Length", str(intake.BODY_LIMIT_BYTES + 1)),)
        rest.pieces = []  # Nothing of it is read.
        reply = await rest.ask("POST", INFER, headers=headers)
        assert (reply.status, reply.fields["connection"]) == (413, "close")

    async def test_a_body_that_is_too_large(self, rest: Web, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(intake, "BODY_LIMIT_BYTES", 30)
        rest.pieces = [bytes(20), bytes(20), bytes(20)]
        assert (await rest.ask("POST", INFER)).status == 413
        assert rest.desk.services.forwarded == []

    @pytest.mark.parametrize("encoding", ["gzip", "deflate"])
    async def test_one_that_expands_without_end(self, rest: Web, encoding: str) -> None:
        zeros = bytes(intake.BODY_LIMIT_BYTES + 1)
        content = gzip.compress(zeros, mtime=0) if encoding == "gzip" else zlib.compress(zeros)
        reply = await rest.ask("POST", INFER, content, headers=(("Content-Encoding", encoding),))
        assert reply.status == 413
        assert rest.desk.services.forwarded == []

    @pytest.mark.parametrize(
        ("encoding", "content", "status"),
        [
            ("gzip", b"no gzip", 400),
            ("gzip", gzip.compress(ODD, mtime=0)[:-1], 400),
            ("gzip", gzip.compress(ODD, mtime=0) + b"x", 400),
            ("deflate", b"", 400),
            ("br", ODD, 415),
        ],
        ids=["no gzip", "cut", "more behind it", "nothing", "unknown"],
    )
    async def test_what_does_not_expand(self, rest: Web, encoding: str, content: bytes, status: int) -> None:
        reply = await rest.ask("POST", INFER, content, headers=(("Content-Encoding", encoding),))
        assert reply.status == status
        assert rest.desk.services.forwarded == []

    async def test_a_body_that_is_too_slow(self, desk: Desk) -> None:
        rest = web(desk, intake=Intake(deadline_s=0.01))
        rest.pieces = []
        assert (await rest.ask("POST", INFER)).status == 408

    async def test_more_bytes_than_the_budget(self, desk: Desk) -> None:
        rest = web(desk, intake=Intake(budget_bytes=10))
        reply = await rest.ask("POST", INFER, bytes(11))
        assert (reply.status, reply.fields["retry-after"]) == (503, "1")
        assert (await rest.ask("POST", INFER, bytes(10))).status == 200
        assert (await rest.ask("POST", INFER, bytes(10))).status == 200

    async def test_more_requests_than_the_limit(self, desk: Desk) -> None:
        rest = web(desk, intake=Intake(requests_limit=1))
        desk.services.held = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            first = group.create_task(rest.ask("POST", INFER, ODD))
            await desk.services.arrived.wait()
            assert (await rest.ask("POST", INFER, ODD)).status == 503
            desk.services.held.set()
        assert first.result().status == 200


class TestLeaving:
    """Who leaves gives up what is under way, and its place."""

    async def test_the_request_is_cancelled(self, desk: Desk) -> None:
        rest = web(desk, intake=Intake(requests_limit=1))
        desk.services.held = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            left = group.create_task(rest.ask("POST", INFER, ODD))
            await desk.services.arrived.wait()
            rest.gone.set()
        assert left.result().status == 0
        assert desk.services.was_cancelled.is_set()
        desk.services.held = None
        rest.gone.clear()
        assert (await rest.ask("POST", INFER, ODD)).status == 200

    async def test_in_the_middle_of_the_body(self, rest: Web) -> None:
        rest.pieces = []
        rest.gone.set()
        assert (await rest.ask("POST", INFER)).status == 400
        assert rest.desk.services.forwarded == []

    async def test_draining_ends_connections(self, rest: Web) -> None:
        rest.desk.proxy.is_draining = True
        reply = await rest.ask("POST", INFER, ODD)
        assert (reply.status, reply.fields["connection"]) == (200, "close")


class TestMetrics:
    """Requests by service, protocol and outcome."""

    async def test_samples(self, rest: Web) -> None:
        await rest.ask("POST", INFER, ODD)
        rest.desk.services.failures["birds"] = UnavailableError("away")
        await rest.ask("POST", INFER, ODD)
        await rest.ask("GET", "/nothing")
        reply = await rest.ask("GET", "/metrics")
        assert reply.fields["content-type"].startswith("text/plain")
        text = reply.content.decode()
        for outcome, service in (("answered", "birds"), ("unavailable", "birds"), ("rejected", "none")):
            labels = f'{{outcome="{outcome}",protocol="rest",service="{service}"}}'
            assert f"s3ml_proxy_requests_total{labels} 1.0" in text
        assert 's3ml_proxy_trust_expiry_timestamp_seconds{service="tumours"}' in text

    async def test_another_scope_is_left_alone(self, rest: Web) -> None:
        async def nothing(*_: Any) -> Any:
            raise AssertionError

        await rest.application({"type": "lifespan"}, nothing, nothing)
