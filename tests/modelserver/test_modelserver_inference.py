"""The Open Inference Protocol inside the seal, as clients use it."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from s3ml.modelserver.execution import DeadlineError
from s3ml.modelserver.runtimes import RuntimeRefusedError
from s3ml.modelserver.runtimes.onnx import OnnxRuntime
from s3ml.wire.oip import (
    HEADER_LENGTH_FIELD,
    InferRequest,
    RequestedOutput,
    Tensor,
    decode_infer_response,
    encode_infer_request,
)
from s3ml.wire.sealed import SealLimits
from tests.modelserver.conftest import Replica, World, build, linear, value

INFER = "/v2/models/tumours/infer"
ROWS = {"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [1, 1, 1, 0, 0, 1]}


def changed(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{**ROWS, **changes}]}


class TestMetadata:
    """What a server and a model say about themselves."""

    @pytest.mark.parametrize("path", ["/v2", "/v2/"])
    async def test_the_server_names_itself(self, serving_replica: Replica, path: str) -> None:
        status, document = await serving_replica.ask_json("GET", path)

        assert (status, document["name"], document["extensions"]) == (
            200,
            "s3ml",
            ["binary_tensor_data", "model_repository"],
        )

    @pytest.mark.parametrize("word", ["live", "ready"])
    async def test_health_has_a_body(self, serving_replica: Replica, word: str) -> None:
        assert await serving_replica.ask_json("GET", f"/v2/health/{word}") == (200, {word: True})

    async def test_a_model_describes_its_tensors(self, serving_replica: Replica) -> None:
        assert await serving_replica.ask_json("GET", "/v2/models/tumours") == (
            200,
            {
                "name": "tumours",
                "versions": ["1"],
                "platform": "onnx_onnxv1",
                "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
                "outputs": [
                    {"name": "y", "datatype": "FP32", "shape": [-1, 2]},
                    {"name": "z", "datatype": "FP32", "shape": [-1, 2]},
                ],
            },
        )

    async def test_a_model_is_ready(self, serving_replica: Replica) -> None:
        reply = await serving_replica.ask_json("GET", "/v2/models/tumours/versions/1/ready")

        assert reply == (200, {"name": "tumours", "ready": True})

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/v2/models/other"),
            ("GET", "/v2/models/other/ready"),
            ("GET", "/v2/models/tumours/versions/2"),
            ("POST", "/v2/models/other/infer"),
            ("POST", "/v2/models/tumours/versions/2/infer"),
        ],
    )
    async def test_what_is_not_served_is_a_404(
        self, serving_replica: Replica, method: str, path: str
    ) -> None:
        status, document = await serving_replica.ask_json(method, path)

        assert (status, "not served here" in document["error"]) == (404, True)


class TestInfer:
    """Numbers in, numbers out, as JSON or raw."""

    async def test_json_in_json_out(self, serving_replica: Replica) -> None:
        status, document = await serving_replica.ask_json("POST", INFER, {"id": "7", "inputs": [ROWS]})

        assert (status, document["model_name"], document["model_version"], document["id"]) == (
            200,
            "tumours",
            "1",
            "7",
        )
        assert document["outputs"] == [
            {"name": "y", "datatype": "FP32", "shape": [2, 2], "data": [6, 9, 4, 5]},
            {"name": "z", "datatype": "FP32", "shape": [2, 2], "data": [-6, -9, -4, -5]},
        ]

    async def test_nested_data_is_the_same(self, serving_replica: Replica) -> None:
        status, document = await serving_replica.ask_json("POST", INFER, changed(data=[[1, 1, 1], [0, 0, 1]]))

        assert (status, document["outputs"][0]["data"]) == (200, [6, 9, 4, 5])

    async def test_binary_in_binary_out(self, serving_replica: Replica) -> None:
        rows = np.array([[1, 1, 1]], dtype=np.float32)
        request = InferRequest(model="tumours", inputs=(Tensor.from_array("x", rows),))
        content, fields = encode_infer_request(request)
        answer = await serving_replica.ask("POST", INFER, content, fields)

        length = int(answer.field(HEADER_LENGTH_FIELD) or 0)
        outputs = decode_infer_response(bytes(answer.content), length).outputs
        assert [output.array.tolist() for output in outputs] == [[[6, 9]], [[-6, -9]]]

    async def test_chosen_outputs_come_in_the_chosen_order(self, serving_replica: Replica) -> None:
        request = InferRequest(
            model="tumours",
            inputs=(Tensor.from_array("x", np.ones((1, 3), np.float32)),),
            outputs=(RequestedOutput(name="z"), RequestedOutput(name="y")),
        )
        content, fields = encode_infer_request(request, binary=False)
        answer = await serving_replica.ask("POST", INFER, content, fields)

        assert [o["name"] for o in json.loads(bytes(answer.content))["outputs"]] == ["z", "y"]

    async def test_a_raw_request_is_one_row(self, serving_replica: Replica) -> None:
        raw = np.array([1, 1, 1], dtype="<f4").tobytes()
        answer = await serving_replica.ask("POST", INFER, raw, [(HEADER_LENGTH_FIELD, "0")])

        length = int(answer.field(HEADER_LENGTH_FIELD) or 0)
        assert decode_infer_response(bytes(answer.content), length).outputs[0].array.tolist() == [[6, 9]]

    async def test_an_empty_batch_is_a_batch(self, serving_replica: Replica) -> None:
        status, document = await serving_replica.ask_json("POST", INFER, changed(shape=[0, 3], data=[]))

        assert (status, document["outputs"][0]["shape"]) == (200, [0, 2])

    async def test_the_newest_version_answers_unless_one_is_named(
        self, world: World, replica: Replica
    ) -> None:
        for version in (1, 10, 9):
            world.publish(linear(version), version=str(version))
        replica.config = world.begin_epoch()
        await replica.enrol()

        assert (await replica.ask_json("POST", INFER, {"inputs": [ROWS]}))[1]["model_version"] == "10"
        nine = await replica.ask_json("POST", "/v2/models/tumours/versions/9/infer", {"inputs": [ROWS]})
        assert nine[1]["outputs"][0]["data"][0] == 54


class TestBadRequests:
    """A mistake is a 400 with a line that says expected and got; never a 500."""

    @pytest.mark.parametrize(
        ("document", "line"),
        [
            (changed(name="age"), "inputs: expected 'x', got 'age'"),
            ({"inputs": []}, "inputs: expected at least one"),
            ({"inputs": [ROWS, ROWS]}, "twice"),
            (changed(datatype="FP64"), "x: expected datatype FP32, got FP64"),
            (changed(datatype="FP33"), "FP33"),
            (changed(shape=[3, 2]), "x: expected shape [-1, 3], got [3, 2]"),
            (changed(shape=[6]), "x: expected shape [-1, 3], got [6]"),
            (changed(shape=[1, 3]), "x"),
            (changed(data=["a"] * 6), "x"),
            ({"inputs": [ROWS], "outputs": [{"name": "w"}]}, "outputs: expected some of 'y', 'z', got 'w'"),
            ({}, "inputs"),
            ([], "JSON"),
        ],
    )
    async def test_it_is_told(self, serving_replica: Replica, document: Any, line: str) -> None:
        status, reply = await serving_replica.ask_json("POST", INFER, document)

        assert (status, line in reply["error"]) == (400, True), reply

    @pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 5000])
    async def test_what_is_no_json_is_told(self, serving_replica: Replica, content: bytes) -> None:
        assert (await serving_replica.ask("POST", INFER, content)).status == 400

    @pytest.mark.parametrize("length", ["x", "-1", "99999"])
    async def test_a_wrong_header_length_is_told(self, serving_replica: Replica, length: str) -> None:
        answer = await serving_replica.ask("POST", INFER, b"{}", [(HEADER_LENGTH_FIELD, length)])

        assert answer.status == 400

    async def test_a_raw_request_needs_a_single_input(self, world: World, replica: Replica) -> None:
        world.publish(two_inputs())
        replica.config = world.begin_epoch()
        await replica.enrol()
        answer = await replica.ask("POST", INFER, bytes(8), [(HEADER_LENGTH_FIELD, "0")])

        assert (answer.status, b"one input" in bytes(answer.content)) == (400, True)

    async def test_a_missing_input_is_named(self, world: World, replica: Replica) -> None:
        world.publish(two_inputs())
        replica.config = world.begin_epoch()
        await replica.enrol()
        only_a = {"name": "a", "shape": [1, 1], "datatype": "FP32", "data": [1]}
        status, reply = await replica.ask_json("POST", INFER, {"inputs": [only_a]})

        assert (status, reply["error"]) == (400, "inputs: expected 'a', 'b', got none named 'b'")

    async def test_dimensions_of_the_same_name_must_agree(self, world: World, replica: Replica) -> None:
        world.publish(two_inputs())
        replica.config = world.begin_epoch()
        await replica.enrol()
        inputs = [
            {"name": "a", "shape": [1, 5], "datatype": "FP32", "data": [1] * 5},
            {"name": "b", "shape": [2, 7], "datatype": "FP32", "data": [1] * 14},
        ]
        status, reply = await replica.ask_json("POST", INFER, {"inputs": inputs})

        assert (status, reply["error"]) == (400, "b: expected dimension 'n' to be 1 as in a, got 2")


def two_inputs() -> bytes:
    """``y = sum(a) + sum(b)`` per row; the widths vary on their own."""
    nodes = [
        helper.make_node("ReduceMax", ["a"], ["p"], axes=[1], keepdims=1),
        helper.make_node("ReduceMax", ["b"], ["q"], axes=[1], keepdims=1),
        helper.make_node("Add", ["p", "q"], ["y"]),
    ]
    inputs = [value("a", TensorProto.FLOAT, "n", "w"), value("b", TensorProto.FLOAT, "n", "v")]
    data: bytes = build(nodes, inputs, [value("y", TensorProto.FLOAT, "n", 1)], []).SerializeToString()
    return data


class TestFailures:
    """What goes wrong on our side has a status of its own, and no detail."""

    @pytest.mark.parametrize(
        ("failure", "status", "line"),
        [
            (RuntimeRefusedError("inference: cannot"), 400, "inference: cannot"),
            (DeadlineError("expected an end within 30 s"), 504, "inference: expected an end within 30 s"),
            (MemoryError(), 503, "inference: too little memory; retry later"),
            (RuntimeError("SECRET"), 500, "inference: internal error"),
        ],
    )
    async def test_it_is_answered_sealed(
        self,
        serving_replica: Replica,
        monkeypatch: pytest.MonkeyPatch,
        failure: Exception,
        status: int,
        line: str,
    ) -> None:
        monkeypatch.setattr(OnnxRuntime, "run", raiser(failure))

        assert await serving_replica.ask_json("POST", INFER, {"inputs": [ROWS]}) == (status, {"error": line})
        assert "SECRET" not in serving_replica.log.getvalue()

    async def test_outputs_that_no_client_takes_are_refused_with_advice(
        self, serving_replica: Replica, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("s3ml.modelserver.inference.DEFAULT_LIMITS", SealLimits(max_response_bytes=2048))
        status, reply = await serving_replica.ask_json("POST", INFER, {"inputs": [ROWS]})

        assert (status, "send fewer rows" in reply["error"]) == (400, True)

    async def test_failures_count_and_mistakes_do_not(
        self, serving_replica: Replica, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for _ in range(30):
            await serving_replica.ask_json("POST", INFER, {})
        assert (await serving_replica.call("GET", "/v2/health/ready")).status == 200

        monkeypatch.setattr(OnnxRuntime, "run", raiser(MemoryError()))
        for _ in range(30):
            await serving_replica.ask_json("POST", INFER, {"inputs": [ROWS]})
        assert (await serving_replica.call("GET", "/v2/health/ready")).status == 503


def raiser(failure: Exception) -> Callable[..., Any]:
    def run(*_arguments: Any) -> Any:
        raise failure

    return run
