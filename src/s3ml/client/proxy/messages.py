"""Between gRPC messages and requests of the REST form; pure.

Inside the seal tensors always travel in binary. What a caller gave raw goes on as it is, and is answered raw.
What it gave in typed contents is laid out as raw bytes once, and answered in typed contents.

Source: Open Inference Protocol, "gRPC"; Triton's binary tensor data extension.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import numpy as np

from s3ml.client.errors import UntrustedServiceError
from s3ml.client.proxy.protocol import oip_pb2
from s3ml.primitives.errors import UntrustedPeerError
from s3ml.wire.oip import HEADER_LENGTH_FIELD, NUMPY_TYPES, OIPError, parse_header_length
from s3ml.wire.oip.datatypes import from_raw
from s3ml.wire.sealed import InnerResponse

Parameter = bool | int | float | str
Fields = tuple[tuple[str, str], ...]

TIMEOUT_PARAMETER = "timeout"
RAW_ONLY = frozenset({"FP16", "BF16"})
CONTENTS: Mapping[str, str] = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
# How a tensor travels is the proxy's to say.
_TRAVELLING = frozenset({"binary_data_size", "binary_data_output", "binary_data"})
_INT64_MAX = (1 << 63) - 1
_LENGTH_BYTES = 4


class _Output(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]
    parameters: dict[str, Parameter] = {}


class _Head(msgspec.Struct):
    model_name: str
    outputs: list[_Output]
    model_version: str | None = None
    id: str | None = None
    parameters: dict[str, Parameter] = {}


def is_raw(request: oip_pb2.ModelInferRequest) -> bool:
    """Tell whether a request wants its answer raw: its own tensors are."""
    return len(request.raw_input_contents) > 0


def encode_request(
    request: oip_pb2.ModelInferRequest, *, timeout_us: int | None = None
) -> tuple[Fields, bytes]:
    """Return a request in the REST form, its tensors in binary.

    Args:
        request: From a local client.
        timeout_us: How long it waits, where its parameters do not say so.

    Raises:
        OIPError: contents of both forms, of the wrong field, or of another size than the shape says; a
            parameter that JSON does not have.
    """
    parameters = _parameters(request.parameters, "request")
    if timeout_us is not None:
        parameters.setdefault(TIMEOUT_PARAMETER, timeout_us)
    parameters["binary_data_output"] = True
    names = [tensor.name for tensor in request.inputs] + [output.name for output in request.outputs]
    if not all(map(str.isprintable, names)):
        raise OIPError("text: expected names of printable characters")
    blobs = _blobs(request)
    head: dict[str, Any] = {"parameters": parameters}
    if request.id:
        head["id"] = request.id
    head["inputs"] = [
        {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.shape),
            "parameters": _parameters(tensor.parameters, tensor.name) | {"binary_data_size": len(blob)},
        }
        for tensor, blob in zip(request.inputs, blobs, strict=True)
    ]
    if request.outputs:
        head["outputs"] = [
            {"name": output.name, "parameters": _parameters(output.parameters, output.name)}
            for output in request.outputs
        ]
    encoded = msgspec.json.encode(head)
    fields = (("content-type", "application/octet-stream"), (HEADER_LENGTH_FIELD, str(len(encoded))))
    return fields, b"".join((encoded, *blobs))


def decode_answer(response: InnerResponse, *, wants_raw: bool) -> oip_pb2.ModelInferResponse:
    """Return a verified service's answer, with status 200, as a message.

    Args:
        response: In the REST form, its tensors in binary.
        wants_raw: Whether raw contents are wanted; an output that has no typed form makes all of them raw.

    Raises:
        UntrustedServiceError: it is not what the protocol says.
    """
    try:
        length = parse_header_length(response.field(HEADER_LENGTH_FIELD))
        view = memoryview(response.content)
        head = msgspec.json.decode(view if length is None else view[:length], type=_Head)
        blobs = _cut(head, view[len(view) if length is None else length :])
        message = _described(head)
        if wants_raw or any(output.datatype in RAW_ONLY for output in head.outputs):
            message.raw_output_contents.extend(bytes(blob) for blob in blobs)
        else:
            for output, described, blob in zip(head.outputs, message.outputs, blobs, strict=True):
                array = from_raw(output.datatype, blob, tuple(output.shape), name=output.name)
                getattr(described.contents, CONTENTS[output.datatype]).extend(array.ravel().tolist())
    except (
        msgspec.DecodeError,
        UnicodeDecodeError,
        OIPError,
        UntrustedPeerError,
        ValueError,
        KeyError,
    ) as error:
        raise UntrustedServiceError(f"its answer is malformed: {type(error).__name__}") from error
    return message


def _parameters(given: Mapping[str, oip_pb2.InferParameter], what: str) -> dict[str, Parameter]:
    """Return parameters as JSON has them, without those that say how a tensor travels."""
    parameters: dict[str, Parameter] = {}
    for name, parameter in given.items():
        kind = parameter.WhichOneof("parameter_choice")
        if name in _TRAVELLING:
            continue
        if kind is None:
            raise OIPError(f"{what}: parameter {name[:80]!r}: expected a value")
        value: Parameter = getattr(parameter, kind)
        if isinstance(value, float) and not math.isfinite(value):
            raise OIPError(f"{what}: parameter {name[:80]!r}: expected a finite number")
        parameters[name] = value
    return parameters


def _to_parameter(value: Parameter) -> oip_pb2.InferParameter:
    if isinstance(value, bool):
        return oip_pb2.InferParameter(bool_param=value)
    if isinstance(value, int):
        if value > _INT64_MAX:
            return oip_pb2.InferParameter(uint64_param=value)
        return oip_pb2.InferParameter(int64_param=value)
    if isinstance(value, float):
        return oip_pb2.InferParameter(double_param=value)
    return oip_pb2.InferParameter(string_param=value)


def _blobs(request: oip_pb2.ModelInferRequest) -> list[bytes]:
    """Return each input's elements as raw bytes."""
    raw = request.raw_input_contents
    if not raw:
        return [_typed(tensor) for tensor in request.inputs]
    if any(tensor.HasField("contents") for tensor in request.inputs):
        raise OIPError("inputs: expected contents or raw_input_contents, got both")
    if len(raw) != len(request.inputs):
        raise OIPError(
            f"raw_input_contents: expected one for each of {len(request.inputs)} inputs, got {len(raw)}"
        )
    return list(raw)


