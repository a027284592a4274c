"""LiteRT opens what is in the bundle, keeps nothing, and computes for several threads at once."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from s3ml.bundle import ListedFile, ModelConfig, ModelFiles, Resources
from s3ml.modelserver.runtimes import ModelUnusableError, RuntimeRefusedError
from s3ml.modelserver.runtimes.litert import open_model
from tests.modelserver.litert_models import VALID, LiteRTGraph, identity, linear

ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)
WEIGHTS = np.arange(6, dtype=np.float32).reshape(3, 2)


def files(model: bytes, **settings: Any) -> ModelFiles:
    listed = (ListedFile(name="model.tflite", size_bytes=len(model), sha256="0" * 64),)
    return ModelFiles(
        config=ModelConfig(runtime="litert", files=listed, **settings), files={"model.tflite": model}
    )


class TestOpening:
    """What cannot be served is refused when it is opened, without the runtime's words."""

    def test_inputs_and_outputs_have_the_models_names(self) -> None:
        runtime = open_model(files(linear()))

        assert runtime.platform == "litert_tflite"
        assert [(s.name, s.datatype, s.shape) for s in runtime.inputs] == [("x", "FP32", (-1, 3))]
        assert [(s.name, s.shape) for s in runtime.outputs] == [("y", (-1, 2)), ("z", (-1, 2))]

    def test_a_signatures_names_come_before_the_tensors(self) -> None:
        runtime = open_model(files(signed("other", "serving_default")))

        assert ([s.name for s in runtime.inputs], [s.name for s in runtime.outputs]) == (
            ["features"],
            ["scores"],
        )
        assert runtime.run({"features": ROWS}, ["scores"])[0].tolist() == (-ROWS).tolist()

    def test_the_only_signature_may_have_any_name(self) -> None:
        assert open_model(files(signed("classify"))).inputs[0].name == "features"

    def test_one_of_several_signatures_must_be_the_default(self) -> None:
        with pytest.raises(ModelUnusableError, match="got 2 others"):
            open_model(files(signed("one", "two")))

    def test_a_signature_of_part_of_the_graph_is_refused(self) -> None:
        graph = LiteRTGraph()
        x, y = graph.input("x", [-1, 3]), graph.input("y", [-1, 3])
        z = graph.node("ADD", [x, y], graph.tensor("z", [-1, 3]), options="AddOptions")
        graph.sign("serving_default", {"x": x}, {"z": z})

        with pytest.raises(ModelUnusableError, match="a signature of its whole main graph"):
            open_model(files(graph.finish(z)))

    @pytest.mark.parametrize("model", [b"", b"\x1c\x00\x00\x00TFL3" + bytes(64), linear()[:200]])
    def test_garbage_is_refused(self, model: bytes) -> None:
        with pytest.raises(ModelUnusableError):
            open_model(files(model))

    @pytest.mark.parametrize("name", ["Secret", "FlexSecret"])
    def test_custom_operators_are_refused_without_their_names(self, name: str) -> None:
        graph = LiteRTGraph()
        y = graph.node("CUSTOM", [graph.input("x", [1, 2])], graph.tensor("y", [1, 2]), custom=name)

        with pytest.raises(ModelUnusableError, match="LiteRT cannot open it") as refused:
            open_model(files(graph.finish(y)))
        assert "Secret" not in f"{refused.value} {refused.value!r}"
        assert refused.value.told
        assert refused.value.__cause__ is None

    def test_a_datatype_that_the_protocol_lacks_is_refused(self) -> None:
        with pytest.raises(ModelUnusableError, match="numbers, booleans or text, got complex64"):
            open_model(files(identity("COMPLEX64", -1, 2)))

    def test_a_model_whose_smallest_inputs_are_impossible_opens(self) -> None:
        runtime = open_model(files(convolution()))
        image = np.ones((1, 5, 6, 1), np.float32)

        assert runtime.run({"x": image}, ["y"])[0].shape == (1, 3, 4, 1)


def signed(*keys: str) -> bytes:
    graph = LiteRTGraph()
    x = graph.input("x", [-1, 3])
    y = graph.node("NEG", [x], graph.tensor("y", [-1, 3]), options="NegOptions")
    for key in keys:
        graph.sign(key, {"features": x}, {"scores": y})
    return graph.finish(y)


def convolution() -> bytes:
    """A kernel of 3 x 3 without padding: an image of one pixel is too small for it."""
    graph = LiteRTGraph()
    x = graph.input("x", [-1, -1, -1, 1])
    kernel = graph.constant("k", np.ones((1, 3, 3, 1), np.float32))
    bias = graph.constant("b", np.zeros(1, np.float32))
    options = {"padding": VALID, "strideH": 1, "strideW": 1}
    y = graph.node(
        "CONV_2D", [x, kernel, bias], graph.tensor("y", [-1, -1, -1, 1]), options="Conv2DOptions", **options
    )
    return graph.finish(y)


