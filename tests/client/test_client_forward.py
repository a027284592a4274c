"""The raw call: a request goes into the seal as it is, and the service's answer comes back as it is."""

import asyncio
from collections.abc import Iterator

import pytest

from s3ml.client import AsyncClient, CallerKey, Client, CredentialsRefusedError, DeadlineExceededError, Token
from s3ml.client.budget import LONGEST_PAUSE_S
from s3ml.client.core import MODEL_PATIENCE_S, Core
from s3ml.client.errors import InvalidInputError, UnknownServiceError, UntrustedServiceError
from s3ml.keyservice.documents import KeyCaller
from s3ml.primitives.signing import SigningKey
from s3ml.wire.oip import OIPError
from s3ml.wire.sealed import InnerRequest, InnerResponse
from tests.client.servers import WorldServer
from tests.client.world import MODEL, SERVICE, TRUST, Driver, World, broken, inner, make_core, status

INFER = f"/v2/models/{MODEL}/infer"
# Nobody decodes this on the way: two keys, spaces, no such tensor.
ODD = b'{"inputs" :[ ], "inputs":[]}\x00\x01\xff'
FIELDS = (("content-type", "application/octet-stream"), ("inference-header-content-length", "28"))


def forward(
    core: Core, driver: Driver, *, method: str = "POST", path: str = INFER, timeout_s: float | None = None
) -> InnerResponse:
    content = ODD if method == "POST" else b""
    request = InnerRequest(method=method, path=path, fields=FIELDS, content=content)
    return driver.run(core.forward(SERVICE, request, timeout_s=timeout_s))


class TestForward:
    """Nothing is decoded, nothing is judged."""

    def test_it_arrives_byte_for_byte(self, core: Core, driver: Driver, world: World) -> None:
        world.answers.append(InnerResponse(status=200, fields=FIELDS, content=b"\x00odd\xff"))
        answer = forward(core, driver)
        assert (answer.status, answer.fields, bytes(answer.content)) == (200, FIELDS, b"\x00odd\xff")
        (opened,) = world.opened
        assert (opened.request.method, opened.request.path) == ("POST", INFER)
        assert [field for field in opened.request.fields if field[0] != "date"] == list(FIELDS)
        assert bytes(opened.request.content) == ODD

    def test_nothing_of_it_leaves_unsealed(self, core: Core, driver: Driver, world: World) -> None:
        forward(core, driver)
        for request in world.seen:
            assert ODD not in request.body
            assert b"infer" not in request.body

    @pytest.mark.parametrize("code", [400, 401, 403, 404, 405, 422, 500, 501])
    def test_a_refusal_is_handed_on_at_once(
        self, core: Core, driver: Driver, world: World, code: int
    ) -> None:
        world.answers.append(inner(code, "no", ("retry-after", "7")))
        answer = forward(core, driver, path="/v2/models/other/infer")
        assert (answer.status, answer.field("retry-after")) == (code, "7")
        assert bytes(answer.content) == b'{"error":"no"}'
        assert driver.pauses_s == []

    @pytest.mark.parametrize("code", [409, 429, 503, 504])
    def test_what_failed_for_the_moment_is_tried_again(
        self, core: Core, driver: Driver, world: World, code: int
    ) -> None:
        world.answers.append(inner(code, "later"))
        world.answers.append(InnerResponse(status=200, content=b"{}"))
        assert forward(core, driver).status == 200
        assert core.statistics.retries == 1

    def test_the_last_answer_is_handed_on_when_the_time_is_over(
        self, core: Core, driver: Driver, world: World
    ) -> None:
        world.answers.extend([inner(503, "full", ("retry-after", "9"))] * 3)
        answer = forward(core, driver, timeout_s=20.0)
        assert (answer.status, answer.field("retry-after")) == (503, "9")
        assert core.statistics.retries == 2

    def test_an_older_answer_is_not(self, core: Core, driver: Driver, world: World) -> None:
        """What the service said before the gateway failed answers another attempt."""
        world.answers.append(inner(503, "full"))
        world.sealed.extend([lambda _: None, *[broken] * 100])
        with pytest.raises(DeadlineExceededError, match="connection broke"):
            forward(core, driver, timeout_s=5.0)

    def test_a_model_that_is_not_ready_is_not_waited_for(
        self, core: Core, driver: Driver, world: World
    ) -> None:
        world.answers.append(inner(404, "not served here"))
        assert forward(core, driver, method="GET", path=f"/v2/models/{MODEL}/ready").status == 404
        assert core.statistics.retries == 0

    def test_a_model_that_is_stated_is_waited_for_only_so_long(
        self, core: Core, driver: Driver, world: World
    ) -> None:
        """A replica that asks for a new model has it in time; one that was told to unload it stays so."""
        world.answers.extend([inner(404, "not served here")] * 100)
        assert forward(core, driver).status == 404
        assert 1 <= core.statistics.retries < 100
        assert sum(driver.pauses_s) < MODEL_PATIENCE_S + LONGEST_PAUSE_S

    @pytest.mark.parametrize("path", ["/v3", "/v2/models/A/infer", "/v2/../keys", f"{INFER}?x=1"])
    def test_no_other_path_leaves(self, core: Core, driver: Driver, world: World, path: str) -> None:
        with pytest.raises(OIPError) as refused:
            forward(core, driver, path=path)
        assert refused.value.status == 404
        assert world.seen == []

    def test_another_method_does_not_leave(self, core: Core, driver: Driver, world: World) -> None:
        with pytest.raises(OIPError) as refused:
            forward(core, driver, method="GET")
        assert refused.value.status == 405
        assert world.seen == []

    def test_the_gateways_word_is_no_answer(self, core: Core, driver: Driver, world: World) -> None:
        world.sealed.append(status(422))
        with pytest.raises(UntrustedServiceError, match="expected a sealed answer, got status 422"):
            forward(core, driver)

    def test_an_unknown_service(self, core: Core, driver: Driver) -> None:
        with pytest.raises(UnknownServiceError, match="'birds'"):
            driver.run(core.forward("birds", InnerRequest(method="GET", path="/v2")))

    def test_a_request_that_is_too_large(self, core: Core, driver: Driver, world: World) -> None:
        world.sealed.append(status(413))
        with pytest.raises(InvalidInputError, match="more than the service accepts"):
            forward(core, driver)


