"""Inference requests out of bytes from an untrusted peer.

Source: Open Inference Protocol, "HTTP/REST"; Triton's binary tensor data extension.
"""

import dataclasses
import re

from s3ml.wire.oip.datatypes import NUMPY_TYPES, from_raw
from s3ml.wire.oip.documents import OutputDocument, RequestDocument, parse_document
from s3ml.wire.oip.encode import HEADER_LENGTH_FIELD
from s3ml.wire.oip.errors import OIPError
from s3ml.wire.oip.limits import DEFAULT_LIMITS, Limits
from s3ml.wire.oip.messages import InferRequest, RequestedOutput, Tensor
from s3ml.wire.oip.tensors import decode_tensors

_HEADER_LENGTH = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)
_OUTPUT_PARAMETER = "binary_data"
_OUTPUTS_PARAMETER = "binary_data_output"


def parse_header_length(value: str | None) -> int | None:
    """Return the value of the field ``Inference-Header-Content-Length``; None where there is none.

    Raises:
        OIPError: it is no decimal number.
    """
    if value is None:
        return None
    if not _HEADER_LENGTH.fullmatch(value):
        raise OIPError(f"{HEADER_LENGTH_FIELD}: expected a decimal number, got {value[:40]!r}")
    return int(value)


def decode_infer_request(
    content: bytes | memoryview,
    header_length: int | None,
    *,
    limits: Limits = DEFAULT_LIMITS,
    model: str = "",
    version: str | None = None,
) -> InferRequest:
    """Decode a request for an inference.

    Args:
        content: From an untrusted peer; arrays may be views of it.
        header_length: The length of the JSON at its beginning; None when all of it is JSON, 0 when none is.
        limits: What is accepted.
        model: From the path.
        version: From the path.

    Raises:
        OIPError: it is malformed, exceeds a limit, or its data is not what its shapes say; status 400.
    """
    view, blobs = split_content(content, header_length, limits=limits)
    if header_length == 0:
        return InferRequest(model=model, version=version, inputs=(), is_output_binary=True, raw=blobs)
    document = parse_document(view, RequestDocument, limits=limits)
    if not document.inputs:
        raise OIPError("inputs: expected at least one")
    parameters = dict(document.parameters or {})
    return InferRequest(
        model=model,
        version=version,
        id=document.id,
        inputs=decode_tensors(document.inputs, blobs, limits=limits),
        outputs=_outputs(document.outputs or []),
        is_output_binary=_flag(parameters.pop(_OUTPUTS_PARAMETER, False), _OUTPUTS_PARAMETER),
        parameters=parameters,
    )


def bind_raw_input(
    request: InferRequest, *, name: str, datatype: str, shape: tuple[int, ...]
) -> InferRequest:
    """Make the one input of a raw request out of its content.

    Args:
        request: With `raw`.
        name: Of the model's only input.
        datatype: Of that input.
        shape: Of that input, -1 where it varies: the first such dimension is the batch, which is 1; a second
            one follows from the size.

    Returns:
        The request with its input, and without `raw`.

    Raises:
        OIPError: the request is not raw, the datatype BYTES or unknown, or the size does not fit.
    """
    dtype = NUMPY_TYPES.get(datatype)
    if request.raw is None or dtype is None or datatype == "BYTES":
        raise OIPError("raw request: expected a model with one input of numbers")
    dimensions = list(shape)
    if -1 in dimensions:
        dimensions[dimensions.index(-1)] = 1
    if dimensions.count(-1) == 1:
        known = dtype.itemsize
        for dimension in dimensions:
            known *= abs(dimension)
        dimensions[dimensions.index(-1)] = len(request.raw) // known if known else 0
    if -1 in dimensions:
        raise OIPError("raw request: expected a model whose input varies in two dimensions at most")
    array = from_raw(datatype, request.raw, tuple(dimensions), name=name)
    tensor = Tensor(name=name, datatype=datatype, array=array)
    return dataclasses.replace(request, inputs=(tensor,), raw=None)


def split_content(
    content: bytes | memoryview, header_length: int | None, *, limits: Limits
) -> tuple[memoryview, memoryview]:
    """Split content into its JSON and the raw bytes behind it.

    Raises:
        OIPError: the content exceeds the limit, or is shorter than `header_length`.
    """
    if len(content) > limits.content_bytes:
        raise OIPError(f"content: expected at most {limits.content_bytes} bytes, got {len(content)}")
    length = len(content) if header_length is None else header_length
    if not 0 <= length <= len(content):
        raise OIPError(f"{HEADER_LENGTH_FIELD}: expected 0 to {len(content)}, got {length}")
    view = memoryview(content)
    return view[:length], view[length:]


def _outputs(documents: list[OutputDocument]) -> tuple[RequestedOutput, ...]:
    outputs: list[RequestedOutput] = []
    names: set[str] = set()
    for document in documents:
        if document.name in names:
            raise OIPError(f"{document.name}: expected each output once, got it twice")
        names.add(document.name)
        parameters = dict(document.parameters or {})
        binary = parameters.pop(_OUTPUT_PARAMETER, None)
        is_binary = None if binary is None else _flag(binary, _OUTPUT_PARAMETER)
        outputs.append(RequestedOutput(name=document.name, is_binary=is_binary, parameters=parameters))
    return tuple(outputs)


def _flag(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise OIPError(f"{name}: expected true or false, got {str(value)[:40]}")
    return value