def _typed(tensor: oip_pb2.ModelInferRequest.InferInputTensor) -> bytes:
    """Lay out typed contents as raw bytes."""
    name, datatype = tensor.name[:80], tensor.datatype
    if datatype in RAW_ONLY:
        raise OIPError(f"{name}: {datatype} travels in raw_input_contents only")
    field = CONTENTS.get(datatype)
    if field is None:
        raise OIPError(f"{name}: expected a datatype of {', '.join(NUMPY_TYPES)}, got {datatype[:40]!r}")
    others = [other.name for other, _ in tensor.contents.ListFields() if other.name != field]
    if others:
        raise OIPError(f"{name}: expected {datatype} in {field}, got {', '.join(others)}")
    values = getattr(tensor.contents, field)
    expected = math.prod(tensor.shape)
    if len(values) != expected and min(tensor.shape, default=0) >= 0:
        raise OIPError(f"{name}: expected {expected} elements for {list(tensor.shape)}, got {len(values)}")
    if datatype == "BYTES":
        return b"".join(len(value).to_bytes(_LENGTH_BYTES, "little") + value for value in values)
    return _numbers(name, datatype, values)


def _numbers(name: str, datatype: str, values: Iterable[Any]) -> bytes:
    """Convert numbers to the width of their datatype; one that does not fit rejects."""
    array = np.asarray(values)
    converted = array.astype(NUMPY_TYPES[datatype])
    if converted.dtype.kind in "iu" and not np.array_equal(array, converted):
        raise OIPError(f"{name}: expected elements within the range of {datatype}")
    return converted.tobytes()


def _cut(head: _Head, content: memoryview) -> list[memoryview]:
    """Cut the raw bytes of the outputs apart; all must be used."""
    blobs: list[memoryview] = []
    position = 0
    for output in head.outputs:
        size = output.parameters["binary_data_size"]
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(content) - position:
            raise ValueError
        blobs.append(content[position : position + size])
        position += size
    if position != len(content):
        raise ValueError
    return blobs


def _described(head: _Head) -> oip_pb2.ModelInferResponse:
    """Return all but the elements."""
    message = oip_pb2.ModelInferResponse(
        model_name=head.model_name, model_version=head.model_version or "", id=head.id or ""
    )
    _describe(message.parameters, head.parameters)
    for output in head.outputs:
        described = message.outputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
        _describe(described.parameters, output.parameters)
    return message


def _describe(described: Any, parameters: Mapping[str, Parameter]) -> None:
    for name, value in parameters.items():
        if name not in _TRAVELLING:
            described[name].CopyFrom(_to_parameter(value))
