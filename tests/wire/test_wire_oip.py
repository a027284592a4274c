"""The Open Inference Protocol: tensors there and back, and what is wrong is a 400."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3ml.wire import oip
from s3ml.wire.oip import (
    HEADER_LENGTH_FIELD,
    NUMPY_TYPES,
    InferRequest,
    InferResponse,
    Limits,
    OIPError,
    RequestedOutput,
    Tensor,
    bind_raw_input,
    datatype_of,
    decode_infer_request,
    decode_infer_response,
    encode_error,
    encode_infer_request,
    encode_infer_response,
    parse_header_length,
)

SAMPLES: dict[str, list[Any]] = {
    "BOOL": [True, False, True, True, False, False],
    "UINT8": [0, 1, 2, 3, 254, 255],
    "UINT16": [0, 1, 2, 3, 4, 65535],
    "UINT32": [0, 1, 2, 3, 4, 2**32 - 1],
    "UINT64": [0, 1, 2, 3, 4, 2**64 - 1],
    "INT8": [-128, -1, 0, 1, 2, 127],
    "INT16": [-(2**15), -1, 0, 1, 2, 2**15 - 1],
    "INT32": [-(2**31), -1, 0, 1, 2, 2**31 - 1],
    "INT64": [-(2**63), -1, 0, 1, 2, 2**63 - 1],
    "FP16": [-1.5, 0.0, 0.5, 1.0, 2.0, 65504.0],
    "BF16": [0, 1, 2, 3, 4, 65535],
    "FP32": [-1.5, 0.0, 0.1, 1.0, 2.0, 3.0e38],
    "FP64": [-1.5, 0.0, 0.1, 1.0, 2.0, 1.0e308],
    "BYTES": [b"", b"a", "grün".encode(), b"with space", b'"', b"\n"],
}
JSON_TYPES = [name for name in SAMPLES if name != "BF16"]


def _tensor(datatype: str, name: str = "x") -> Tensor:
    array = np.empty(6, NUMPY_TYPES[datatype])
    array[:] = SAMPLES[datatype]
    return Tensor(name=name, datatype=datatype, array=array.reshape(2, 3))


def _length(fields: tuple[tuple[str, str], ...]) -> int | None:
    return parse_header_length(dict(fields).get(HEADER_LENGTH_FIELD))


def _request(*inputs: Tensor, outputs: tuple[RequestedOutput, ...] = ()) -> InferRequest:
    return InferRequest(model="m", version="2", id="7", inputs=inputs, outputs=outputs, parameters={"p": 1})


def _decode(inputs: list[dict[str, Any]], blob: bytes = b"", **head: Any) -> InferRequest:
    content = json.dumps({"inputs": inputs, **head}).encode()
    return decode_infer_request(content + blob, len(content) if blob else None)


def _entry(**changes: Any) -> dict[str, Any]:
    return {"name": "x", "shape": [2], "datatype": "FP32", "data": [1.0, 2.0], **changes}


def _binary_entry(size: Any, **changes: Any) -> dict[str, Any]:
    entry = _entry(parameters={"binary_data_size": size}, **changes)
    del entry["data"]
    return entry


def test_package_exports_what_it_documents() -> None:
    assert set(oip.__all__) <= set(dir(oip))


class TestRequests:
    """What encodes decodes, in JSON and in binary."""

    @pytest.mark.parametrize("datatype", SAMPLES)
    def test_in_binary(self, datatype: str) -> None:
        tensor = _tensor(datatype)

        content, fields = encode_infer_request(_request(tensor))
        decoded = decode_infer_request(content, _length(fields), model="m", version="2")

        assert np.array_equal(decoded.inputs[0].array, tensor.array)
        assert decoded.inputs[0].datatype == datatype
        assert (decoded.model, decoded.version, decoded.id) == ("m", "2", "7")
        assert decoded.parameters == {"p": 1}
        assert decoded.is_binary("any")
        assert dict(fields)["content-type"] == "application/octet-stream"

    @pytest.mark.parametrize("datatype", JSON_TYPES)
    def test_in_json(self, datatype: str) -> None:
        tensor = _tensor(datatype)

        content, fields = encode_infer_request(_request(tensor), binary=False)
        decoded = decode_infer_request(content, _length(fields))

        assert np.array_equal(decoded.inputs[0].array, tensor.array)
        assert decoded.inputs[0].array.dtype == tensor.array.dtype
        assert not decoded.is_binary("any")
        assert fields == (("content-type", "application/json"),)

    def test_binary_arrays_are_views(self) -> None:
        content, fields = encode_infer_request(_request(_tensor("FP32")))

        array = decode_infer_request(content, _length(fields)).inputs[0].array

        assert not array.flags.writeable
        assert np.shares_memory(array, np.frombuffer(content, np.uint8))

    def test_several_inputs_keep_their_order_and_parameters(self) -> None:
        first = Tensor(
            name="a", datatype="INT8", array=np.array([1], np.int8), parameters={"unit": "mm", "scale": 0.5}
        )
        content, fields = encode_infer_request(_request(first, _tensor("BYTES", "b"), _tensor("FP64", "c")))

        decoded = decode_infer_request(content, _length(fields))

        assert [tensor.name for tensor in decoded.inputs] == ["a", "b", "c"]
        assert decoded.inputs[0].parameters == {"unit": "mm", "scale": 0.5}

    def test_an_array_that_is_not_contiguous_travels_row_major(self) -> None:
        array = np.arange(6, dtype=np.float32).reshape(2, 3).T

        content, fields = encode_infer_request(_request(Tensor.from_array("x", array)))

        assert np.array_equal(decode_infer_request(content, _length(fields)).inputs[0].array, array)

    @pytest.mark.parametrize("datatype", ["FP32", "BYTES", "BOOL"])
    @pytest.mark.parametrize("binary", [False, True])
    def test_an_empty_array_travels(self, datatype: str, *, binary: bool) -> None:
        tensor = Tensor(name="x", datatype=datatype, array=np.empty((0, 4), NUMPY_TYPES[datatype]))

        content, fields = encode_infer_request(_request(tensor), binary=binary)

        assert decode_infer_request(content, _length(fields)).inputs[0].shape == (0, 4)

    def test_a_scalar_travels(self) -> None:
        for binary in (False, True):
            content, fields = encode_infer_request(_request(Tensor.from_array("x", 2.5)), binary=binary)
            assert decode_infer_request(content, _length(fields)).inputs[0].array == 2.5

    def test_without_id_and_parameters(self) -> None:
        request = InferRequest(model="m", inputs=(_tensor("INT8"),))

        content, _ = encode_infer_request(request, binary=False)

        assert set(json.loads(content)) == {"inputs"}
        decoded = decode_infer_request(content, None)
        assert (decoded.id, decoded.version, dict(decoded.parameters)) == (None, None, {})

    def test_nested_data_is_accepted(self) -> None:
        request = _decode([_entry(shape=[2, 1, 2], data=[[[1, 2]], [[3, 4]]])])

        assert request.inputs[0].array.tolist() == [[[1.0, 2.0]], [[3.0, 4.0]]]

    def test_what_is_not_known_is_ignored(self) -> None:
        """The KServe client sends the model's name, and nulls."""
        request = _decode(
            [_entry(parameters=None, extra=[1])], model_name="m", parameters=None, id=None, outputs=None
        )

        assert request.outputs == ()

    def test_arrays_do_not_show(self) -> None:
        assert "array" not in repr(_tensor("FP32"))

    def test_no_data_may_be_said_beside_a_binary_size(self) -> None:
        """KServe's client does, of a tensor without elements."""
        entry = _entry(shape=[0], data=None, parameters={"binary_data_size": 0})
        (tensor,) = _decode([entry]).inputs
        assert tensor.shape == (0,)


