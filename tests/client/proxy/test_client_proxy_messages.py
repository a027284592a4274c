"""Between gRPC messages and the REST form: what goes in is what a server decodes, and the other way round."""

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3ml.client.errors import UntrustedServiceError
from s3ml.client.proxy.documents import model_metadata, repository_index, server_metadata
from s3ml.client.proxy.messages import CONTENTS, RAW_ONLY, decode_answer, encode_request, is_raw
from s3ml.client.proxy.protocol import oip_pb2
from s3ml.wire.oip import (
    NUMPY_TYPES,
    InferRequest,
    InferResponse,
    OIPError,
    Tensor,
    decode_infer_request,
    encode_infer_response,
)
from s3ml.wire.oip.datatypes import Array, object_array, to_raw
from s3ml.wire.sealed import InnerResponse

Request = oip_pb2.ModelInferRequest
_names = st.text("abcdefgh_0123456789", min_size=1, max_size=12)


@st.composite
def arrays(draw: st.DrawFn) -> tuple[str, Array]:
    datatype = draw(st.sampled_from(sorted(NUMPY_TYPES)))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    count = math.prod(shape)
    if datatype == "BYTES":
        elements = draw(st.lists(st.binary(max_size=20), min_size=count, max_size=count))
        return datatype, object_array(elements, shape)
    dtype = NUMPY_TYPES[datatype]
    data = draw(st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize))
    array: Array = np.frombuffer(data, dtype) if count else np.empty(0, dtype)
    if datatype == "BOOL":
        array = np.frombuffer(bytes(byte & 1 for byte in data), dtype) if count else array
    return datatype, array.reshape(shape)


@st.composite
def named_arrays(draw: st.DrawFn) -> dict[str, tuple[str, Array]]:
    return draw(st.dictionaries(_names, arrays(), min_size=1, max_size=3))


parameters = st.dictionaries(
    _names.filter(lambda name: name != "timeout"),
    st.one_of(
        st.booleans(),
        st.integers(-(1 << 63), (1 << 64) - 1),
        st.text(st.characters(codec="utf-8"), max_size=10),
        st.floats(allow_nan=False, allow_infinity=False),
    ),
    max_size=4,
)


def set_parameter(message: Any, name: str, value: Any) -> None:
    if isinstance(value, bool):
        message.parameters[name].bool_param = value
    elif isinstance(value, int):
        if value > (1 << 63) - 1:
            message.parameters[name].uint64_param = value
        else:
            message.parameters[name].int64_param = value
    elif isinstance(value, float):
        message.parameters[name].double_param = value
    else:
        message.parameters[name].string_param = value


def read_parameters(message: Any) -> dict[str, Any]:
    return {
        name: getattr(value, value.WhichOneof("parameter_choice"))
        for name, value in message.parameters.items()
    }


def add_input(request: Request, name: str, datatype: str, array: Array, *, raw: bool) -> None:
    tensor = request.inputs.add(name=name, datatype=datatype, shape=array.shape)
    if raw:
        request.raw_input_contents.append(bytes(to_raw(datatype, array)))
    else:
        getattr(tensor.contents, CONTENTS[datatype]).extend(array.ravel().tolist())


def decoded(request: Request, **options: Any) -> InferRequest:
    fields, content = encode_request(request, **options)
    return decode_infer_request(content, int(dict(fields)["inference-header-content-length"]), model="m")


def same(datatype: str, first: Array, second: Array) -> bool:
    return first.shape == second.shape and bytes(to_raw(datatype, first)) == bytes(to_raw(datatype, second))


