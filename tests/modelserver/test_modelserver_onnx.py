"""ONNX Runtime opens what is in the bundle, and nothing else."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from s3ml.bundle import ListedFile, ModelConfig, ModelFiles, Resources
from s3ml.modelserver.runtimes import ModelUnusableError, RuntimeRefusedError
from s3ml.modelserver.runtimes.onnx import OnnxRuntime, open_model
from s3ml.modelserver.validation import check_inputs
from s3ml.wire.oip import Tensor
from tests.modelserver.conftest import build, external_model, linear, value

X = np.ones((1, 3), dtype=np.float32)


def files(model: bytes, *, resources: Resources | None = None, **external: bytes) -> ModelFiles:
    contents = {"model.onnx": model, **{name.replace("_", "."): data for name, data in external.items()}}
    listed = tuple(ListedFile(name=n, size_bytes=len(d), sha256="0" * 64) for n, d in contents.items())
    return ModelFiles(config=ModelConfig(runtime="onnx", files=listed, resources=resources), files=contents)


def built(nodes: list[Any], x: Any, y: Any) -> bytes:
    data: bytes = build(nodes, [x], [y], []).SerializeToString()
    return data


def identity(kind: int, *shape: int | str) -> bytes:
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    data: bytes = build(nodes, [value("x", kind, *shape)], [value("y", kind, *shape)], []).SerializeToString()
    return data


class TestExternalData:
    """Weights come from the bundle or not at all."""

    def test_they_are_read_from_memory(self, tmp_path: Path) -> None:
        external_model(tmp_path)
        runtime = open_model(
            files((tmp_path / "model.onnx").read_bytes(), w_bin=(tmp_path / "w.bin").read_bytes())
        )

        assert runtime.run({"x": X}, ["y"])[0].tolist() == [[6, 9]]

    def test_a_file_in_the_current_folder_is_not_a_substitute(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        external_model(tmp_path)
        monkeypatch.chdir(tmp_path)

        with pytest.raises(ModelUnusableError, match=r"1 of its external data files are not in the bundle"):
            open_model(files((tmp_path / "model.onnx").read_bytes()))

    def test_a_planted_file_does_not_replace_the_bundles(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        external_model(tmp_path)
        weights = (tmp_path / "w.bin").read_bytes()
        (tmp_path / "w.bin").write_bytes(bytes(len(weights)))
        monkeypatch.chdir(tmp_path)
        runtime = open_model(files((tmp_path / "model.onnx").read_bytes(), w_bin=weights))

        assert runtime.run({"x": X}, ["y"])[0].tolist() == [[6, 9]]

    def test_a_subgraph_cannot_reach_the_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The runtime alone would read it from the current folder, although it was given in memory."""
        planted = np.full(2, 7, dtype=np.float32)
        (tmp_path / "w.bin").write_bytes(planted.tobytes())
        monkeypatch.chdir(tmp_path)

        with pytest.raises(ModelUnusableError, match="main graph only"):
            open_model(files(branching(), w_bin=bytes(8)))

    def test_a_file_that_is_too_short_is_refused(self, tmp_path: Path) -> None:
        external_model(tmp_path)

        with pytest.raises(ModelUnusableError, match="ONNX Runtime cannot open it"):
            open_model(files((tmp_path / "model.onnx").read_bytes(), w_bin=b"short"))


def branching() -> bytes:
    """A model whose branches keep their weights in ``w.bin``."""

    def branch(name: str) -> Any:
        tensor = numpy_helper.from_array(np.zeros(2, np.float32), f"w{name}")
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, text in (("location", "w.bin"), ("offset", "0"), ("length", "8")):
            entry = tensor.external_data.add()
            entry.key, entry.value = key, text
        nodes = [helper.make_node("Identity", [f"w{name}"], [f"o{name}"])]
        return helper.make_graph(nodes, name, [], [value(f"o{name}", TensorProto.FLOAT, 2)], [tensor])

    node = helper.make_node("If", ["c"], ["y"], then_branch=branch("a"), else_branch=branch("b"))
    inputs, outputs = [value("c", TensorProto.BOOL, 1)], [value("y", TensorProto.FLOAT, 2)]
    data: bytes = build([node], inputs, outputs, []).SerializeToString()
    return data


