"""Who a client says it is: to whom, in what form, and never in the clear."""

import logging
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from s3ml.client import AsyncClient, CallerKey, Client, CredentialsRefusedError, Token
from s3ml.client.core import Core
from s3ml.client.credentials import TOKEN_LIMIT_BYTES, Credentials
from s3ml.keyservice.documents import Ed25519IssuerKey, KeyCaller, TokenCallers
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.signing import SigningKey
from s3ml.wire.sealed import parse_proof, proof_message
from tests.client.servers import WorldServer
from tests.client.test_client_shells import Awaited, Blocking, Shell
from tests.client.world import DEPLOYMENT, SERVICE, TRUST, Driver, World, inner, make_core

ROWS = np.array([[1.0, 2.0]], dtype=np.float32)
SECRET = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl"
KEY = SigningKey.from_raw(bytes([5]) * 32)
BY_KEY = KeyCaller(name="ada", key=str(KEY.public))
BY_TOKEN = TokenCallers(
    name="staff",
    issuer="https://issuer.example",
    audience="tumours",
    keys=(Ed25519IssuerKey(kid="k", alg="EdDSA", crv="Ed25519", x="A" * 43),),
)


@pytest.fixture
def infer(world: World, driver: Driver) -> Callable[[Credentials | None], None]:
    """Return a function that makes one call with the given credentials."""

    def call(credentials: Credentials | None) -> None:
        driver.run(core_with(world, credentials).infer(SERVICE, {"x": ROWS}))

    return call


def core_with(world: World, credentials: Credentials | None) -> Core:
    core = make_core(world)
    core._credentials = credentials
    return core


Infer = Callable[[Credentials | None], None]


def presented(world: World) -> list[str | None]:
    return [opened.request.field("authorization") for opened in world.opened]


class TestPresenting:
    """A service gets what it asks for, and nothing else."""

    def test_a_token(self, world: World, infer: Infer) -> None:
        world.callers = (BY_TOKEN,)
        infer(Token(SECRET))
        infer(lambda: SECRET)
        infer(lambda: Token(f" {SECRET}\n"))
        assert presented(world) == [f"Bearer {SECRET}"] * 3

    def test_a_key(self, world: World, infer: Infer) -> None:
        world.callers = (BY_TOKEN, BY_KEY)
        infer(CallerKey(KEY))
        (opened,) = world.opened
        proof = parse_proof(opened.request.field("authorization") or "")
        assert proof is not None
        assert proof.key == KEY.public
        channel = opened.exchange.opened.channel
        assert proof.is_of(proof_message(channel, opened.request, deployment=DEPLOYMENT, service=SERVICE))

    def test_metadata_too(self, world: World, driver: Driver) -> None:
        world.callers = (BY_TOKEN,)
        driver.run(core_with(world, Token(SECRET)).metadata(SERVICE))
        assert presented(world) == [f"Bearer {SECRET}"]

    def test_nothing_where_anybody_may_call(self, world: World, infer: Infer) -> None:
        def never() -> str:
            raise AssertionError

        for credentials in (Token(SECRET), CallerKey(KEY), never, None):
            infer(credentials)
        assert presented(world) == [None] * 4

    def test_each_attempt_asks_the_function_anew(self, world: World, infer: Infer) -> None:
        world.callers = (BY_TOKEN,)
        world.answers.append(inner(503, "not now"))
        tokens = iter([f"{SECRET}1", f"{SECRET}2"])
        infer(lambda: next(tokens))
        assert presented(world) == [f"Bearer {SECRET}1", f"Bearer {SECRET}2"]

    def test_each_attempt_is_signed_anew(self, world: World, infer: Infer) -> None:
        world.callers = (BY_KEY,)
        world.answers.append(inner(503, "not now"))
        infer(CallerKey(KEY))
        first, second = presented(world)
        assert first != second

    def test_too_often_is_a_matter_of_time(self, world: World, infer: Infer, driver: Driver) -> None:
        world.callers = (BY_KEY,)
        world.answers.append(inner(429, "caller: too many requests; retry later", ("retry-after", "3")))
        infer(CallerKey(KEY))
        assert [int(pause_s) for pause_s in driver.pauses_s] == [3]


