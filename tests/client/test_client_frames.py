"""Tables of pandas as inputs."""

import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest

from s3ml.client.errors import InvalidInputError
from s3ml.client.inputs import DeclaredInput, Inputs, needs_metadata, to_tensors

DeclaredInputs = dict[str, DeclaredInput]


def takes(**inputs: tuple[str, list[int]]) -> DeclaredInputs:
    return {
        name: DeclaredInput(datatype=datatype, shape=tuple(shape))
        for name, (datatype, shape) in inputs.items()
    }


def arrays(inputs: Inputs, declared: DeclaredInputs) -> dict[str, Any]:
    return {tensor.name: tensor.array for tensor in to_tensors(inputs, declared)}


MATRIX = takes(x=("FP32", [-1, 2]))


class TestRows:
    """The rows of a table are the batch of a model with one input."""

    def test_numbers(self) -> None:
        x = arrays(pd.DataFrame({"a": [1.5, 2.5], "b": [3, 4]}), MATRIX)["x"]
        assert (x.dtype, x.tolist()) == (np.dtype("<f4"), [[1.5, 3.0], [2.5, 4.0]])

    @pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "bool"])
    def test_columns_of_one_dtype(self, dtype: str) -> None:
        frame = pd.DataFrame({"a": [1, 0], "b": [1, 1]}, dtype=dtype)
        x = arrays(frame, MATRIX)["x"]
        assert (x.dtype, x.tolist()) == (np.dtype("<f4"), [[1.0, 1.0], [0.0, 1.0]])

    def test_the_wrong_one_of_them_is_named(self) -> None:
        frame = pd.DataFrame({"a": [1, 2], "b": [3, 400]})
        with pytest.raises(InvalidInputError, match="column 'b': expected values within the range of UINT8"):
            to_tensors(frame, takes(x=("UINT8", [-1, 2])))

    def test_under_a_name(self) -> None:
        frame = pd.DataFrame({"a": [1.0], "b": [2.0], "c": [3.0]})
        assert arrays({"x": frame[["a", "c"]]}, MATRIX)["x"].tolist() == [[1.0, 3.0]]

    def test_one_column(self) -> None:
        frame = pd.DataFrame({"words": ["é", "b"]})
        assert arrays(frame, takes(x=("BYTES", [-1])))["x"].tolist() == ["é", "b"]
        assert arrays(frame, takes(x=("BYTES", [-1, 1])))["x"].tolist() == [["é"], ["b"]]

    def test_a_column_of_vectors(self) -> None:
        frame = pd.DataFrame({"embedding": [np.array([1.0, 2.0]), [3.0, 4.0]]})
        assert arrays(frame, MATRIX)["x"].tolist() == [[1.0, 2.0], [3.0, 4.0]]

    def test_text_in_several_columns(self) -> None:
        frame = pd.DataFrame({"a": ["b", "c"], "d": ["e", b"\xff"]})
        assert arrays(frame, takes(x=("BYTES", [-1, 2])))["x"].tolist() == [["b", "e"], ["c", b"\xff"]]

    def test_no_rows(self) -> None:
        assert arrays(pd.DataFrame({"a": [], "b": []}), MATRIX)["x"].shape == (0, 2)

    def test_labels_of_rows_do_not_matter(self) -> None:
        frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0]}, index=["z", "z"])
        assert arrays(frame, MATRIX)["x"].tolist() == [[1.0, 3.0], [2.0, 4.0]]

    @pytest.mark.parametrize(
        ("frame", "message"),
        [
            (
                {"a": [1.0], "b": [2.0], "c": [3.0]},
                r"makes FP32 \[-1, 2\] \(-1 varies\), got one of \[1, 3\]",
            ),
            ({"a": [1.0]}, r"got one of \[1, 1\]"),
            ({"a": [1.0], "b": ["secret"]}, "column 'b': expected FP32, got values of"),
            ({"a": [1.0], "b": [[1.0, 2.0]]}, "a number or a text in each cell"),
            ({"a": [1.0], "b": [pd.Timestamp("2026-11-01")]}, "column 'b': expected FP32, got values of"),
        ],
    )
    def test_a_table_that_does_not_fit(self, frame: dict[str, Any], message: str) -> None:
        with pytest.raises(InvalidInputError, match=f"input 'x': .*{message}") as refused:
            to_tensors(pd.DataFrame(frame), MATRIX)
        assert "secret" not in str(refused.value)