class TestRequests:
    """A server decodes what the caller meant, whichever form it gave."""

    @given(given=named_arrays(), parameters=parameters, identifier=_names)
    def test_raw(self, given: dict[str, Any], parameters: dict[str, Any], identifier: str) -> None:
        request = Request(model_name="m", id=identifier)
        for name, value in parameters.items():
            set_parameter(request, name, value)
        for name, (datatype, array) in given.items():
            add_input(request, name, datatype, array, raw=True)
        assert is_raw(request)
        result = decoded(request)
        assert (result.id, dict(result.parameters)) == (identifier, parameters)
        assert result.is_output_binary
        assert [tensor.name for tensor in result.inputs] == list(given)
        for tensor in result.inputs:
            datatype, array = given[tensor.name]
            assert tensor.datatype == datatype
            assert same(datatype, tensor.array, array)

    @given(given=named_arrays())
    def test_typed(self, given: dict[str, Any]) -> None:
        request = Request(model_name="m")
        for name, (datatype, array) in given.items():
            if datatype not in RAW_ONLY:
                add_input(request, name, datatype, array, raw=False)
        assert not is_raw(request)
        if not request.inputs:
            return
        for tensor in decoded(request).inputs:
            datatype, array = given[tensor.name]
            expected = array
            if array.dtype.kind == "f":  # A signalling NaN becomes a quiet one on its way through a float.
                assert np.array_equal(tensor.array, expected, equal_nan=True)
            else:
                assert same(datatype, tensor.array, expected)

    def test_outputs_that_are_asked_for(self) -> None:
        request = Request(model_name="m", outputs=[{"name": "y"}, {"name": "z"}])
        request.outputs[1].parameters["classification"].int64_param = 3
        request.outputs[1].parameters["binary_data"].bool_param = False
        add_input(request, "x", "FP32", np.zeros(2, np.float32), raw=True)
        first, second = decoded(request).outputs
        assert (first.name, first.is_binary, dict(first.parameters)) == ("y", None, {})
        assert (second.name, second.is_binary, dict(second.parameters)) == ("z", None, {"classification": 3})

    def test_how_tensors_travel_is_not_the_callers_to_say(self) -> None:
        request = Request(model_name="m")
        request.parameters["binary_data_output"].bool_param = False
        add_input(request, "x", "FP32", np.zeros(2, np.float32), raw=True)
        request.inputs[0].parameters["binary_data_size"].int64_param = 4
        result = decoded(request)
        assert result.is_output_binary
        assert result.inputs[0].array.tolist() == [0.0, 0.0]

    def test_the_deadline_goes_along_unless_the_caller_says_one(self) -> None:
        request = Request(model_name="m")
        add_input(request, "x", "FP32", np.zeros(2, np.float32), raw=True)
        assert decoded(request, timeout_us=7).parameters == {"timeout": 7}
        request.parameters["timeout"].int64_param = 5
        assert decoded(request, timeout_us=7).parameters == {"timeout": 5}

    @pytest.mark.parametrize("datatype", sorted(RAW_ONLY))
    def test_half_floats_have_no_typed_form(self, datatype: str) -> None:
        request = Request(model_name="m", inputs=[{"name": "x", "datatype": datatype, "shape": [1]}])
        request.inputs[0].contents.fp32_contents.append(1.0)
        with pytest.raises(OIPError, match=f"{datatype} travels in raw_input_contents only"):
            encode_request(request)

    def test_both_forms(self) -> None:
        request = Request(model_name="m")
        add_input(request, "x", "FP32", np.zeros(2, np.float32), raw=True)
        request.inputs[0].contents.fp32_contents.append(1.0)
        with pytest.raises(OIPError, match="got both"):
            encode_request(request)

    @pytest.mark.parametrize("count", [1, 3])
    def test_not_one_raw_content_for_each_input(self, count: int) -> None:
        request = Request(model_name="m", raw_input_contents=[b"abcd"] * count)
        request.inputs.add(name="x", datatype="FP32", shape=[1])
        request.inputs.add(name="y", datatype="FP32", shape=[1])
        with pytest.raises(OIPError, match=f"expected one for each of 2 inputs, got {count}"):
            encode_request(request)

    @pytest.mark.parametrize(
        ("datatype", "field", "values"),
        [
            ("INT8", "int_contents", [128]),
            ("INT16", "int_contents", [-32769]),
            ("UINT8", "uint_contents", [256]),
            ("UINT16", "uint_contents", [65536]),
        ],
    )
    def test_elements_beyond_their_datatype(self, datatype: str, field: str, values: list[int]) -> None:
        request = Request(model_name="m", inputs=[{"name": "x", "datatype": datatype, "shape": [1]}])
        getattr(request.inputs[0].contents, field).extend(values)
        with pytest.raises(OIPError, match=f"within the range of {datatype}"):
            encode_request(request)

    def test_the_wrong_field(self) -> None:
        request = Request(model_name="m", inputs=[{"name": "x", "datatype": "INT64", "shape": [1]}])
        request.inputs[0].contents.int_contents.append(1)
        with pytest.raises(OIPError, match="expected INT64 in int64_contents, got int_contents"):
            encode_request(request)

    @pytest.mark.parametrize("datatype", ["FP8", "", "fp32"])
    def test_an_unknown_datatype(self, datatype: str) -> None:
        request = Request(model_name="m", inputs=[{"name": "x", "datatype": datatype, "shape": [1]}])
        with pytest.raises(OIPError, match="expected a datatype of BOOL, UINT8"):
            encode_request(request)

    @pytest.mark.parametrize("datatype", ["FP32", "BYTES"])
    def test_another_number_of_elements(self, datatype: str) -> None:
        request = Request(model_name="m", inputs=[{"name": "x", "datatype": datatype, "shape": [2, 3]}])
        with pytest.raises(OIPError, match=r"expected 6 elements for \[2, 3\], got 0"):
            encode_request(request)

    def test_a_negative_dimension_is_the_servers_to_refuse(self) -> None:
        request = Request(model_name="m", inputs=[{"name": "x", "datatype": "FP32", "shape": [-1]}])
        request.inputs[0].contents.fp32_contents.append(1.0)
        with pytest.raises(OIPError, match="expected dimensions of 0"):
            decoded(request)

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_a_parameter_that_json_does_not_have(self, value: float) -> None:
        request = Request(model_name="m")
        request.parameters["p"].double_param = value
        with pytest.raises(OIPError, match="'p': expected a finite number"):
            encode_request(request)

    @pytest.mark.parametrize("member", ["inputs", "outputs"])
    def test_a_name_that_would_break_a_line(self, member: str) -> None:
        request = Request(model_name="m")
        getattr(request, member).add(name="x\ny")
        with pytest.raises(OIPError, match=r"^text: expected names of printable characters$"):
            encode_request(request)

    def test_a_parameter_without_a_value(self) -> None:
        request = Request(model_name="m")
        request.parameters["p"].Clear()
        with pytest.raises(OIPError, match="'p': expected a value"):
            encode_request(request)

    @given(data=st.binary(max_size=300))
    def test_whatever_arrives_is_encoded_or_refused(self, data: bytes) -> None:
        try:
            request = Request.FromString(data)
        except Exception:  # noqa: BLE001 - what the server's deserialiser refuses does not reach us
            return
        try:
            encode_request(request)
        except OIPError:
            return


