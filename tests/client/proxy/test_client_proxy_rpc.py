"""The protocol over gRPC, on a real server: calls, statuses, deadlines, metadata."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import msgspec
import numpy as np
import pytest

from s3ml.attestation.errors import EvidenceRejectedError, Mismatch
from s3ml.client import CredentialsRefusedError, DeadlineExceededError, Token
from s3ml.client.proxy import rpc
from s3ml.client.proxy.metrics import ProxyMetrics
from s3ml.client.proxy.protocol import oip_pb2
from s3ml.client.proxy.rpc import RpcService, status_code
from s3ml.primitives.errors import UnavailableError, UntrustedPeerError
from s3ml.wire.oip import InferResponse, Tensor, decode_infer_request, encode_infer_response
from s3ml.wire.sealed import InnerResponse
from tests.client.proxy.forwarding_world import Desk, Forwarded, reply

ROWS = np.array([[1.5, -2.0]], np.float32)
METADATA = {
    "name": "detector",
    "versions": ["1"],
    "platform": "onnx_onnxv1",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
}


def doubling(sent: Forwarded) -> InnerResponse:
    """Answer as a model that doubles its input."""
    length = int(dict(sent.fields)["inference-header-content-length"])
    asked = decode_infer_request(sent.content, length, model="detector")
    outputs = tuple(
        Tensor(name="y", datatype=given.datatype, array=np.array(given.array) * 2) for given in asked.inputs
    )
    response = InferResponse(model="detector", version="1", id=asked.id, outputs=outputs)
    content, fields = encode_infer_response(response, asked)
    return InnerResponse(status=200, fields=fields, content=content)


@dataclass
class Rpc:
    """A client of the server."""

    desk: Desk
    metrics: ProxyMetrics
    channel: grpc.aio.Channel

    async def call(
        self,
        rpc_name: str,
        /,
        *,
        timeout: float | None = 30.0,  # noqa: ASYNC109 - gRPC's own
        metadata: tuple[tuple[str, str], ...] = (),
        **fields: Any,
    ) -> Any:
        request = getattr(oip_pb2, f"{rpc_name}Request")(**fields)
        method: Any = self.channel.unary_unary(
            f"/inference.GRPCInferenceService/{rpc_name}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=getattr(oip_pb2, f"{rpc_name}Response").FromString,
        )
        return await method(request, timeout=timeout, metadata=metadata)

    async def refusal(self, rpc_name: str, /, **options: Any) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await self.call(rpc_name, **options)
        return refused.value.code(), refused.value.details() or ""


async def serving(desk: Desk, **options: Any) -> AsyncIterator[Rpc]:
    metrics = ProxyMetrics(desk.keeper)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((RpcService(desk.proxy, metrics, **options).handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Rpc(desk, metrics, channel)
    await server.stop(None)


@pytest.fixture
async def client(desk: Desk) -> AsyncIterator[Rpc]:
    async for made in serving(desk):
        yield made


@pytest.fixture
async def forwarding(desk: Desk) -> AsyncIterator[Rpc]:
    async for made in serving(desk, forwards_authorization=True):
        yield made


def infer_fields(*, raw: bool = True) -> dict[str, Any]:
    tensor: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": [1, 2]}
    fields: dict[str, Any] = {"model_name": "detector", "id": "7", "inputs": [tensor]}
    if raw:
        fields["raw_input_contents"] = [ROWS.tobytes()]
    else:
        tensor["contents"] = {"fp32_contents": ROWS.ravel().tolist()}
    return fields


class TestHealth:
    async def test_live(self, client: Rpc) -> None:
        assert (await client.call("ServerLive")).live
        assert client.desk.services.forwarded == []

    async def test_ready(self, client: Rpc) -> None:
        assert (await client.call("ServerReady")).ready
        client.desk.services.failures["birds"] = UnavailableError("away")
        assert not (await client.call("ServerReady")).ready
        assert (await client.call("ServerReady", metadata=(("s3ml-service", "tumours"),))).ready

    async def test_ready_of_a_service_that_is_not_served_here(self, client: Rpc) -> None:
        code, _ = await client.refusal("ServerReady", metadata=(("s3ml-service", "fish"),))
        assert code is grpc.StatusCode.NOT_FOUND

    @pytest.mark.parametrize(("status", "is_ready"), [(200, True), (404, False)])
    async def test_model_ready(self, client: Rpc, status: int, is_ready: bool) -> None:
        client.desk.services.answers.append(reply({"error": "not served here"}, status))
        assert (await client.call("ModelReady", name="detector")).ready is is_ready
        assert client.desk.services.forwarded[0].path == "/v2/models/detector/ready"

    async def test_a_version(self, client: Rpc) -> None:
        assert (await client.call("ModelReady", name="detector", version="3")).ready
        assert client.desk.services.forwarded[0].path == "/v2/models/detector/versions/3/ready"

    @pytest.mark.parametrize("name", ["whale", "Detector", "", "detector/infer", "../keys"])
    async def test_unknown_models_are_not_ready(self, client: Rpc, name: str) -> None:
        assert not (await client.call("ModelReady", name=name)).ready
        assert client.desk.services.forwarded == []

    async def test_an_ambiguous_one_is_an_error(self, client: Rpc) -> None:
        code, line = await client.refusal("ModelReady", name="classifier")
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "s3ml-service" in line


class TestMetadata:
    async def test_server(self, client: Rpc) -> None:
        document = {"name": "s3ml", "version": "1", "extensions": ["binary_tensor_data"]}
        client.desk.services.answers += [reply(document), reply(document)]
        message = await client.call("ServerMetadata")
        assert (message.name, list(message.extensions)) == ("s3ml-proxy", ["binary_tensor_data"])

    async def test_model(self, client: Rpc) -> None:
        client.desk.services.answers.append(reply(METADATA))
        message = await client.call("ModelMetadata", name="detector")
        assert (message.name, message.platform) == ("detector", "onnx_onnxv1")
        assert list(message.inputs[0].shape) == [-1, 2]

    @pytest.mark.parametrize("name", ["whale", "Detector", ""])
    async def test_unknown_models_are_not_found(self, client: Rpc, name: str) -> None:
        assert (await client.refusal("ModelMetadata", name=name))[0] is grpc.StatusCode.NOT_FOUND

    async def test_the_service_in_the_metadata_chooses(self, client: Rpc) -> None:
        client.desk.services.answers.append(reply(METADATA))
        await client.call("ModelMetadata", name="classifier", metadata=(("s3ml-service", "tumours"),))
        assert client.desk.services.forwarded[0].service == "tumours"

    async def test_an_answer_that_is_none(self, client: Rpc) -> None:
        client.desk.services.answers.append(reply([]))
        code, line = await client.refusal("ModelMetadata", name="detector")
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert "malformed" in line


class TestInference:
    async def test_raw_for_raw(self, client: Rpc) -> None:
        client.desk.services.handle = doubling
        message = await client.call("ModelInfer", **infer_fields())
        assert (message.model_name, message.model_version, message.id) == ("detector", "1", "7")
        (blob,) = message.raw_output_contents
        assert np.frombuffer(blob, np.float32).tolist() == [3.0, -4.0]
        assert not message.outputs[0].HasField("contents")

    async def test_typed_for_typed(self, client: Rpc) -> None:
        client.desk.services.handle = doubling
        message = await client.call("ModelInfer", **infer_fields(raw=False))
        assert list(message.outputs[0].contents.fp32_contents) == [3.0, -4.0]
        assert not message.raw_output_contents

    async def test_path_and_content(self, client: Rpc) -> None:
        client.desk.services.handle = doubling
        await client.call("ModelInfer", **infer_fields(), model_version="3")
        (sent,) = client.desk.services.forwarded
        assert (sent.method, sent.path) == ("POST", "/v2/models/detector/versions/3/infer")
        assert sent.content.endswith(ROWS.tobytes())

    @pytest.mark.parametrize(
        ("name", "version"), [("whale", ""), ("A", ""), ("detector/ready", ""), ("detector", "x")]
    )
    async def test_unknown_models_are_not_found(self, client: Rpc, name: str, version: str) -> None:
        fields = infer_fields() | {"model_name": name, "model_version": version}
        assert (await client.refusal("ModelInfer", **fields))[0] is grpc.StatusCode.NOT_FOUND
        assert client.desk.services.forwarded == []

    async def test_a_malformed_request_leaves_nothing(self, client: Rpc) -> None:
        fields = infer_fields() | {"raw_input_contents": [b"", b""]}
        code, line = await client.refusal("ModelInfer", **fields)
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "expected one for each of 1 inputs" in line
        assert client.desk.services.forwarded == []

    async def test_a_fault_of_ours_tells_nothing(
        self, client: Rpc, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fails(*_: object, **__: object) -> None:
            raise RuntimeError("secret output")

        monkeypatch.setattr(rpc, "decode_answer", fails)
        client.desk.services.handle = doubling
        assert await client.refusal("ModelInfer", **infer_fields()) == (
            grpc.StatusCode.INTERNAL,
            "proxy: internal error",
        )
        assert "secret" not in caplog.text


class TestDeadlines:
    """A gRPC deadline is the time of the call, and the server is told of it."""

    async def test_it_is_how_long_the_call_may_take(self, client: Rpc) -> None:
        client.desk.services.handle = doubling
        await client.call("ModelInfer", **infer_fields(), timeout=600.0)
        (sent,) = client.desk.services.forwarded
        assert 300.0 < (sent.timeout_s or 0.0) < 660.0  # gRPC rounds up what it says
        head = msgspec.json.decode(sent.content[: int(dict(sent.fields)["inference-header-content-length"])])
        assert 300_000_000 < head["parameters"]["timeout"] < 660_000_000

    async def test_without_one_the_proxys_own_counts(self, client: Rpc) -> None:
        client.desk.services.handle = doubling
        await client.call("ModelInfer", **infer_fields(), timeout=None)
        (sent,) = client.desk.services.forwarded
        assert sent.timeout_s is None
        assert b"timeout" not in sent.content

    async def test_when_it_is_over_the_request_is_given_up(self, client: Rpc) -> None:
        client.desk.services.held = asyncio.Event()
        code, _ = await client.refusal("ModelInfer", **infer_fields(), timeout=2.0)
        assert code is grpc.StatusCode.DEADLINE_EXCEEDED
        async with asyncio.timeout(120):
            await client.desk.services.was_cancelled.wait()


class TestStatuses:
    """Each error says over gRPC what it says over REST."""

    @pytest.mark.parametrize(
        ("status", "code"),
        [
            (400, grpc.StatusCode.INVALID_ARGUMENT),
            (401, grpc.StatusCode.UNAUTHENTICATED),
            (403, grpc.StatusCode.PERMISSION_DENIED),
            (404, grpc.StatusCode.NOT_FOUND),
            (413, grpc.StatusCode.RESOURCE_EXHAUSTED),
            (422, grpc.StatusCode.INVALID_ARGUMENT),
            (429, grpc.StatusCode.RESOURCE_EXHAUSTED),
            (500, grpc.StatusCode.INTERNAL),
            (503, grpc.StatusCode.UNAVAILABLE),
            (504, grpc.StatusCode.DEADLINE_EXCEEDED),
            (599, grpc.StatusCode.INTERNAL),
        ],
    )
    async def test_refusals_of_the_service(self, client: Rpc, status: int, code: grpc.StatusCode) -> None:
        client.desk.services.answers.append(reply({"error": "its own line"}, status))
        assert await client.refusal("ModelInfer", **infer_fields()) == (code, "its own line")
        assert status_code(status) is code

    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (CredentialsRefusedError("expected a token"), grpc.StatusCode.UNAUTHENTICATED),
            (UntrustedPeerError("the answer does not open"), grpc.StatusCode.FAILED_PRECONDITION),
            (UnavailableError("away"), grpc.StatusCode.UNAVAILABLE),
            (DeadlineExceededError("no answer"), grpc.StatusCode.DEADLINE_EXCEEDED),
        ],
    )
    async def test_what_the_proxy_says(self, client: Rpc, error: Exception, code: grpc.StatusCode) -> None:
        client.desk.services.failures["birds"] = error
        got, line = await client.refusal("ModelInfer", **infer_fields())
        assert got is code
        assert str(error) in line

    async def test_failed_checks_are_in_the_line(self, client: Rpc) -> None:
        mismatch = Mismatch(claim="measurement", expected="aa", got="bb")
        client.desk.services.failures["birds"] = EvidenceRejectedError([mismatch])
        _, line = await client.refusal("ModelInfer", **infer_fields())
        assert "measurement: expected aa, got bb" in line

    async def test_when_to_come_back_is_in_the_trailing_metadata(self, client: Rpc) -> None:
        client.desk.services.answers.append(reply({"error": "full"}, 503, ("retry-after", "4")))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.call("ModelInfer", **infer_fields())
        assert ("retry-after", "4") in list(refused.value.trailing_metadata())

    async def test_calls_that_are_not_the_protocols(self, client: Rpc) -> None:
        method: Any = client.channel.unary_unary("/inference.GRPCInferenceService/ModelConfig")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await method(b"")
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED

    async def test_outcomes_are_counted(self, client: Rpc) -> None:
        await client.call("ServerLive")
        await client.call("ModelReady", name="detector")
        await client.refusal("ModelMetadata", name="whale")
        text = client.metrics.render().decode()
        for outcome, service in (("answered", "none"), ("answered", "birds"), ("rejected", "none")):
            labels = f'{{outcome="{outcome}",protocol="grpc",service="{service}"}}'
            assert f"s3ml_proxy_requests_total{labels} 1.0" in text


class TestRepository:
    async def test_index(self, client: Rpc) -> None:
        entry = {"name": "m", "version": "1", "state": "READY", "reason": ""}
        client.desk.services.answers += [reply([entry]), reply([entry | {"name": "n"}])]
        message = await client.call("RepositoryIndex", ready=True)
        assert [(model.name, model.state) for model in message.models] == [("m", "READY"), ("n", "READY")]
        assert {sent.content for sent in client.desk.services.forwarded} == {b'{"ready":true}'}

    @pytest.mark.parametrize("field", ["model_name", "repository_name"])
    @pytest.mark.parametrize(("action", "flag"), [("Load", "is_loaded"), ("Unload", "is_unloaded")])
    async def test_load_and_unload(self, client: Rpc, action: str, flag: str, field: str) -> None:
        """Clients differ in which field names the model, and in what they read of the answer."""
        client.desk.services.answers.append(reply({}))
        named: dict[str, Any] = {field: "detector"}
        message = await client.call(f"RepositoryModel{action}", **named)
        assert (message.model_name, getattr(message, flag)) == ("detector", True)
        path = f"/v2/repository/models/detector/{action.lower()}"
        assert client.desk.services.forwarded[0].path == path

    async def test_a_role_that_the_caller_lacks(self, client: Rpc) -> None:
        client.desk.services.answers.append(reply({"error": "caller: lacks the role"}, 403))
        code, _ = await client.refusal("RepositoryModelUnload", model_name="detector")
        assert code is grpc.StatusCode.PERMISSION_DENIED

    async def test_a_malformed_name(self, client: Rpc) -> None:
        code, _ = await client.refusal("RepositoryModelLoad", model_name="a/b")
        assert code is grpc.StatusCode.NOT_FOUND


class TestCredentials:
    async def test_a_local_clients_authorization_stays_here(self, client: Rpc) -> None:
        await client.call("ModelReady", name="detector", metadata=(("authorization", "Bearer abc"),))
        assert client.desk.services.forwarded[0].credentials is None

    async def test_it_is_forwarded_on_demand(self, forwarding: Rpc) -> None:
        await forwarding.call("ModelReady", name="detector", metadata=(("authorization", "Bearer abc"),))
        credentials = forwarding.desk.services.forwarded[0].credentials
        assert isinstance(credentials, Token)
        assert credentials.reveal() == "abc"

    async def test_other_kinds_are_refused(self, forwarding: Rpc) -> None:
        code, _ = await forwarding.refusal(
            "ModelReady", name="detector", metadata=(("authorization", "Basic YTpi"),)
        )
        assert code is grpc.StatusCode.UNAUTHENTICATED
        assert forwarding.desk.services.forwarded == []


class TestTrust:
    async def test_a_failed_check_lets_nothing_out(self, desk: Desk, client: Rpc) -> None:
        desk.services.trust_failures["birds"] = UntrustedPeerError("trust bundle: step 4")
        desk.services.clock.advance(10)
        await desk.keeper.look_again()
        code, line = await client.refusal("ModelInfer", **infer_fields())
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert "step 4" in line
        assert desk.services.forwarded == []