class TestRefusal:
    """What a service does not admit is told before anything is sent, where that can be known."""

    @pytest.mark.parametrize(
        ("rules", "credentials", "message"),
        [
            ((BY_KEY,), None, "expected the key of a caller that it names, got none: pass credentials="),
            ((BY_TOKEN,), None, "expected a token of https://issuer.example, got none"),
            ((BY_KEY,), Token(SECRET), "expected the key of a caller that it names, got a token"),
            ((BY_KEY,), lambda: SECRET, "expected the key of a caller that it names, got a token"),
            ((BY_TOKEN,), CallerKey(KEY), "expected a token of https://issuer.example, got the key ed25519:"),
            (
                (BY_TOKEN, KeyCaller(name="bo", key=str(SigningKey.generate().public))),
                CallerKey(KEY),
                "https://issuer.example or the key of a caller that it names, got the key",
            ),
        ],
    )
    def test_the_wrong_kind(
        self, world: World, infer: Infer, rules: Any, credentials: Credentials | None, message: str
    ) -> None:
        world.callers = rules
        with pytest.raises(CredentialsRefusedError) as refused:
            infer(credentials)
        assert message in str(refused.value)
        assert world.opened == []
        assert SECRET not in str(refused.value)

    def test_refused_by_the_service(self, world: World, infer: Infer) -> None:
        world.callers = (BY_TOKEN,)
        world.answers.append(inner(401, "caller: expected credentials that this service admits"))
        with pytest.raises(CredentialsRefusedError, match=r"does not admit these credentials.*expired"):
            infer(Token(SECRET))

    def test_without_the_role(self, world: World, infer: Infer) -> None:
        world.callers = (BY_KEY,)
        world.answers.append(inner(403, "caller: is admitted, and lacks the role for this"))
        with pytest.raises(CredentialsRefusedError, match="lacks the role for this"):
            infer(CallerKey(KEY))

    def test_it_is_the_caller_s_to_fix(self) -> None:
        assert issubclass(CredentialsRefusedError, ConfigurationError)


class TestSecrecy:
    """Credentials are in no text that anybody reads, and in nothing that leaves."""

    @pytest.mark.parametrize(
        "text", ["", " ", "a b", "a\nb", "a\r\nx: y", "é", "=", "x" * (TOKEN_LIMIT_BYTES + 1)]
    )
    def test_what_is_no_token(self, world: World, infer: Infer, text: str) -> None:
        with pytest.raises(ConfigurationError, match="token: expected"):
            Token(text)
        world.callers = (BY_TOKEN,)
        with pytest.raises(ConfigurationError, match="token: expected"):
            infer(lambda: text)

    def test_no_text_holds_it(self, world: World, infer: Infer, caplog: pytest.LogCaptureFixture) -> None:
        token, key = Token(SECRET), CallerKey(KEY)
        assert SECRET not in f"{token!r}{token}"
        assert KEY.to_raw().hex() not in f"{key!r}{key}"
        world.callers = (BY_TOKEN,)
        world.answers.append(inner(401, "no"))
        with caplog.at_level(logging.DEBUG), pytest.raises(CredentialsRefusedError) as refused:
            infer(token)
        told = "".join(traceback.format_exception(refused.value)) + caplog.text
        assert SECRET not in told
        assert all(SECRET not in repr(opened) for opened in world.opened)

    def test_nothing_leaves_in_the_clear(self, world: World, infer: Infer) -> None:
        world.callers = (BY_TOKEN, BY_KEY)
        infer(Token(SECRET))
        infer(CallerKey(KEY))
        for request in world.seen:
            outside = repr(request).encode() + request.body
            assert SECRET.encode() not in outside
            assert KEY.public.raw not in outside
            assert b"authorization" not in outside.lower()


@pytest.fixture
def gateway(live_world: World) -> Iterator[WorldServer]:
    made = WorldServer(live_world)
    yield made
    made.close()


class TestShells:
    """Both clients take credentials."""

    @pytest.mark.parametrize("kind", [Blocking, Awaited])
    @pytest.mark.parametrize("credentials", [Token(SECRET), CallerKey(KEY), lambda: SECRET])
    def test_calls(
        self, gateway: WorldServer, live_world: World, kind: type[Shell], credentials: Credentials
    ) -> None:
        live_world.callers = (BY_TOKEN, BY_KEY)
        shell = kind(gateway.url, timeout_s=120.0, credentials=credentials)
        try:
            assert shell.infer({"x": ROWS})["y"].tolist() == [[2.0, 4.0]]
        finally:
            shell.close()
        assert None not in presented(live_world)

    def test_none_by_default(self) -> None:
        for client in (Client("http://127.0.0.1:1", TRUST), AsyncClient("http://127.0.0.1:1", TRUST)):
            assert client._core._credentials is None
