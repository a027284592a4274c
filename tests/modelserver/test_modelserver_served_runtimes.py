"""Models of both runtimes side by side in one replica, asked through the seal."""

import asyncio
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from s3ml.bundle import Batching, Declaration, DeclaredTensor
from s3ml.wire.oip import (
    HEADER_LENGTH_FIELD,
    InferRequest,
    Tensor,
    decode_infer_response,
    encode_infer_request,
)
from tests.modelserver.conftest import Replica, World, build, linear, value
from tests.modelserver.litert_models import identity
from tests.modelserver.litert_models import linear as linear_litert

ROWS = {"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [1, 1, 1, 0, 0, 1]}
BATCHES = Declaration(batching=Batching(max_size=8, max_delay_us=1000))


async def infer(replica: Replica, model: str, *tensors: Tensor) -> list[Any]:
    """Ask in binary and return the outputs' arrays."""
    content, fields = encode_infer_request(InferRequest(model=model, inputs=tensors))
    answer = await replica.ask("POST", f"/v2/models/{model}/infer", content, fields)
    assert answer.status == 200, bytes(answer.content)
    length = int(answer.field(HEADER_LENGTH_FIELD) or 0)
    return [output.array for output in decode_infer_response(bytes(answer.content), length).outputs]


@pytest.fixture
async def both(world: World, replica: Replica) -> Replica:
    """A replica that serves the same weights in either runtime, batched."""
    world.publish(linear(), declaration=BATCHES)
    world.publish(linear_litert(), model="small", declaration=BATCHES)
    replica.config = world.begin_epoch()
    return await replica.enrol()


class TestSideBySide:
    """Whoever asks cannot tell the runtimes apart but by their platform."""

    async def test_each_names_its_platform(self, both: Replica) -> None:
        described = [await both.ask_json("GET", f"/v2/models/{name}") for name in ("tumours", "small")]

        assert [document["platform"] for _, document in described] == ["onnx_onnxv1", "litert_tflite"]
        assert described[0][1]["inputs"] == described[1][1]["inputs"]

    async def test_they_answer_the_same(self, both: Replica) -> None:
        answers = [
            await both.ask_json("POST", f"/v2/models/{name}/infer", {"inputs": [ROWS]})
            for name in ("tumours", "small")
        ]

        assert [status for status, _ in answers] == [200, 200]
        assert answers[0][1]["outputs"] == answers[1][1]["outputs"]

    @pytest.mark.parametrize("model", ["tumours", "small"])
    async def test_many_at_once_get_their_own_answers(self, both: Replica, model: str) -> None:
        async def ask(number: int) -> bool:
            rows = np.full((1 + number % 3, 3), number, np.float32)
            first, _ = await infer(both, model, Tensor.from_array("x", rows))
            return bool((first == rows @ np.arange(6, dtype=np.float32).reshape(3, 2)).all())

        assert all(await asyncio.gather(*(ask(number) for number in range(40))))

    async def test_an_input_that_does_not_fit_gets_400(self, both: Replica) -> None:
        wrong = {**ROWS, "shape": [1, 6]}
        status, document = await both.ask_json("POST", "/v2/models/small/infer", {"inputs": [wrong]})

        assert (status, document["error"]) == (400, "x: expected shape [-1, 3], got [1, 6]")

    async def test_no_rows_get_400(self, both: Replica) -> None:
        none = {**ROWS, "shape": [0, 3], "data": []}
        status, document = await both.ask_json("POST", "/v2/models/small/infer", {"inputs": [none]})

        assert (status, document["error"]) == (400, "x: expected elements, got shape [0, 3]")


class TestBF16:
    """BF16 travels in binary, in either runtime."""

    @pytest.mark.parametrize("runtime", ["onnx", "litert"])
    async def test_its_bits_survive(self, world: World, replica: Replica, runtime: str) -> None:
        bits = np.array([[0x3F80, 0x4000], [0xC040, 0x7F80]], np.uint16)
        x, y = (value(name, TensorProto.BFLOAT16, "n", 2) for name in "xy")
        onnx = build([helper.make_node("Identity", ["x"], ["y"])], [x], [y], []).SerializeToString()
        world.publish(onnx if runtime == "onnx" else identity("BF16", -1, 2))
        replica.config = world.begin_epoch()
        await replica.enrol()

        (result,) = await infer(replica, "tumours", Tensor(name="x", datatype="BF16", array=bits))
        assert result.tolist() == bits.tolist()


class TestDeclarations:
    """A model that is not what its owner declared is not served."""

    async def test_it_is_not_ready_and_says_why(self, world: World, replica: Replica) -> None:
        world.publish(linear())
        declared = DeclaredTensor(name="x", datatype="FP64", shape=(-1, 3))
        world.publish(linear(), model="other", declaration=Declaration(inputs=(declared,)))
        replica.config = world.begin_epoch()
        await replica.enrol()

        _, index = await replica.ask_json("POST", "/v2/repository/index", {})
        states = {entry["name"]: (entry["state"], entry["reason"]) for entry in index}
        assert states["tumours"] == ("READY", "")
        assert states["other"][0] == "UNAVAILABLE"
        assert "1 of its inputs and outputs are not as its bundle declares" in states["other"][1]