class TestCredentials:
    """Whoever forwards may call as somebody else."""

    def test_those_of_the_call_count(self, driver: Driver, world: World) -> None:
        own, theirs = SigningKey.generate(), SigningKey.generate()
        world.callers = (KeyCaller(name="theirs", key=str(theirs.public)),)
        core = make_core(world)
        request = InnerRequest(method="GET", path="/v2")
        with pytest.raises(CredentialsRefusedError, match="does not name"):
            driver.run(core.forward(SERVICE, request, credentials=CallerKey(own)))
        assert driver.run(core.forward(SERVICE, request, credentials=CallerKey(theirs))).status == 200
        assert (world.opened[0].request.field("authorization") or "").startswith("S3ML-Proof ")

    def test_a_token_for_nobody_stays_here(self, core: Core, driver: Driver, world: World) -> None:
        """An anonymous service gets no token, whoever offers one."""
        driver.run(core.forward(SERVICE, InnerRequest(method="GET", path="/v2"), credentials=Token("secret")))
        assert world.opened[0].request.field("authorization") is None


class TestShells:
    """Both clients have the call."""

    @pytest.fixture
    def gateway(self, live_world: World) -> Iterator[WorldServer]:
        made = WorldServer(live_world)
        yield made
        made.close()

    def test_blocking(self, gateway: WorldServer) -> None:
        with Client(gateway.url, TRUST) as client:
            assert bytes(client.forward(SERVICE, method="GET", path="/v2/").content) == b'{"name":"s3ml"}'

    def test_awaited(self, gateway: WorldServer) -> None:
        async def call() -> InnerResponse:
            async with AsyncClient(gateway.url, TRUST) as client:
                return await client.forward(SERVICE, method="POST", path=INFER, fields=FIELDS, content=ODD)

        answer = asyncio.run(call())
        assert answer.status == 400
        assert b"twice" in bytes(answer.content)