class TestOpening:
    """What cannot be served is refused when it is opened."""

    def test_garbage_is_refused(self) -> None:
        with pytest.raises(ModelUnusableError, match="expected an ONNX or LiteRT model"):
            open_model(files(b"\xffgarbage"))

    def test_custom_operators_are_refused(self) -> None:
        node = helper.make_node("Backdoor", ["x"], ["y"], domain="evil.example")
        model = build([node], [value("x", TensorProto.FLOAT, 1)], [value("y", TensorProto.FLOAT, 1)], [])
        model.opset_import.append(helper.make_opsetid("evil.example", 1))

        with pytest.raises(ModelUnusableError, match="ONNX Runtime cannot open it"):
            open_model(files(model.SerializeToString()))

    def test_outputs_that_are_no_tensors_are_refused_with_advice(self) -> None:
        node = helper.make_node("SequenceConstruct", ["x"], ["y"])
        sequence = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
        model = build([node], [value("x", TensorProto.FLOAT, 1)], [sequence], [])

        with pytest.raises(ModelUnusableError, match="zipmap=False"):
            open_model(files(model.SerializeToString()))

    def test_too_little_memory_is_no_fault_of_the_model(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def exhausted(*_arguments: Any, **_named: Any) -> Any:
            raise RuntimeError("Failed to allocate memory for requested buffer of size 1")

        monkeypatch.setattr("s3ml.modelserver.runtimes.onnx.ort.InferenceSession", exhausted)
        with pytest.raises(MemoryError):
            open_model(files(linear()))

    def test_the_serialised_model_is_not_kept(self) -> None:
        runtime = open_model(files(linear()))

        assert runtime._session._model_bytes is None


class TestDatatypes:
    """Every datatype of the protocol that numpy has goes in and comes out."""

    @pytest.mark.parametrize(
        ("kind", "datatype", "dtype"),
        [
            (TensorProto.BOOL, "BOOL", "?"),
            (TensorProto.UINT8, "UINT8", "<u1"),
            (TensorProto.UINT16, "UINT16", "<u2"),
            (TensorProto.UINT32, "UINT32", "<u4"),
            (TensorProto.UINT64, "UINT64", "<u8"),
            (TensorProto.INT8, "INT8", "<i1"),
            (TensorProto.INT16, "INT16", "<i2"),
            (TensorProto.INT32, "INT32", "<i4"),
            (TensorProto.INT64, "INT64", "<i8"),
            (TensorProto.FLOAT16, "FP16", "<f2"),
            (TensorProto.BFLOAT16, "BF16", "<u2"),
            (TensorProto.FLOAT, "FP32", "<f4"),
            (TensorProto.DOUBLE, "FP64", "<f8"),
        ],
    )
    def test_numbers_survive_even_unaligned(self, kind: int, datatype: str, dtype: str) -> None:
        runtime = open_model(files(identity(kind, "n")))
        numbers = np.array([0, 1, 1], dtype=dtype)
        unaligned = np.frombuffer(b"\x00" + numbers.tobytes(), dtype=dtype, offset=1)

        assert runtime.inputs[0].datatype == datatype
        assert runtime.run({"x": unaligned}, ["y"])[0].tolist() == numbers.tolist()

    def test_text_survives_as_bytes(self) -> None:
        runtime = open_model(files(identity(TensorProto.STRING, "n", 1)))
        texts = np.array([[b"gr\xc3\xbcn"], [b""]], dtype=np.object_)

        assert runtime.run({"x": texts}, ["y"])[0].tolist() == [["grün".encode()], [b""]]

    def test_what_is_no_text_is_refused(self) -> None:
        runtime = open_model(files(identity(TensorProto.STRING, "n")))

        with pytest.raises(RuntimeRefusedError, match="x: expected text in UTF-8"):
            runtime.run({"x": np.array([b"\xff"], dtype=np.object_)}, ["y"])

    def test_a_scalar_is_a_tensor_without_dimensions(self) -> None:
        runtime = open_model(files(identity(TensorProto.FLOAT)))

        check_inputs((Tensor.from_array("x", np.float32(3)),), runtime.inputs)
        assert runtime.inputs[0].shape == ()
        assert runtime.run({"x": np.array(3, np.float32)}, ["y"])[0].tolist() == 3


class TestBF16:
    """BF16 is converted and moved; what computes with it is refused when it is opened."""

    BITS = np.array([[0x3F80, 0x4000, 0xC040]], np.uint16)
    NUMBERS = np.array([[1, 2, -3]], np.float32)

    def converting(self, kind: int, target: int) -> OnnxRuntime:
        nodes = [helper.make_node("Cast", ["x"], ["y"], to=target)]
        return open_model(files(built(nodes, value("x", kind, "n", 3), value("y", target, "n", 3))))

    def test_it_goes_in(self) -> None:
        runtime = self.converting(TensorProto.BFLOAT16, TensorProto.FLOAT)

        assert runtime.run({"x": self.BITS}, ["y"])[0].tolist() == self.NUMBERS.tolist()

    def test_it_comes_out(self) -> None:
        runtime = self.converting(TensorProto.FLOAT, TensorProto.BFLOAT16)
        (result,) = runtime.run({"x": self.NUMBERS}, ["y"])

        assert (result.dtype, result.tolist()) == (np.dtype("<u2"), self.BITS.tolist())

    def test_rows_that_are_not_in_order_are_put_in_order(self) -> None:
        runtime = self.converting(TensorProto.BFLOAT16, TensorProto.FLOAT)

        assert runtime.run({"x": self.BITS[:, ::-1]}, ["y"])[0].tolist() == self.NUMBERS[:, ::-1].tolist()

    def test_none_is_none(self) -> None:
        runtime = self.converting(TensorProto.FLOAT, TensorProto.BFLOAT16)

        assert runtime.run({"x": self.NUMBERS[:0]}, ["y"])[0].shape == (0, 3)

    @pytest.mark.parametrize(
        ("kind", "numbers"),
        [(TensorProto.INT64, [7]), (TensorProto.BOOL, [True]), (TensorProto.FLOAT16, [0.5])],
    )
    def test_other_numbers_go_beside_it(self, kind: int, numbers: list[Any]) -> None:
        runtime = open_model(files(self.beside(kind)))
        given = np.array(numbers, helper.tensor_dtype_to_np_dtype(kind))
        y, u = runtime.run({"x": self.BITS, "t": given}, ["y", "u"])

        assert (y.tolist(), u.tolist()) == (self.BITS.tolist(), numbers)

    def test_text_beside_it_is_refused(self) -> None:
        with pytest.raises(ModelUnusableError, match="takes no text into a model that has BF16"):
            open_model(files(self.beside(TensorProto.STRING)))

    def beside(self, kind: int) -> bytes:
        nodes = [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Identity", ["t"], ["u"])]
        inputs = [value("x", TensorProto.BFLOAT16, "n", 3), value("t", kind, "m")]
        outputs = [value("y", TensorProto.BFLOAT16, "n", 3), value("u", kind, "m")]
        data: bytes = build(nodes, inputs, outputs, []).SerializeToString()
        return data

    def test_computing_with_it_is_refused_in_one_line(self) -> None:
        nodes = [helper.make_node("Add", ["x", "x"], ["y"])]
        x, y = (value(name, TensorProto.BFLOAT16, "n", 3) for name in "xy")

        with pytest.raises(ModelUnusableError, match=r"lacks one of its operators .* BF16") as refused:
            open_model(files(built(nodes, x, y)))
        assert "Add" not in str(refused.value)
        assert "Add(14)" in refused.value.told


class TestFP16:
    """FP16 is computed with."""

    def test_products_are_those_of_its_precision(self) -> None:
        weights = numpy_helper.from_array(np.arange(6, dtype=np.float16).reshape(3, 2), "w")
        model = build(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            [value("x", TensorProto.FLOAT16, "n", 3)],
            [value("y", TensorProto.FLOAT16, "n", 2)],
            [weights],
        )
        (result,) = open_model(files(model.SerializeToString())).run({"x": X.astype(np.float16)}, ["y"])

        assert (result.dtype.name, result.tolist()) == ("float16", [[6, 9]])


class TestThreads:
    """One thread computes a request unless the owner says otherwise."""

    @pytest.mark.parametrize(("resources", "threads"), [(None, 1), (Resources(memory_bytes=1, threads=3), 3)])
    def test_the_bundles_threads_are_used(
        self, resources: Resources | None, threads: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[int] = []

        def create(_model: bytes, options: Any, **_named: Any) -> Any:
            seen.append(options.intra_op_num_threads)
            raise RuntimeError

        monkeypatch.setattr("s3ml.modelserver.runtimes.onnx.ort.InferenceSession", create)
        with pytest.raises(ModelUnusableError):
            open_model(files(linear(), resources=resources))
        assert seen == [threads]


class TestRunning:
    """A failure tells nothing of the model."""

    def test_inputs_that_cannot_be_evaluated_are_refused_without_a_reason(self) -> None:
        nodes = [helper.make_node("Reshape", ["x", "secret_node"], ["y"])]
        shape = numpy_helper.from_array(np.array([2, 2], np.int64), "secret_node")
        model = build([*nodes], [value("x", 1, "n")], [value("y", 1, 2, 2)], [shape]).SerializeToString()

        with pytest.raises(RuntimeRefusedError) as refused:
            open_model(files(model)).run({"x": np.ones(3, np.float32)}, ["y"])
        assert "secret" not in str(refused.value)
        assert refused.value.__cause__ is None

    def test_too_little_memory_is_told_apart(self) -> None:
        class Exhausted:
            def get_inputs(self) -> list[Any]:
                return []

            get_outputs = get_inputs

            def run(self, *_arguments: Any) -> Any:
                raise RuntimeError("std::bad_alloc")

        with pytest.raises(MemoryError):
            OnnxRuntime(Exhausted()).run({}, [])
