"""ONNX Runtime opens what is in the bundle, and nothing else."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from s3ml.bundle import ListedFile, ModelConfig, ModelFiles
from s3ml.modelserver.runtimes import ModelUnusableError, RuntimeRefusedError
from s3ml.modelserver.runtimes.onnx import OnnxRuntime, open_model
from s3ml.modelserver.validation import check_inputs
from s3ml.wire.oip import Tensor
from tests.modelserver.conftest import build, external_model, linear, value

X = np.ones((1, 3), dtype=np.float32)


def files(model: bytes, **external: bytes) -> ModelFiles:
    contents = {"model.onnx": model, **{name.replace("_", "."): data for name, data in external.items()}}
    listed = tuple(ListedFile(name=n, size_bytes=len(d), sha256="0" * 64) for n, d in contents.items())
    return ModelFiles(config=ModelConfig(runtime="onnx", files=listed), files=contents)


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
        with pytest.raises(ModelUnusableError, match="expected an ONNX model"):
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