class TestRequestedOutputs:
    """An output travels as it was asked for, or as the request asks for all."""

    @pytest.mark.parametrize("is_binary", [None, True, False])
    @pytest.mark.parametrize("default", [True, False])
    def test_survive_and_decide(self, is_binary: bool | None, *, default: bool) -> None:
        asked = RequestedOutput(name="y", is_binary=is_binary, parameters={"classification": 2})
        request = InferRequest(
            model="m", inputs=(_tensor("INT8"),), outputs=(asked,), is_output_binary=default
        )
        content, fields = encode_infer_request(request, binary=False)

        decoded = decode_infer_request(content, _length(fields))

        assert decoded.outputs == (asked,)
        assert decoded.is_binary("y") == (default if is_binary is None else is_binary)
        assert decoded.is_binary("z") == default

    def test_without_parameters(self) -> None:
        content, _ = encode_infer_request(_request(_tensor("INT8"), outputs=(RequestedOutput(name="y"),)))

        assert b'"outputs":[{"name":"y"}]' in content

    def test_twice_rejects(self) -> None:
        with pytest.raises(OIPError, match="once"):
            _decode([_entry()], outputs=[{"name": "y"}, {"name": "y"}])

    @pytest.mark.parametrize(
        "head",
        [
            {"outputs": [{"name": "y", "parameters": {"binary_data": 1}}]},
            {"parameters": {"binary_data_output": "yes"}},
        ],
    )
    def test_flags_are_booleans(self, head: dict[str, Any]) -> None:
        with pytest.raises(OIPError, match="true or false"):
            _decode([_entry()], **head)


