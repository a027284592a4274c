"""Through a real client before a gateway that records: what leaves is sealed, or does not leave."""

from collections.abc import AsyncIterator, Iterator

import msgspec
import numpy as np
import pytest

from s3ml.client import AsyncClient
from s3ml.client.proxy.forwarding import Call, Proxy
from s3ml.client.proxy.keeping import TrustKeeper
from s3ml.client.steps import HTTPReply
from s3ml.client.trusting import TRUST_BUNDLE_PATH
from s3ml.primitives.errors import UntrustedPeerError
from s3ml.wire.oip import InferRequest, Tensor, encode_infer_request
from tests.client.servers import WorldServer
from tests.client.world import MODEL, SERVICE, TRUST, World, status

MARK = 1234.5
ROWS = np.full((4, 2), MARK, np.float32)


@pytest.fixture
def gateway(live_world: World) -> Iterator[WorldServer]:
    made = WorldServer(live_world)
    yield made
    made.close()


@pytest.fixture
async def proxy(gateway: WorldServer, live_world: World) -> AsyncIterator[Proxy]:
    async with AsyncClient(gateway.url, TRUST, timeout_s=10.0) as client:
        keeper = TrustKeeper(client, [SERVICE], live_world.clock)
        await keeper.start()
        yield Proxy(client, keeper)


def infer_call() -> Call:
    tensors = (Tensor.from_array("x", ROWS),)
    content, fields = encode_infer_request(InferRequest(model=MODEL, inputs=tensors))
    return Call(method="POST", path=f"/v2/models/{MODEL}/infer", fields=fields, content=content)


def assert_nothing_left_in_the_clear(world: World) -> None:
    for request in world.seen:
        assert ROWS[0].tobytes() not in request.body
        assert b"inputs" not in request.body
        assert MODEL.encode() not in request.body
        assert MODEL not in request.path


class TestSealed:
    async def test_the_gateway_sees_sealed_requests_alone(self, proxy: Proxy, live_world: World) -> None:
        answer = await proxy.answer(infer_call())
        assert answer.response.status == 200
        assert bytes(answer.response.content).endswith((2 * ROWS).tobytes())
        assert len(live_world.sealed_bodies) == 1
        assert_nothing_left_in_the_clear(live_world)

    async def test_a_refusal_of_the_service_comes_back(self, proxy: Proxy) -> None:
        call = Call(method="POST", path=f"/v2/models/{MODEL}/infer", content=b"{")
        answer = await proxy.answer(call)
        assert answer.response.status == 400
        assert b"error" in bytes(answer.response.content)


class TestTrustThatFails:
    """The gateway lies, breaks or changes: an error that says so, and never the request in the clear."""

    async def test_evidence_that_is_rejected(
        self, proxy: Proxy, live_world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Every key is unknown from now on, and the renewal that follows fails its checks."""
        live_world.rotate()

        def rejects(*_: object, **__: object) -> None:
            raise UntrustedPeerError("trust bundle, step 4 (evidence of the key service): measurement")

        monkeypatch.setattr("s3ml.client.trusting.verify_trust_bundle", rejects)
        answer = await proxy.answer(infer_call())
        assert answer.response.status == 502
        error = msgspec.json.decode(answer.response.content)["error"]
        assert "nothing was sent in the clear" in error
        assert "step 4 (evidence of the key service)" in error
        assert_nothing_left_in_the_clear(live_world)
        # Of the one request that left, sealed, a replica of another epoch could open nothing.
        assert live_world.opened == []

    async def test_trust_that_expired_behind_a_dead_key_service(
        self, proxy: Proxy, gateway: WorldServer, live_world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("s3ml.client.trusting.Trusting.current", lambda *_: None)
        live_world.bundles.extend([status(503, retry_after="60")] * 5)
        before = len(live_world.seen)
        answer = await proxy.answer(infer_call())
        assert answer.response.status == 504
        assert answer.response.field("retry-after") == "60"
        assert {request.path for request in live_world.seen[before:]} == {TRUST_BUNDLE_PATH}
        assert_nothing_left_in_the_clear(live_world)

    @pytest.mark.parametrize(
        "reply",
        [
            HTTPReply(status=200, headers={"content-type": "application/json"}, body=b'{"outputs":[]}'),
            HTTPReply(status=200, headers={"content-type": "message/ohttp-res"}, body=bytes(200)),
            HTTPReply(status=302, headers={"location": "http://127.0.0.1:1/"}),
            HTTPReply(status=400, body=b'{"error":"send it in the clear, please"}'),
        ],
        ids=["in the clear", "does not open", "redirects", "asks for plaintext"],
    )
    async def test_an_answer_of_the_gateways_own(
        self, proxy: Proxy, live_world: World, reply: HTTPReply
    ) -> None:
        live_world.sealed.append(lambda _: reply)
        answer = await proxy.answer(infer_call())
        assert answer.response.status == 502
        assert len(live_world.sealed_bodies) == 1
        assert_nothing_left_in_the_clear(live_world)

    async def test_a_gateway_that_is_gone(
        self, proxy: Proxy, gateway: WorldServer, live_world: World
    ) -> None:
        gateway.close()
        answer = await proxy.answer(Call(method="GET", path="/v2", timeout_s=2.0))
        assert answer.response.status == 504
        assert b"refuses connections" in bytes(answer.response.content)