def answered(outputs: dict[str, tuple[str, Array]], **options: Any) -> InnerResponse:
    tensors = tuple(
        Tensor(name=name, datatype=datatype, array=array) for name, (datatype, array) in outputs.items()
    )
    response = InferResponse(model="m", version="3", outputs=tensors, **options)
    asked = InferRequest(model="m", inputs=(), is_output_binary=True)
    content, fields = encode_infer_response(response, asked)
    return InnerResponse(status=200, fields=fields, content=memoryview(content))


_OUTPUT = (
    b'{"model_name":"m","outputs":[{"name":"y","datatype":"FP32","shape":[1],'
    b'"parameters":{"binary_data_size":%s}}]}'
)


class TestAnswers:
    """A caller gets what the server computed, in the form that it used itself."""

    @given(outputs=named_arrays(), parameters=parameters)
    def test_raw(self, outputs: dict[str, Any], parameters: dict[str, Any]) -> None:
        message = decode_answer(answered(outputs, id="7", parameters=parameters), wants_raw=True)
        assert (message.model_name, message.model_version, message.id) == ("m", "3", "7")
        assert read_parameters(message) == parameters
        assert [output.name for output in message.outputs] == list(outputs)
        for output, blob in zip(message.outputs, message.raw_output_contents, strict=True):
            datatype, array = outputs[output.name]
            assert (output.datatype, tuple(output.shape)) == (datatype, array.shape)
            assert blob == bytes(to_raw(datatype, array))
            assert not output.HasField("contents")
            assert read_parameters(output) == {}

    @given(outputs=named_arrays())
    def test_typed(self, outputs: dict[str, Any]) -> None:
        message = decode_answer(answered(outputs), wants_raw=False)
        if any(datatype in RAW_ONLY for datatype, _ in outputs.values()):
            assert len(message.raw_output_contents) == len(outputs)
            return
        assert not message.raw_output_contents
        for output in message.outputs:
            datatype, array = outputs[output.name]
            values = list(getattr(output.contents, CONTENTS[datatype]))
            if datatype == "BYTES":
                assert values == array.ravel().tolist()
            else:
                got = np.array(values, NUMPY_TYPES[datatype])
                assert np.array_equal(got, array.ravel(), equal_nan=array.dtype.kind == "f")

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"[]",
            b'{"model_name":"m"}',
            b'{"model_name":"m","outputs":[{"name":"y","datatype":"FP32","shape":[1]}]}',
            b'{"model_name":"m","outputs":[{"name":"y","datatype":"FP32","shape":[1],"data":[1.0]}]}',
            _OUTPUT % b"4",
            _OUTPUT % b"true",
            _OUTPUT % b"-1",
            b'{"model_name":"m","outputs":[],"parameters":{"a":[1]}}',
            b'{"model_name":"m","outputs":[],"parameters":{"a":99999999999999999999}}',
        ],
    )
    def test_what_is_no_answer(self, content: bytes) -> None:
        with pytest.raises(UntrustedServiceError, match="malformed"):
            decode_answer(InnerResponse(status=200, content=content), wants_raw=True)

    @pytest.mark.parametrize("datatype", ["FP32", "FP8", "BYTES"])
    def test_typed_data_that_is_not_what_its_shape_says(self, datatype: str) -> None:
        head = msgspec.json.encode(
            {
                "model_name": "m",
                "outputs": [
                    {
                        "name": "y",
                        "datatype": datatype,
                        "shape": [3],
                        "parameters": {"binary_data_size": 4},
                    }
                ],
            }
        )
        fields = (("inference-header-content-length", str(len(head))),)
        answer = InnerResponse(status=200, fields=fields, content=head + b"abcd")
        with pytest.raises(UntrustedServiceError, match="malformed"):
            decode_answer(answer, wants_raw=False)

    def test_bytes_that_nobody_described(self) -> None:
        head = b'{"model_name":"m","outputs":[]}'
        fields = (("inference-header-content-length", str(len(head))),)
        with pytest.raises(UntrustedServiceError):
            decode_answer(InnerResponse(status=200, fields=fields, content=head + b"x"), wants_raw=True)

    def test_an_answer_without_outputs(self) -> None:
        message = decode_answer(
            InnerResponse(status=200, content=b'{"model_name":"m","outputs":[]}'), wants_raw=True
        )
        assert (message.model_name, len(message.outputs)) == ("m", 0)