class TestResponses:
    @pytest.mark.parametrize("datatype", SAMPLES)
    def test_in_binary(self, datatype: str) -> None:
        request = InferRequest(model="m", inputs=(), is_output_binary=True)
        response = InferResponse(
            model="m", version="3", id="7", outputs=(_tensor(datatype),), parameters={"replica": "a"}
        )

        content, fields = encode_infer_response(response, request)
        decoded = decode_infer_response(content, _length(fields))

        assert np.array_equal(decoded.outputs[0].array, response.outputs[0].array)
        assert (decoded.model, decoded.version, decoded.id) == ("m", "3", "7")
        assert decoded.parameters == {"replica": "a"}

    @pytest.mark.parametrize("datatype", JSON_TYPES)
    def test_in_json(self, datatype: str) -> None:
        response = InferResponse(model="m", outputs=(_tensor(datatype),))

        content, fields = encode_infer_response(response, InferRequest(model="m", inputs=()))
        decoded = decode_infer_response(content, _length(fields))

        assert np.array_equal(decoded.outputs[0].array, response.outputs[0].array)
        assert (decoded.version, decoded.id, dict(decoded.parameters)) == (None, None, {})

    def test_each_output_travels_as_it_was_asked_for(self) -> None:
        asked = (RequestedOutput(name="a", is_binary=True), RequestedOutput(name="b", is_binary=False))
        request = InferRequest(model="m", inputs=(), outputs=asked)
        response = InferResponse(model="m", outputs=(_tensor("FP32", "a"), _tensor("FP32", "b")))

        content, fields = encode_infer_response(response, request)

        head = json.loads(content[: _length(fields)])
        assert ["data" in output for output in head["outputs"]] == [False, True]

    @pytest.mark.parametrize(
        "tensor",
        [
            pytest.param(_tensor("BF16"), id="BF16"),
            pytest.param(Tensor.from_array("x", [b"\xff"]), id="bytes that are not UTF-8"),
            pytest.param(Tensor.from_array("x", [1.0, float("nan")]), id="not a number"),
            pytest.param(Tensor.from_array("x", [1.0, float("inf")]), id="infinity"),
        ],
    )
    def test_what_json_cannot_carry_says_so(self, tensor: Tensor) -> None:
        response = InferResponse(model="m", outputs=(tensor,))

        with pytest.raises(OIPError, match="binary only"):
            encode_infer_response(response, InferRequest(model="m", inputs=()))

    @pytest.mark.parametrize(
        "content", [b"", b"{}", b"[]", b'{"model_name":"m","outputs":[{}]}', b'{"error":"no"}']
    )
    def test_malformed_ones_reject(self, content: bytes) -> None:
        with pytest.raises(OIPError):
            decode_infer_response(content, None)

    def test_an_error_is_one_member(self) -> None:
        assert encode_error("no") == (b'{"error":"no"}', (("content-type", "application/json"),))


