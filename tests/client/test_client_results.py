"""What comes back: a mapping that knows who answered, and shows no value by itself."""

import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from s3ml.client import BFloat16, InferResult
from s3ml.client.core import Core
from s3ml.client.errors import InvalidInputError, ModelError
from s3ml.wire.sealed import InnerResponse
from tests.client.world import MODEL, SERVICE, Driver, World

ROWS = np.array([[1.0, 2.0]], dtype=np.float32)


def result(**outputs: object) -> InferResult:
    arrays = {name: np.asarray(array) for name, array in outputs.items()}
    return InferResult(model=MODEL, outputs=arrays, datatypes=dict.fromkeys(arrays, "FP32"))


def texts(*elements: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.object_]]:
    return np.array(elements, dtype=np.object_)


class TestResult:
    """A result is a mapping of names to arrays, with what the service says of them."""

    def test_it_is_a_mapping(self) -> None:
        got = result(y=[1.0, 2.0], z=[3.0])
        assert (list(got), len(got), "y" in got) == (["y", "z"], 2, True)
        assert {**got}.keys() == {"y", "z"}
        assert got["z"].tolist() == [3.0]

    def test_a_name_that_is_not_there_is_told_with_those_that_are(self) -> None:
        with pytest.raises(KeyError, match="output 'x': expected one of y, z"):
            _ = result(y=[1.0], z=[2.0])["x"]

    def test_who_answered(self, core: Core, driver: Driver, world: World) -> None:
        world.answers.append(
            InnerResponse(
                status=200,
                fields=(("s3ml-replica", "tumours-1"),),
                content=b'{"model_name":"m","model_version":"7","id":"i","parameters":{"p":1},"outputs":'
                b'[{"name":"y","datatype":"FP32","shape":[1],"data":[1]}]}',
            )
        )
        got = driver.run(core.infer(SERVICE, {"x": ROWS}))
        assert (got.model, got.version, got.id, got.parameters) == ("m", "7", "i", {"p": 1})
        assert (got.replica, got.datatypes, got.index) == ("tumours-1", {"y": "FP32"}, 0)

    def test_no_repr_shows_a_value(self) -> None:
        assert repr(result(y=[[1.25, 77.5]])) == (
            "InferResult(model='classifier', version=None, outputs=<y: FP32 [1, 2]>)"
        )
        assert "1" not in repr(BFloat16(np.array([11], dtype=np.uint16))).replace("BFloat16", "")

    def test_arrays_are_the_callers_own(self, core: Core, driver: Driver) -> None:
        got = driver.run(core.infer(SERVICE, {"x": ROWS}))
        got["y"][0, 0] = 5.0
        assert got["y"].tolist() == [[5.0, 4.0]]


class TestRequest:
    """An id comes back, parameters arrive, and the server is told how long its caller waits."""

    def test_id_and_parameters(self, core: Core, driver: Driver, world: World) -> None:
        got = driver.run(core.infer(SERVICE, {"x": ROWS}, parameters={"k": 3, "t": "a"}, request_id="r-1"))
        content = bytes(world.opened[0].request.content)
        assert b'"id":"r-1"' in content
        assert b'"k":3,"t":"a"' in content
        assert got.id == "r-1"

    def test_the_time_that_is_left(self, core: Core, driver: Driver, world: World) -> None:
        driver.run(core.infer(SERVICE, {"x": ROWS}, timeout_s=2.5))
        assert b'"timeout":2500000' in bytes(world.opened[0].request.content)

    def test_a_later_attempt_has_less(self, core: Core, driver: Driver, world: World) -> None:
        world.answers.append(
            InnerResponse(status=503, fields=(("retry-after", "1"),), content=b'{"error":"busy"}')
        )
        driver.run(core.infer(SERVICE, {"x": ROWS}, timeout_s=3.0))
        first, second = (bytes(opened.request.content) for opened in world.opened)
        assert b'"timeout":3000000' in first
        assert b'"timeout":1975000' in second

    @pytest.mark.parametrize(
        ("parameters", "message"),
        [
            ({"timeout": 1}, "'timeout' cannot be set: it follows from timeout_s"),
            ({"binary_data_output": False}, "'binary_data_output' cannot be set"),
            ({"k": float("nan")}, "'k': expected a boolean, a finite number or text"),
            ({"k": [1]}, "'k': expected a boolean, a finite number or text"),
            ({"k": "a" * 257}, "expected names and texts of at most 256 characters"),
            ({str(n): n for n in range(63)}, "expected at most 62, got 63"),
        ],
    )
    def test_parameters_that_cannot_be(
        self, core: Core, driver: Driver, world: World, parameters: dict[str, int], message: str
    ) -> None:
        with pytest.raises(InvalidInputError, match=f"parameters: {message}"):
            driver.run(core.infer(SERVICE, {"x": ROWS}, parameters=parameters))
        assert world.seen == []

    def test_an_id_that_is_too_long(self, core: Core, driver: Driver) -> None:
        with pytest.raises(InvalidInputError, match="request_id: expected at most 256 characters"):
            driver.run(core.infer(SERVICE, {"x": ROWS}, request_id="r" * 257))


