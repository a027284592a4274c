"""What can be packed, and what is said when it cannot."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from s3ml.bundle import external_locations, inspect_source
from s3ml.primitives.errors import ConfigurationError
from tests.bundle.conftest import make_model
from tests.bundle.test_bundle_flatbuffer import flatbuffer

FLATBUFFER = flatbuffer()


def external_tensor(name: str, location: str = "w.bin") -> Any:
    tensor = numpy_helper.from_array(np.zeros(4, dtype=np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    length = tensor.external_data.add()
    length.key, length.value = "length", "16"
    return tensor


def subgraph() -> Any:
    info = helper.make_tensor_value_info("s", TensorProto.FLOAT, [4])
    return helper.make_graph([], "sub", [], [info], [external_tensor("s")])


class TestSource:
    """A model is one file, or a folder with everything that belongs to it."""

    def test_a_file_is_packed_under_the_models_name(self, model_file: Path) -> None:
        source = inspect_source(model_file)

        assert [(f.name, f.path) for f in source.files] == [("model.onnx", model_file)]
        assert source.size_bytes == model_file.stat().st_size

    def test_the_model_comes_first_in_a_folder(self, model_folder: Path) -> None:
        (model_folder / "a.txt").write_text("licence")

        assert [f.name for f in inspect_source(model_folder).files] == ["model.onnx", "a.txt", "w.bin"]

    def test_an_empty_folder_holds_no_model(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match=r"a folder with model\.onnx or model\.tflite"):
            inspect_source(tmp_path)

    def test_a_folder_without_a_model_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "w.bin").write_bytes(b"w")

        with pytest.raises(ConfigurationError, match=r"a folder with model\.onnx or model\.tflite"):
            inspect_source(tmp_path)

    def test_nothing_at_the_path_is_said_so(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="nothing readable"):
            inspect_source(tmp_path / "absent.onnx")

    def test_a_folder_within_is_refused(self, model_folder: Path) -> None:
        (model_folder / "sub").mkdir()

        with pytest.raises(ConfigurationError, match="got a folder"):
            inspect_source(model_folder)

    @pytest.mark.parametrize("name", [".DS_Store", "two words"])
    def test_a_name_that_a_bundle_cannot_hold_is_refused(self, model_folder: Path, name: str) -> None:
        (model_folder / name).write_bytes(b"")

        with pytest.raises(ConfigurationError, match="expected a name"):
            inspect_source(model_folder)

    def test_the_listings_name_is_reserved(self, model_folder: Path) -> None:
        (model_folder / "files.json").write_bytes(b"{}")

        with pytest.raises(ConfigurationError, match="belongs to the bundle"):
            inspect_source(model_folder)

    def test_too_many_files_are_refused(self, model_folder: Path) -> None:
        for number in range(1024):
            (model_folder / f"f{number}").touch()

        with pytest.raises(ConfigurationError, match="at most 1024 files, got 1026"):
            inspect_source(model_folder)

    def test_eight_gibibytes_are_refused(self, model_folder: Path) -> None:
        with (model_folder / "w.bin").open("r+b") as file:
            file.truncate(8 << 30)

        with pytest.raises(ConfigurationError, match="less than 8 GiB"):
            inspect_source(model_folder)

    def test_what_is_no_model_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "m.onnx"
        path.write_bytes(b"\xff\xff\xff not a model")

        with pytest.raises(ConfigurationError, match="expected an ONNX or LiteRT model"):
            inspect_source(path)

    def test_an_empty_file_is_no_model(self, tmp_path: Path) -> None:
        (tmp_path / "m.onnx").touch()

        with pytest.raises(ConfigurationError, match="got an empty file"):
            inspect_source(tmp_path / "m.onnx")

    def test_weights_that_are_not_packed_are_named(self, model_folder: Path) -> None:
        with pytest.raises(ConfigurationError, match=r"keeps weights in 'w\.bin', which is not packed"):
            inspect_source(model_folder / "model.onnx")

    def test_an_unreadable_model_is_said_so(
        self, model_file: Path, refuse_reading: Callable[[], None]
    ) -> None:
        refuse_reading()

        with pytest.raises(ConfigurationError, match="cannot be read: Permission denied"):
            inspect_source(model_file)

    def test_an_unreadable_model_in_a_folder_is_said_so(
        self, model_folder: Path, refuse_reading: Callable[[], None]
    ) -> None:
        refuse_reading()

        with pytest.raises(ConfigurationError, match="cannot be read: Permission denied"):
            inspect_source(model_folder)

    def test_a_file_that_vanishes_is_said_so(self, model_file: Path) -> None:
        source = inspect_source(model_file)
        model_file.unlink()

        with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
            list(source.files[0].chunks())

    @pytest.mark.parametrize("change", [-1, 1])
    def test_a_file_that_changes_size_is_said_so(self, model_file: Path, change: int) -> None:
        source = inspect_source(model_file)
        os.truncate(model_file, model_file.stat().st_size + change)

        with pytest.raises(ConfigurationError, match="changed while it was packed"):
            list(source.files[0].chunks())


class TestLiteRTSource:
    """A LiteRT model is known by what it is, not by its file's name."""

    def test_a_file_is_packed_under_the_models_name(self, tmp_path: Path) -> None:
        path = tmp_path / "tumours.bin"
        path.write_bytes(FLATBUFFER)

        source = inspect_source(path)
        assert source.runtime == "litert"
        assert [(f.name, f.path) for f in source.files] == [("model.tflite", path)]

    def test_a_folder_keeps_its_other_files(self, tmp_path: Path) -> None:
        (tmp_path / "model.tflite").write_bytes(FLATBUFFER)
        (tmp_path / "labels.txt").write_text("benign")

        source = inspect_source(tmp_path)
        assert (source.runtime, [f.name for f in source.files]) == ("litert", ["model.tflite", "labels.txt"])

    def test_what_is_no_model_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "model.tflite").write_bytes(b"ONNX or whatever")

        with pytest.raises(ConfigurationError, match="expected a LiteRT model"):
            inspect_source(tmp_path)

    def test_two_models_in_a_folder_are_two_packings(self, model_folder: Path) -> None:
        (model_folder / "model.tflite").write_bytes(FLATBUFFER)

        with pytest.raises(ConfigurationError, match="got both: pack them as two models"):
            inspect_source(model_folder)