class TestMalformedRequests:
    """Each is a 400 that says what was expected."""

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            (b"", "JSON"),
            (b"\xff", "JSON"),
            (b"nothing", "JSON"),
            (b"[]", "JSON"),
            (b"{}", "inputs"),
            (b'{"inputs":[]}', "at least one"),
            (b'{"inputs":[' + b"[" * 100_000, "JSON"),
            (b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":' + b"[" * 100_000, "nested"),
            (b'{"inputs":[],"inputs":[]}', "twice"),
            (b'{"inputs":[],"a":{"b":[{"c":1,"\\u0063":2}]}}', "twice"),
            (b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[NaN]}]}', "JSON"),
            (b'{"inputs":[{"name":"x","shape":[1],"datatype":"BYTES","data":["\xff"]}]}', "JSON"),
        ],
    )
    def test_json(self, content: bytes, reason: str) -> None:
        with pytest.raises(OIPError, match=reason) as rejected:
            decode_infer_request(content, None)

        assert rejected.value.status == 400

    @pytest.mark.parametrize(
        ("entry", "reason"),
        [
            pytest.param(_entry(datatype="FLOAT"), "datatype", id="unknown datatype"),
            pytest.param(_entry(datatype="FP32\n"), "datatype", id="datatype with a line feed"),
            pytest.param(_entry(shape=[3]), "expected 3 elements", id="too few elements"),
            pytest.param(_entry(shape=[1]), "expected 1 elements", id="too many elements"),
            pytest.param(_entry(shape=[2, 1], data=[[1], 2]), "data", id="ragged"),
            pytest.param(_entry(shape=[2, 1], data=[[1, 2], []]), "nested", id="rows of other lengths"),
            pytest.param(_entry(shape=[1, 2], data=[[1], [2]]), "nested", id="other nesting"),
            pytest.param(_entry(shape=[2], data=[[1], [2]]), "data", id="too deep"),
            pytest.param(_entry(data={"a": 1}), "data", id="an object"),
            pytest.param(_entry(data=["1", "2"]), "data", id="text for numbers"),
            pytest.param(_entry(datatype="INT8", data=[1.5, 2]), "data", id="a fraction for an integer"),
            pytest.param(_entry(datatype="INT8", data=[1, 128]), "range", id="out of range"),
            pytest.param(_entry(datatype="UINT8", data=[1, -1]), "range", id="negative"),
            pytest.param(_entry(datatype="FP16", data=[1, 1e6]), "range", id="beyond FP16"),
            pytest.param(_entry(datatype="FP32", data=[1, 1e60]), "range", id="beyond FP32"),
            pytest.param(_entry(datatype="BOOL", data=[1, 0]), "data", id="numbers for booleans"),
            pytest.param(_entry(datatype="BF16", data=[1, 2]), "binary only", id="BF16 in JSON"),
            pytest.param(_entry(shape=[-1]), "dimensions", id="negative dimension"),
            pytest.param(_entry(shape=[2**40]), "dimensions", id="huge dimension"),
            pytest.param(_entry(shape=[2**20, 2**20]), "at most", id="huge shape of little data"),
            pytest.param(_entry(shape=[0, 2**31 - 1, 2**31 - 1]), "at most", id="huge shape without data"),
            pytest.param(_entry(shape=[1] * 17), "16 dimensions", id="too many dimensions"),
            pytest.param(_entry(name="x" * 300), "256 characters", id="long name"),
            pytest.param(_entry(name="x\ny"), "printable", id="name with a line feed"),
            pytest.param(_entry(parameters={"a": []}), "JSON", id="a parameter that is a list"),
            pytest.param(_entry(parameters={"a": "b" * 300}), "256 characters", id="long parameter"),
            pytest.param(_entry(parameters={"b" * 300: 1}), "256 characters", id="long parameter name"),
            pytest.param(_entry(parameters={str(n): n for n in range(65)}), "at most 64", id="parameters"),
            pytest.param({"name": "x", "shape": [1], "datatype": "FP32"}, "expected data", id="no data"),
            pytest.param(_entry(parameters={"binary_data_size": 0}), "got both", id="data in both places"),
        ],
    )
    def test_tensors(self, entry: dict[str, Any], reason: str) -> None:
        with pytest.raises(OIPError, match=reason):
            _decode([entry])

    @pytest.mark.parametrize(
        ("entry", "blob", "reason"),
        [
            pytest.param(_binary_entry(8), b"1234567", "0 to 7", id="bytes missing"),
            pytest.param(_binary_entry(8), bytes(9), "expected 8 bytes, got 9", id="bytes left over"),
            pytest.param(_binary_entry(7), bytes(7), "expected 8 bytes", id="another size"),
            pytest.param(_binary_entry(-1), b"1", "binary_data_size", id="negative"),
            pytest.param(_binary_entry("8"), bytes(8), "binary_data_size", id="text"),
            pytest.param(_binary_entry(8.0), bytes(8), "binary_data_size", id="a fraction"),
            pytest.param(_binary_entry(True), bytes(1), "binary_data_size", id="a boolean"),
            pytest.param(_binary_entry(2, datatype="BOOL"), b"\x01\x02", "0 or 1", id="no boolean"),
            pytest.param(_binary_entry(4, datatype="BYTES"), bytes(4), "2 elements", id="few elements"),
            pytest.param(
                _binary_entry(8, datatype="BYTES", shape=[2**27]), bytes(8), "elements", id="huge shape"
            ),
            pytest.param(
                _binary_entry(8, datatype="BYTES"),
                b"\x00\x00\x00\x00\x05\x00\x00\x00",
                "truncated",
                id="long",
            ),
            pytest.param(
                _binary_entry(8, datatype="BYTES"), b"\x01\x00\x00\x00a\x00\x00\x00", "truncated", id="cut"
            ),
            pytest.param(_binary_entry(9, datatype="BYTES"), bytes(9), "more bytes", id="trailing bytes"),
        ],
    )
    def test_binary_tensors(self, entry: dict[str, Any], blob: bytes, reason: str) -> None:
        with pytest.raises(OIPError, match=reason):
            _decode([entry], blob)

    def test_an_input_twice(self) -> None:
        with pytest.raises(OIPError, match="once"):
            _decode([_entry(), _entry()])

    def test_too_many_inputs(self) -> None:
        with pytest.raises(OIPError, match="at most 64"):
            _decode([_entry(name=str(number)) for number in range(65)])

    def test_a_long_id(self) -> None:
        with pytest.raises(OIPError, match="256 characters"):
            _decode([_entry()], id="7" * 257)

    def test_too_much_content(self) -> None:
        with pytest.raises(OIPError, match="at most 10 bytes"):
            decode_infer_request(bytes(11), None, limits=Limits(content_bytes=10))

    def test_a_header_beyond_the_content(self) -> None:
        with pytest.raises(OIPError, match="0 to 2"):
            decode_infer_request(b"{}", 3)

    @pytest.mark.parametrize("value", ["", "-1", "+1", "1.0", "0x1", "01", "٣", " 1", "1" * 11])
    def test_a_header_length_that_is_no_number(self, value: str) -> None:
        with pytest.raises(OIPError, match="decimal"):
            parse_header_length(value)


