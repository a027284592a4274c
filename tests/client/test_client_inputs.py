"""What callers hand over, and the tensors it becomes."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from s3ml.client.core import Core
from s3ml.client.errors import InvalidInputError
from s3ml.client.inputs import DeclaredInput, declared_inputs, to_tensors
from s3ml.wire.oip import NUMPY_TYPES
from s3ml.wire.oip.datatypes import to_raw
from s3ml.wire.sealed import InnerResponse
from tests.client.world import MODEL, SERVICE, Driver, World

METADATA_PATH = f"/v2/models/{MODEL}"


def declared(datatype: str, *shape: int) -> dict[str, DeclaredInput]:
    return {"x": DeclaredInput(datatype=datatype, shape=shape or (-1,))}


def paths(world: World) -> list[str]:
    return [opened.request.path for opened in world.opened]


class TestArrays:
    """A numpy array travels as it is: nothing is asked, nothing converted."""

    @pytest.mark.parametrize(
        "dtype", ["?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8", ">f4", ">i8"]
    )
    def test_dtype_and_shape_come_back(self, core: Core, driver: Driver, world: World, dtype: str) -> None:
        array = np.array([[0, 1], [1, 0], [1, 1]]).astype(dtype)
        answer = driver.run(core.infer(SERVICE, {"other": array}))["other"]
        assert answer.dtype == array.dtype.newbyteorder("<")
        assert answer.shape == (3, 2)
        assert METADATA_PATH not in paths(world)

    def test_text_travels_as_bytes(self, core: Core, driver: Driver) -> None:
        answer = driver.run(core.infer(SERVICE, {"words": np.array(["é", "b"])}))["words"]
        assert answer.tolist() == ["é".encode(), b"b"]

    def test_a_slice_is_sent_in_its_own_order(self, core: Core, driver: Driver) -> None:
        array = np.arange(6, dtype=np.float32).reshape(2, 3)
        answer = driver.run(core.infer(SERVICE, {"x": array.T[::-1]}))["y"]
        assert answer.tolist() == (array.T[::-1] * 2).tolist()

    def test_objects_are_text_or_bytes(self, core: Core, driver: Driver) -> None:
        answer = driver.run(core.infer(SERVICE, {"words": np.array(["é", b"b\0"], dtype=object)}))["words"]
        assert answer.tolist() == ["é".encode(), b"b\0"]
        with pytest.raises(InvalidInputError, match="input 'words': expected text or bytes, got NoneType"):
            driver.run(core.infer(SERVICE, {"words": np.array(["é", None], dtype=object)}))

    def test_a_dtype_without_a_datatype_is_refused(self, core: Core, driver: Driver, world: World) -> None:
        with pytest.raises(InvalidInputError, match=r"input 'x': array: expected .* got complex128"):
            driver.run(core.infer(SERVICE, {"x": np.array([1j])}))
        assert world.opened == []


class TestLists:
    """A list gets the datatype that the model declares, asked for once."""

    def test_it_becomes_what_the_model_declares(self, core: Core, driver: Driver, world: World) -> None:
        answer = driver.run(core.infer(SERVICE, {"x": [[1, 2.5]]}))["y"]
        assert answer.dtype == np.float32
        assert answer.tolist() == [[2.0, 5.0]]

    def test_metadata_is_asked_for_once(self, core: Core, driver: Driver, world: World) -> None:
        for _ in range(3):
            driver.run(core.infer(SERVICE, {"x": [[1.0, 2.0]]}))
        assert paths(world).count(METADATA_PATH) == 1

    def test_it_is_asked_for_again_after_a_verification(
        self, core: Core, driver: Driver, world: World
    ) -> None:
        driver.run(core.infer(SERVICE, {"x": [[1.0, 2.0]]}))
        driver.run(core.verify(SERVICE))
        driver.run(core.infer(SERVICE, {"x": [[1.0, 2.0]]}))
        assert paths(world).count(METADATA_PATH) == 2

    def test_an_unknown_input_is_named_with_the_known(self, core: Core, driver: Driver) -> None:
        with pytest.raises(InvalidInputError, match="input 'z': the model has no such input; expected: x"):
            driver.run(core.infer(SERVICE, {"z": [1.0]}))

    @pytest.mark.parametrize("value", [[["a", "b"]], [[1.0], [2.0, 3.0]], [[1j]], {"a": 1}, [None]])
    def test_values_that_are_no_such_tensor(self, core: Core, driver: Driver, value: Any) -> None:
        with pytest.raises(InvalidInputError, match="input 'x': expected"):
            driver.run(core.infer(SERVICE, {"x": value}))

    def test_integers_do_not_swallow_fractions(self) -> None:
        with pytest.raises(InvalidInputError, match="expected INT64, got values of float64"):
            to_tensors({"x": [1.5]}, declared("INT64"))

    @pytest.mark.parametrize("datatype", ["UINT8", "INT64", "FP16", "FP64"])
    def test_integers_become_any_number(self, datatype: str) -> None:
        (tensor,) = to_tensors({"x": [1, 2]}, declared(datatype))
        assert (tensor.datatype, tensor.array.tolist()) == (datatype, [1, 2])

    def test_numbers_are_no_truth(self) -> None:
        with pytest.raises(InvalidInputError, match="expected BOOL, got values of int64"):
            to_tensors({"x": [1, 0]}, declared("BOOL"))

    def test_integers_do_not_wrap(self) -> None:
        with pytest.raises(InvalidInputError, match="input 'x': expected values within the range of UINT8"):
            to_tensors({"x": [300]}, declared("UINT8"))

    def test_text_and_bytes(self) -> None:
        (tensor,) = to_tensors({"x": ["a", "b"]}, declared("BYTES"))
        assert (tensor.datatype, tensor.shape) == ("BYTES", (2,))
        with pytest.raises(InvalidInputError, match="expected text or bytes, got int"):
            to_tensors({"x": [1]}, declared("BYTES"))

    def test_a_datatype_that_nobody_knows(self) -> None:
        with pytest.raises(InvalidInputError, match=r"input 'x': expected a datatype of BOOL.*, got 'FP8'"):
            to_tensors({"x": [1]}, declared("FP8"))

    def test_numbers_become_bf16(self) -> None:
        (tensor,) = to_tensors({"x": [1, 2.5]}, declared("BF16"))
        assert (tensor.datatype, tensor.array.tolist()) == ("BF16", [0x3F80, 0x4020])

    def test_bytes_keep_their_zeros(self) -> None:
        (tensor,) = to_tensors({"x": [b"ab\0", "c"]}, declared("BYTES"))
        assert tensor.array.tolist() == [b"ab\0", "c"]

    @pytest.mark.parametrize("datatype", ["FP16", "FP32"])
    def test_numbers_do_not_become_infinite(self, datatype: str) -> None:
        with pytest.raises(InvalidInputError, match=f"expected values within the range of {datatype}"):
            to_tensors({"x": [1e300]}, declared(datatype))

    def test_no_message_repeats_a_value(self) -> None:
        for value in (["secret", "values"], [["secret"], ["secret", "values"]], "secret", [1, "secret"]):
            with pytest.raises(InvalidInputError) as refused:
                to_tensors({"x": value}, declared("FP32"))
            assert "secret" not in str(refused.value)
            assert refused.value.__cause__ is None

    def test_an_empty_list_is_a_shape_too(self) -> None:
        (tensor,) = to_tensors({"x": []}, declared("FP32"))
        assert tensor.shape == (0,)

    @pytest.mark.parametrize(
        "metadata",
        [
            {},
            {"inputs": [{}]},
            {"inputs": 3},
            {"inputs": [{"name": "x", "datatype": "FP32", "shape": ["a"]}]},
        ],
    )
    def test_malformed_metadata(self, metadata: dict[str, Any]) -> None:
        with pytest.raises(InvalidInputError, match="model metadata: expected inputs"):
            declared_inputs(metadata)


class TestRequests:
    """What is asked for is said plainly, or refused before anything leaves."""

    def test_no_input(self, core: Core, driver: Driver) -> None:
        with pytest.raises(InvalidInputError, match="inputs: expected at least one"):
            driver.run(core.infer(SERVICE, {}))

    @pytest.mark.parametrize("options", [{}, {"request_id": "\ud800"}, {"parameters": {"k": "\ud800"}}])
    def test_text_without_utf_8(
        self, core: Core, driver: Driver, world: World, options: dict[str, Any]
    ) -> None:
        text = "a" if options else "\ud800"
        with pytest.raises(InvalidInputError, match="text: expected Unicode, got half a surrogate pair"):
            driver.run(core.infer(SERVICE, {"words": np.array([text], dtype=object)}, **options))
        assert world.opened == []

    def test_no_mapping(self, core: Core, driver: Driver) -> None:
        with pytest.raises(InvalidInputError, match=r"expected a mapping of names to arrays, .* got list"):
            driver.run(core.infer(SERVICE, [1.0]))  # type: ignore[arg-type]

    def test_one_text_is_no_list_of_outputs(self, core: Core, driver: Driver) -> None:
        with pytest.raises(InvalidInputError, match="outputs: expected a list of names"):
            driver.run(core.infer(SERVICE, {"x": np.zeros(1)}, outputs="y"))

    def test_wanted_outputs_are_named(self, core: Core, driver: Driver, world: World) -> None:
        world.answers.append(InnerResponse(status=200, content=b'{"model_name":"m","outputs":[]}'))
        driver.run(core.infer(SERVICE, {"x": np.zeros((1, 2), np.float32)}, outputs=["y"]))
        assert b'"outputs":[{"name":"y"}]' in bytes(world.opened[0].request.content)


_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.complex_numbers()
)


class TestAnything:
    """Whatever is handed over becomes a tensor of the declared datatype, or one documented error."""

    @given(
        st.recursive(_LEAVES, lambda inner: st.lists(inner, max_size=4), max_leaves=12),
        st.sampled_from(sorted(NUMPY_TYPES)),
    )
    def test_values(self, value: Any, datatype: str) -> None:
        try:
            (tensor,) = to_tensors({"x": value}, declared(datatype))
        except InvalidInputError as error:
            assert str(error).startswith("input 'x': ")
        else:
            assert tensor.datatype == datatype
            to_raw(tensor.datatype, tensor.array)

    @given(
        npst.arrays(
            npst.scalar_dtypes(),
            npst.array_shapes(max_dims=3, max_side=3, min_side=0),
        )
    )
    def test_arrays(self, array: Any) -> None:
        try:
            (tensor,) = to_tensors({"x": array}, {})
        except InvalidInputError as error:
            assert str(error).startswith("input 'x': ")
        else:
            assert tensor.shape == array.shape
            to_raw(tensor.datatype, tensor.array)