class TestExternalData:
    """Weights outside the model are found wherever they are named."""

    def test_a_model_with_its_weights_inside_names_none(self, model_bytes: bytes) -> None:
        assert external_locations(model_bytes) == frozenset()

    def test_initializers_of_the_main_graph_are_found(self) -> None:
        model = make_model()
        model.graph.initializer.append(external_tensor("a", "a.bin"))
        model.graph.initializer.append(external_tensor("b", "b.bin"))

        assert external_locations(model.SerializeToString()) == {"a.bin", "b.bin"}

    @pytest.mark.parametrize(
        "place",
        [
            lambda: helper.make_node("If", ["c"], ["s"], then_branch=subgraph(), else_branch=subgraph()),
            lambda: helper.make_node("Constant", [], ["k"], value=external_tensor("k")),
            lambda: helper.make_node("Custom", [], ["k"], graphs=[subgraph()]),
            lambda: helper.make_node("Custom", [], ["k"], values=[external_tensor("k")]),
            lambda: helper.make_node(
                "Constant",
                [],
                ["k"],
                sparse_value=helper.make_sparse_tensor(
                    external_tensor("k"), numpy_helper.from_array(np.zeros(4, np.int64)), [9]
                ),
            ),
        ],
        ids=["subgraph", "constant", "graphs", "tensors", "sparse constant"],
    )
    def test_data_that_a_runtime_would_seek_on_disk_is_refused(self, place: Callable[[], Any]) -> None:
        model = make_model((place(),))

        with pytest.raises(ConfigurationError, match="initializers of the main graph only"):
            external_locations(model.SerializeToString())

    def test_a_functions_constants_are_looked_at(self) -> None:
        model = make_model()
        node = helper.make_node("Constant", [], ["k"], value=external_tensor("k"))
        model.functions.append(helper.make_function("own", "f", [], ["k"], [node], []))

        with pytest.raises(ConfigurationError, match="main graph only"):
            external_locations(model.SerializeToString())

    def test_a_training_graph_is_looked_at(self) -> None:
        model = make_model()
        model.training_info.add().initialization.CopyFrom(subgraph())

        with pytest.raises(ConfigurationError, match="main graph only"):
            external_locations(model.SerializeToString())

    def test_the_runtimes_own_marker_for_memory_counts_as_a_file(self) -> None:
        model = make_model()
        model.graph.initializer.append(external_tensor("a", "*/_ORT_MEM_ADDR_/*"))

        assert external_locations(model.SerializeToString()) == {"*/_ORT_MEM_ADDR_/*"}

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\x08\x09",  # ir_version and no graph
            b"\x3a\x05\x00",  # a graph that is longer than the message
            b"\x3a\x80",  # a length that does not end
            b"\x3a" + b"\x80" * 10 + b"\x01",  # a length that is too long
            b"\x3b",  # a group, which no ONNX message has
            b"\x3d\x00",  # four bytes that are not there
            b"\x39\x00",  # eight bytes that are not there
        ],
    )
    def test_damaged_bytes_are_no_model(self, data: bytes) -> None:
        with pytest.raises(ConfigurationError, match="expected an ONNX or LiteRT model"):
            external_locations(data)

    def test_fields_of_fixed_size_are_skipped(self, model_bytes: bytes) -> None:
        unknown = b"\xa1\x06" + bytes(8) + b"\xa5\x06" + bytes(4)

        assert external_locations(unknown + model_bytes) == frozenset()

    @given(st.binary(max_size=200))
    def test_any_bytes_are_read_or_refused(self, data: bytes) -> None:
        try:
            assert isinstance(external_locations(data), frozenset)
        except ConfigurationError as error:
            assert "expected" in str(error)