class TestDuplicateKeys:
    """A key that stands twice is seen, also beside data too large to look at."""

    LARGE = b"[" + b"1," * 2000 + b"1]"

    def _content(self, members: bytes) -> bytes:
        return b'{"inputs":[{"name":"x","datatype":"INT32","shape":[2001],' + members + b"}]}"

    def test_large_data_is_accepted(self) -> None:
        decoded = decode_infer_request(self._content(b'"data":' + self.LARGE), None)

        assert decoded.inputs[0].shape == (2001,)

    @pytest.mark.parametrize("other", [b"[2]", LARGE], ids=["small", "large"])
    def test_data_twice_rejects(self, other: bytes) -> None:
        with pytest.raises(OIPError, match="'data' twice"):
            decode_infer_request(self._content(b'"data":' + other + b',"data":' + self.LARGE), None)

    def test_a_key_after_large_data_twice_rejects(self) -> None:
        with pytest.raises(OIPError, match="'a' twice"):
            decode_infer_request(self._content(b'"data":' + self.LARGE + b',"a":1,"a":2'), None)

    def test_a_key_inside_large_data_rejects(self) -> None:
        large = b'[{"a":1,"a":2},' + b"1," * 2000 + b"1]"

        with pytest.raises(OIPError, match="data"):
            decode_infer_request(self._content(b'"data":' + large), None)


