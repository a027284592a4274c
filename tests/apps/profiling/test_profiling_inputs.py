"""Inputs are settled before anything is measured, or somebody is told what to say."""

import re
from pathlib import Path

import numpy as np
import pytest

from s3ml.apps.profiling.inputs import (
    Feeding,
    check_samples,
    make_feeds,
    parse_shape,
    plan_feeding,
    read_samples,
)
from s3ml.apps.profiling.messages import Declared
from s3ml.primitives.errors import ConfigurationError

IMAGE = Declared(name="image", datatype="FP32", shape=(-1, 3, 8, 8))
FREE = Declared(name="tokens", datatype="INT64", shape=(-1, -1))
FIXED = Declared(name="x", datatype="FP32", shape=(1, 3))
TEXT = Declared(name="text", datatype="BYTES", shape=(-1,))


class TestPlan:
    """Every dimension has a size, or the message says which option gives it."""

    def test_rows_are_one_where_nothing_is_said(self) -> None:
        feeding = plan_feeding([IMAGE], {}, is_batchable=True)
        assert dict(feeding.shapes) == {"image": (1, 3, 8, 8)}
        assert feeding.is_batched

    def test_a_fixed_shape_is_taken(self) -> None:
        assert dict(plan_feeding([FIXED], {}, is_batchable=False).shapes) == {"x": (1, 3)}

    @pytest.mark.parametrize(("is_batchable", "sizes"), [(True, "1,?"), (False, "?,?")])
    def test_a_size_that_nobody_knows_is_asked_for(self, is_batchable: bool, sizes: str) -> None:
        with pytest.raises(
            ConfigurationError, match=re.escape(f"--shape tokens={sizes} (a size for each ?)")
        ):
            plan_feeding([FREE], {}, is_batchable=is_batchable)

    def test_a_given_size_is_taken(self) -> None:
        assert dict(plan_feeding([FREE], {"tokens": (1, 16)}, is_batchable=True).shapes) == {
            "tokens": (1, 16)
        }

    @pytest.mark.parametrize("shape", [(1, 3), (1, 3, 8, 9), (1, 4, 8, 8)])
    def test_a_given_shape_has_to_fit(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(ConfigurationError, match=r"image: expected the shape \[-1, 3, 8, 8\]"):
            plan_feeding([IMAGE], {"image": shape}, is_batchable=True)

    def test_a_name_that_the_model_does_not_have_is_rejected(self) -> None:
        with pytest.raises(ConfigurationError, match="the model takes image, not picture"):
            plan_feeding([IMAGE], {"picture": (1,)}, is_batchable=True)


class TestShapeOption:
    """NAME=1,3,224,224."""

    @pytest.mark.parametrize(
        ("text", "parsed"),
        [("x=1,3", ("x", (1, 3))), ("gpu_0/data=1", ("gpu_0/data", (1,))), ("a=b= 2 , 3", ("a=b", (2, 3)))],
    )
    def test_it_is_parsed(self, text: str, parsed: tuple[str, tuple[int, ...]]) -> None:
        assert parse_shape(text) == parsed

    @pytest.mark.parametrize("text", ["", "x", "x=", "=1", "x=0", "x=-1", "x=1,,2", "x=1.5", "x=2147483648"])
    def test_another_form_is_rejected(self, text: str) -> None:
        with pytest.raises(ConfigurationError, match="--shape: expected NAME=1,3,224,224"):
            parse_shape(text)


class TestFeeds:
    """Random ones are the same each time, and valid wherever an index is wanted."""

    def feeds(self, declared: Declared, shape: tuple[int, ...], batch: int = 4) -> np.ndarray:
        feeding = Feeding(shapes={declared.name: shape}, is_batched=True)
        found: np.ndarray = make_feeds([declared], feeding, batch=batch, samples=None)[declared.name]
        return found

    def test_a_batch_has_its_rows(self) -> None:
        array = self.feeds(IMAGE, (1, 3, 8, 8))
        assert array.shape == (4, 3, 8, 8)
        assert array.dtype == np.float32
        assert 0 <= array.min() < array.max() < 1

    def test_they_repeat(self) -> None:
        assert np.array_equal(self.feeds(IMAGE, (1, 3, 8, 8)), self.feeds(IMAGE, (1, 3, 8, 8)))

    def test_integers_are_zero_or_one(self) -> None:
        array = self.feeds(FREE, (1, 64))
        assert array.dtype == np.int64
        assert set(array.ravel().tolist()) == {0, 1}

    @pytest.mark.parametrize(
        ("datatype", "dtype"), [("BOOL", np.bool_), ("FP16", np.float16), ("UINT8", np.uint8)]
    )
    def test_other_datatypes_are_theirs(self, datatype: str, dtype: type) -> None:
        declared = Declared(name="x", datatype=datatype, shape=(-1, 2))  # type: ignore[arg-type]
        assert self.feeds(declared, (1, 2)).dtype == dtype

    def test_text_is_bytes(self) -> None:
        array = self.feeds(TEXT, (1,))
        assert array.shape == (4,)
        assert all(isinstance(element, bytes) for element in array)

    def test_a_model_without_batches_gets_its_shape(self) -> None:
        feeding = Feeding(shapes={"x": (1, 3)}, is_batched=False)
        assert make_feeds([FIXED], feeding, batch=1, samples=None)["x"].shape == (1, 3)

    def test_more_than_memory_is_not_tried(self) -> None:
        with pytest.raises(ConfigurationError, match="tokens: expected at most 4 GiB"):
            self.feeds(FREE, (1, 2**31 - 1), batch=32)


class TestSamples:
    """Rows from a file, as many as a batch needs."""

    def write(self, folder: Path, **arrays: np.ndarray) -> Path:
        path = folder / "samples.npz"
        np.savez(path, allow_pickle=False, **arrays)
        return path

    def test_rows_begin_again_where_there_are_too_few(self, tmp_path: Path) -> None:
        samples = read_samples(self.write(tmp_path, tokens=np.arange(6, dtype=np.int32).reshape(3, 2)))
        shapes = check_samples(samples, [FREE])
        feeding = plan_feeding([FREE], shapes, is_batchable=True)
        array = make_feeds([FREE], feeding, batch=4, samples=samples)["tokens"]
        assert array.dtype == np.int64
        assert array.tolist() == [[0, 1], [2, 3], [4, 5], [0, 1]]

    def test_text_becomes_bytes(self, tmp_path: Path) -> None:
        samples = read_samples(self.write(tmp_path, text=np.array(["né", "b"])))
        check_samples(samples, [TEXT])
        array = make_feeds([TEXT], Feeding(shapes={"text": (1,)}, is_batched=True), batch=2, samples=samples)
        assert array["text"].tolist() == ["né".encode(), b"b"]

    def test_a_model_without_batches_gets_all_of_it(self, tmp_path: Path) -> None:
        samples = read_samples(self.write(tmp_path, x=np.ones((1, 3))))
        array = make_feeds([FIXED], Feeding(shapes={"x": (1, 3)}, is_batched=False), batch=1, samples=samples)
        assert array["x"].tolist() == [[1, 1, 1]]

    @pytest.mark.parametrize(
        ("array", "said"),
        [
            (np.array(["a"]), "tokens: expected INT64 or alike"),
            (np.zeros((2, 2)), "tokens: expected INT64 or alike, got float64"),
            (np.zeros((0, 2), dtype=np.int64), "tokens: expected at least one row"),
        ],
    )
    def test_another_kind_is_rejected(self, array: np.ndarray, said: str) -> None:
        with pytest.raises(ConfigurationError, match=said):
            check_samples({"tokens": array}, [FREE])

    def test_numbers_are_no_text(self) -> None:
        with pytest.raises(ConfigurationError, match="text: expected text, got float64"):
            check_samples({"text": np.zeros(2)}, [TEXT])

    def test_each_input_needs_some(self) -> None:
        with pytest.raises(ConfigurationError, match="expected an array image, got tokens"):
            check_samples({"tokens": np.zeros(2)}, [IMAGE])

    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not an archive"])
    def test_other_files_are_rejected(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "samples.npz"
        path.write_bytes(content)
        with pytest.raises(ConfigurationError, match=r"samples\.npz: expected an \.npz of plain arrays"):
            read_samples(path)

    def test_one_array_alone_is_rejected(self, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", np.zeros(3))
        with pytest.raises(ConfigurationError, match=r"expected an \.npz"):
            read_samples(tmp_path / "x.npy")

    def test_pickles_are_not_opened(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "x.npz", x=np.array([{}], dtype=object))
        with pytest.raises(ConfigurationError, match=r"expected an \.npz of plain arrays"):
            read_samples(tmp_path / "x.npz")