class TestTables:
    """A result becomes one table, a row for each row of the batch."""

    def test_columns(self) -> None:
        got = result(label=[1, 0], score=[[0.5], [0.25]], p=[[0.1, 0.9], [0.2, 0.8]])
        frame = got.to_pandas(index=["a", "b"])
        assert list(frame.columns) == ["label", "score", "p[0]", "p[1]"]
        assert list(frame.index) == ["a", "b"]
        assert frame.loc["b", "p[1]"] == 0.8
        assert frame["score"].tolist() == [0.5, 0.25]

    def test_rows_of_more_dimensions(self) -> None:
        frame = result(y=np.arange(8).reshape(2, 2, 2)).to_pandas()
        assert list(frame.columns) == ["y[0,0]", "y[0,1]", "y[1,0]", "y[1,1]"]
        assert frame.iloc[1].tolist() == [4, 5, 6, 7]

    def test_bytes_are_text_where_they_are_utf_8(self) -> None:
        frame = result(word=texts(b"\xc3\xa9", b"b"), raw=texts(b"\xff", b"b")).to_pandas()
        assert frame["word"].tolist() == ["é", "b"]
        assert frame["raw"].tolist() == [b"\xff", b"b"]

    def test_a_number(self) -> None:
        assert result(y=3.5).to_pandas()["y"].tolist() == [3.5]

    def test_no_rows(self) -> None:
        assert result(y=np.empty((0, 2))).to_pandas().shape == (0, 2)

    def test_rows_that_do_not_match(self) -> None:
        with pytest.raises(InvalidInputError, match=r"same number of rows everywhere, got y: 2, z: 3"):
            result(y=[1, 2], z=[1, 2, 3]).to_pandas()
        with pytest.raises(InvalidInputError, match=r"got y: 2, index: 1"):
            result(y=[1, 2]).to_pandas(index=["a"])

    def test_without_pandas(self) -> None:
        code = (
            "import sys; sys.modules['pandas'] = None\n"
            "import numpy, s3ml.client\n"
            "r = s3ml.client.InferResult(model='m', outputs={'y': numpy.zeros(1)}, datatypes={})\n"
            "try: r.to_pandas()\n"
            "except s3ml.client.ConfigurationError as e: print(e)"
        ).replace("s3ml.client.ConfigurationError", "Exception")
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "pandas is not installed here: pip install pandas"

    def test_a_table_goes_in_and_comes_out(self, core: Core, driver: Driver) -> None:
        frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3, 4]}, index=["r", "s"])
        got = driver.run(core.infer(SERVICE, frame)).to_pandas(index=frame.index)
        assert got.loc["s"].tolist() == [4.0, 8.0]


class TestErrors:
    """An error carries what the service said, and survives a process boundary."""

    def test_status_and_line(self, core: Core, driver: Driver, world: World) -> None:
        world.answers.append(InnerResponse(status=500, content=b'{"error":"inference: internal error"}'))
        with pytest.raises(ModelError) as failed:
            driver.run(core.infer(SERVICE, {"x": ROWS}))
        assert (failed.value.status, failed.value.line) == (500, "inference: internal error")

    def test_wrong_input_said_by_the_service(self, core: Core, driver: Driver, world: World) -> None:
        world.answers.append(InnerResponse(status=400, content=b'{"error":"x: expected FP32"}'))
        with pytest.raises(InvalidInputError) as refused:
            driver.run(core.infer(SERVICE, {"x": ROWS}))
        assert (refused.value.status, refused.value.line) == (400, "x: expected FP32")

    @pytest.mark.parametrize(
        "error", [ModelError("m", status=501, line="l"), InvalidInputError("i", status=404, line="l")]
    )
    def test_it_can_be_pickled(self, error: ModelError | InvalidInputError) -> None:
        copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
        assert (str(copy), copy.status, copy.line) == (str(error), error.status, error.line)