class TestRawRequests:
    """Content without JSON is the one input of a model."""

    def _raw(self, content: bytes) -> InferRequest:
        return decode_infer_request(content, 0, model="m")

    @pytest.mark.parametrize(
        ("shape", "expected"), [((2,), (2,)), ((-1, 2), (1, 2)), ((-1, -1), (1, 2)), ((-1, 1, -1), (1, 1, 2))]
    )
    def test_takes_the_shape_of_the_input(self, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
        bound = bind_raw_input(self._raw(bytes(8)), name="x", datatype="FP32", shape=shape)

        assert bound.inputs[0].shape == expected
        assert bound.raw is None
        assert bound.is_binary("any")

    @pytest.mark.parametrize(
        ("content", "datatype", "shape"),
        [
            pytest.param(bytes(8), "BYTES", (2,), id="bytes"),
            pytest.param(bytes(8), "FLOAT", (2,), id="unknown datatype"),
            pytest.param(bytes(8), "FP32", (3,), id="another size"),
            pytest.param(bytes(7), "FP32", (-1, -1), id="half an element"),
            pytest.param(bytes(8), "FP32", (-1, -1, -1), id="three dimensions that vary"),
            pytest.param(bytes(8), "FP32", (-1, 0, -1), id="a dimension of zero"),
        ],
    )
    def test_rejects_what_does_not_fit(self, content: bytes, datatype: str, shape: tuple[int, ...]) -> None:
        with pytest.raises(OIPError):
            bind_raw_input(self._raw(content), name="x", datatype=datatype, shape=shape)

    def test_rejects_a_request_that_has_inputs(self) -> None:
        with pytest.raises(OIPError, match="raw request"):
            bind_raw_input(_request(_tensor("FP32")), name="x", datatype="FP32", shape=(1,))


class TestArrays:
    """An array has the datatype of its dtype, or none."""

    @pytest.mark.parametrize("datatype", [name for name in NUMPY_TYPES if name != "BF16"])
    def test_datatypes(self, datatype: str) -> None:
        assert datatype_of(np.empty(1, NUMPY_TYPES[datatype])) == datatype

    def test_big_endian_arrays_are_turned(self) -> None:
        tensor = Tensor.from_array("x", np.array([1, 2], ">i4"))

        assert tensor.datatype == "INT32"
        assert tensor.array.tolist() == [1, 2]

    @pytest.mark.parametrize("array", [["a", "grün"], np.array([b"a", b"b"]), np.array(["a", b"b"], object)])
    def test_text_and_bytes_are_bytes(self, array: object) -> None:
        content, fields = encode_infer_request(_request(Tensor.from_array("x", array)))

        decoded = decode_infer_request(content, _length(fields)).inputs[0]

        assert decoded.datatype == "BYTES"
        assert decoded.array[0] == b"a"

    @pytest.mark.parametrize("array", [np.array([1j]), np.array(["2026-01-01"], "datetime64[D]")])
    def test_others_reject(self, array: object) -> None:
        with pytest.raises(OIPError, match="dtype"):
            Tensor.from_array("x", array)

    def test_objects_that_are_no_bytes_reject(self) -> None:
        with pytest.raises(OIPError, match="NoneType"):
            encode_infer_request(_request(Tensor.from_array("x", np.array([None], object))))

    @pytest.mark.parametrize(("datatype", "dtype"), [("FP32", "f8"), ("FLOAT", "f4"), ("FP32", "S1")])
    def test_a_tensor_of_another_dtype_rejects(self, datatype: str, dtype: str) -> None:
        with pytest.raises(OIPError, match="expected"):
            Tensor(name="x", datatype=datatype, array=np.zeros(1, dtype))


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
ENTRIES = st.fixed_dictionaries(
    {
        "name": st.text(max_size=3) | JSON_VALUES,
        "shape": st.lists(st.integers(-1, 3) | st.integers(), max_size=4) | JSON_VALUES,
        "datatype": st.sampled_from([*NUMPY_TYPES]) | JSON_VALUES,
    },
    optional={
        "data": JSON_VALUES | st.lists(st.integers(-300, 300) | st.floats(), max_size=9),
        "parameters": st.dictionaries(st.just("binary_data_size"), st.integers(0, 20)) | JSON_VALUES,
    },
)


class TestArbitraryBytes:
    """Anything is accepted, or is an OIPError."""

    @given(content=st.binary(max_size=100), header_length=st.none() | st.integers(0, 100))
    def test_random(self, content: bytes, header_length: int | None) -> None:
        for decode in (decode_infer_request, decode_infer_response):
            try:
                decode(content, header_length)
            except OIPError:
                continue

    @given(inputs=st.lists(ENTRIES, max_size=2), blob=st.binary(max_size=30), kind=st.booleans())
    def test_almost_right(self, inputs: list[dict[str, Any]], blob: bytes, *, kind: bool) -> None:
        head = {"inputs": inputs} if kind else {"model_name": "m", "outputs": inputs}
        content = json.dumps(head).encode()
        decode = decode_infer_request if kind else decode_infer_response
        try:
            decoded = decode(content + blob, len(content))
        except OIPError:
            return
        tensors = decoded.inputs if isinstance(decoded, InferRequest) else decoded.outputs
        assert len(tensors) == len(inputs)


class TestLargeResponses:
    """Data that is not parsed with the rest comes out as it went in."""

    def test_a_response_with_much_data(self) -> None:
        array = np.arange(2000, dtype=np.float32).reshape(1, 2000)
        request = InferRequest(model="m", inputs=())
        response = InferResponse(model="m", version="1", outputs=(Tensor.from_array("y", array),))

        content, _ = encode_infer_response(response, request)

        assert np.array_equal(decode_infer_response(content, None).outputs[0].array, array)