class TestColumns:
    """A model with several inputs takes the column of each input's name."""

    declared = takes(age=("INT64", [-1, 1]), sex=("BYTES", [-1, 1]), dose=("FP32", [-1]))

    def test_by_name_whatever_the_order(self) -> None:
        frame = pd.DataFrame({"dose": [0.5, 1], "sex": ["f", "m"], "age": [50, 60]})
        got = arrays(frame, self.declared)
        assert got["age"].tolist() == [[50], [60]]
        assert got["sex"].tolist() == [["f"], ["m"]]
        assert got["dose"].tolist() == [0.5, 1.0]

    def test_missing_and_unknown_columns_are_named(self) -> None:
        frame = pd.DataFrame({"age": [1], "sex": ["f"], "height": [1]})
        with pytest.raises(
            InvalidInputError, match=r"input of the model: age, sex, dose; missing: dose; unknown .*: height"
        ):
            to_tensors(frame, self.declared)

    def test_a_column_twice(self) -> None:
        frame = pd.DataFrame([[1, 2, "f", 0.5]], columns=["age", "age", "sex", "dose"])
        with pytest.raises(InvalidInputError, match="unknown or twice: age"):
            to_tensors(frame, self.declared)

    def test_series_by_name(self) -> None:
        frame = pd.DataFrame({"a": [50, 60]})
        assert arrays({"age": frame["a"]}, self.declared)["age"].tolist() == [[50], [60]]

    def test_a_series_is_no_table(self) -> None:
        with pytest.raises(InvalidInputError, match=r"expected a mapping .* got Series"):
            to_tensors(pd.Series([1]), self.declared)


class TestValues:
    """Values get the declared datatype by the rules of lists; nothing is parsed, rounded or filled in."""

    @pytest.mark.parametrize(
        "dtype", ["int8", "uint16", "Int64", "Float32", "boolean", "float64", "category"]
    )
    def test_numbers_of_any_dtype_become_floats(self, dtype: str) -> None:
        column = pd.Series([1, 0, 1]).astype(dtype)
        assert arrays({"x": column}, takes(x=("FP32", [-1])))["x"].tolist() == [1.0, 0.0, 1.0]

    @pytest.mark.parametrize("dtype", ["str", "string", "object", "category"])
    def test_text_of_any_dtype(self, dtype: str) -> None:
        column = pd.Series(["a", "b"]).astype(dtype)
        assert arrays({"x": column}, takes(x=("BYTES", [-1])))["x"].tolist() == ["a", "b"]

    @pytest.mark.parametrize("dtype", ["Int64", "Float64", "float64", "object"])
    def test_missing_numbers_are_nan_where_there_is_one(self, dtype: str) -> None:
        column = pd.Series([1, None], dtype=dtype)
        x = arrays({"x": column}, takes(x=("FP32", [-1])))["x"]
        assert x[0] == 1.0
        assert np.isnan(x[1])

    @pytest.mark.parametrize(
        ("datatype", "dtype"), [("INT64", "Int64"), ("BYTES", "str"), ("BOOL", "boolean")]
    )
    def test_and_an_error_elsewhere(self, datatype: str, dtype: str) -> None:
        column = pd.Series([None, None], dtype=dtype, name="c")
        with pytest.raises(InvalidInputError, match="column 'c': 2 values are missing: fill or drop them"):
            to_tensors({"x": column}, takes(x=(datatype, [-1])))

    def test_integers_do_not_wrap(self) -> None:
        with pytest.raises(InvalidInputError, match="column 'c': expected values within the range of UINT8"):
            to_tensors({"x": pd.Series([300], name="c")}, takes(x=("UINT8", [-1])))

    def test_fractions_are_not_cut_off(self) -> None:
        with pytest.raises(InvalidInputError, match="expected INT64, got values of float64"):
            to_tensors({"x": pd.Series([1.5])}, takes(x=("INT64", [-1])))

    def test_an_input_that_the_model_does_not_have(self) -> None:
        with pytest.raises(InvalidInputError, match="input 'z': the model has no such input; expected: x"):
            to_tensors({"z": pd.Series([1.5])}, takes(x=("FP32", [-1])))


class TestImport:
    """Pandas is a guest: whoever has none pays nothing."""

    def test_nothing_here_imports_it(self) -> None:
        code = (
            "import sys; from s3ml.client.inputs import needs_metadata\n"
            "needs_metadata({'x': [1.0]}); print('pandas' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "False"

    def test_a_table_has_no_datatype_of_its_own(self) -> None:
        assert needs_metadata(pd.DataFrame({"a": [1]}))
        assert needs_metadata({"x": pd.Series([1])})
        assert not needs_metadata({"x": np.zeros(1)})