class TestDatatypes:
    """Every datatype that LiteRT and the protocol share goes in and comes out."""

    @pytest.mark.parametrize(
        ("datatype", "dtype"),
        [
            ("BOOL", "?"),
            ("UINT8", "<u1"),
            ("UINT16", "<u2"),
            ("UINT32", "<u4"),
            ("UINT64", "<u8"),
            ("INT8", "<i1"),
            ("INT16", "<i2"),
            ("INT32", "<i4"),
            ("INT64", "<i8"),
            ("FP16", "<f2"),
            ("BF16", "<u2"),
            ("FP32", "<f4"),
            ("FP64", "<f8"),
        ],
    )
    def test_numbers_survive_even_unaligned(self, datatype: str, dtype: str) -> None:
        runtime = open_model(files(identity(datatype, -1, 1)))
        numbers = np.array([[0], [1], [1]], dtype=dtype)
        unaligned = np.frombuffer(b"\x00" + numbers.tobytes(), dtype=dtype, offset=1).reshape(3, 1)

        assert runtime.inputs[0].datatype == runtime.outputs[0].datatype == datatype
        assert runtime.run({"x": unaligned}, ["y"])[0].tolist() == numbers.tolist()

    def test_bytes_survive(self) -> None:
        runtime = open_model(files(identity("BYTES", -1, 2)))
        texts = np.array([["grün".encode(), b"\xff\x00"], [b"", b"x"]], dtype=np.object_)

        assert runtime.run({"x": texts}, ["y"])[0].tolist() == texts.tolist()

    def test_a_scalar_is_a_tensor_without_dimensions(self) -> None:
        graph = LiteRTGraph()
        y = graph.node("NEG", [graph.input("x", [])], graph.tensor("y", []), options="NegOptions")
        runtime = open_model(files(graph.finish(y)))

        assert runtime.inputs[0].shape == ()
        assert runtime.run({"x": np.array(3, np.float32)}, ["y"])[0].tolist() == -3


class TestRunning:
    """Each request gets its own answer, whatever was computed before it or beside it."""

    @pytest.mark.parametrize("sizes", [(1, 4, 2, 4, 1), (4, 1)])
    def test_batches_of_any_size_follow_each_other(self, sizes: tuple[int, ...]) -> None:
        runtime = open_model(files(linear()))

        for size in sizes:
            y, z = runtime.run({"x": ROWS[:size]}, ["y", "z"])
            assert y.tolist() == (ROWS[:size] @ WEIGHTS).tolist()
            assert z.tolist() == (-y).tolist()

    def test_outputs_come_in_the_order_asked_for(self) -> None:
        z, y = open_model(files(linear())).run({"x": ROWS}, ["z", "y"])

        assert z.tolist() == (-y).tolist()
        assert y[1].tolist() == (ROWS[1] @ WEIGHTS).tolist()

    def test_what_was_handed_out_does_not_change(self) -> None:
        runtime = open_model(files(linear()))
        first = runtime.run({"x": ROWS}, ["y"])[0]
        runtime.run({"x": ROWS + 1}, ["y"])

        assert first.tolist() == (ROWS @ WEIGHTS).tolist()

    def test_several_threads_get_their_own_answers(self) -> None:
        runtime = open_model(files(linear()))

        def ask(number: int) -> bool:
            rows = np.full((1 + number % 5, 3), number, np.float32)
            return bool((runtime.run({"x": rows}, ["y"])[0] == rows @ WEIGHTS).all())

        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(ask, range(400)))

    def test_variables_do_not_remember_a_request(self) -> None:
        """An SVDF keeps its last activations in a variable tensor, as recurrent models do."""
        runtime = open_model(files(recurrent()))
        first = runtime.run({"x": np.ones((1, 2), np.float32)}, ["y"])[0]

        for _ in range(3):
            runtime.run({"x": np.full((1, 2), 5, np.float32)}, ["y"])
        assert runtime.run({"x": np.ones((1, 2), np.float32)}, ["y"])[0].tolist() == first.tolist()

    def test_no_rows_are_refused(self) -> None:
        with pytest.raises(RuntimeRefusedError, match=r"x: expected elements, got shape \[0, 3\]"):
            open_model(files(linear())).run({"x": ROWS[:0]}, ["y"])

    def test_a_refusal_has_no_reason_and_spoils_nothing(self) -> None:
        runtime = open_model(files(convolution()))
        with pytest.raises(RuntimeRefusedError, match="cannot be evaluated") as refused:
            runtime.run({"x": np.ones((1, 2, 2, 1), np.float32)}, ["y"])

        assert refused.value.__cause__ is None
        assert runtime.run({"x": np.ones((1, 3, 3, 1), np.float32)}, ["y"])[0].tolist() == [[[[9]]]]

    def test_the_bundles_threads_are_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        seen: list[int] = []

        def create(*, model_content: bytes, num_threads: int) -> Any:
            seen.append(num_threads)
            raise ValueError

        monkeypatch.setattr("s3ml.modelserver.runtimes.litert.Interpreter", create)
        for resources in (None, Resources(memory_bytes=1, threads=3)):
            with pytest.raises(ModelUnusableError):
                open_model(files(linear(), resources=resources))
        assert seen == [1, 3]


def recurrent() -> bytes:
    graph = LiteRTGraph()
    x = graph.input("x", [1, 2])
    feature = graph.constant("wf", np.ones((1, 2), np.float32))
    time = graph.constant("wt", np.ones((1, 3), np.float32))
    state = graph.tensor("state", [1, 3])
    graph.graph.tensors[state].isVariable = True
    y = graph.node(
        "SVDF", [x, feature, time, -1, state], graph.tensor("y", [1, 1]), options="SVDFOptions", rank=1
    )
    return graph.finish(y)