class TestDocuments:
    """Metadata and the index, member by member."""

    def test_server(self) -> None:
        document = {"name": "s3ml", "version": "1", "extensions": ["a", "b"], "more": 1}
        message = server_metadata(InnerResponse(status=200, content=msgspec.json.encode(document)))
        assert (message.name, message.version, list(message.extensions)) == ("s3ml", "1", ["a", "b"])

    def test_model(self) -> None:
        tensor = {"name": "x", "datatype": "FP32", "shape": [-1, 2]}
        document = {
            "name": "m",
            "versions": ["1", "2"],
            "platform": "onnx",
            "inputs": [tensor],
            "outputs": [tensor],
        }
        message = model_metadata(InnerResponse(status=200, content=msgspec.json.encode(document)))
        assert (message.name, list(message.versions), message.platform) == ("m", ["1", "2"], "onnx")
        for described in (message.inputs[0], message.outputs[0]):
            assert (described.name, described.datatype, list(described.shape)) == ("x", "FP32", [-1, 2])

    def test_index(self) -> None:
        document = [{"name": "m", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"}]
        (entry,) = repository_index(InnerResponse(status=200, content=msgspec.json.encode(document))).models
        assert (entry.name, entry.version, entry.state, entry.reason) == ("m", "1", "UNAVAILABLE", "unloaded")

    @pytest.mark.parametrize("make", [server_metadata, model_metadata, repository_index])
    def test_what_is_no_document(self, make: Any) -> None:
        with pytest.raises(UntrustedServiceError, match="malformed"):
            make(InnerResponse(status=200, content=b'{"name":1}'))
