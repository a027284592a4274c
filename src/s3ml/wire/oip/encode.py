"""Inference messages to bytes.

Source: Open Inference Protocol, "HTTP/REST"; Triton's binary tensor data extension.
"""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import numpy as np

from s3ml.wire.oip.datatypes import Array, as_bytes, to_raw
from s3ml.wire.oip.errors import OIPError
from s3ml.wire.oip.messages import InferRequest, InferResponse, RequestedOutput, Tensor

HEADER_LENGTH_FIELD = "inference-header-content-length"
JSON_MEDIA_TYPE = "application/json"
BINARY_MEDIA_TYPE = "application/octet-stream"

Blob = bytes | memoryview
TextFields = tuple[tuple[str, str], ...]
_encode_json = msgspec.json.Encoder().encode


def encode_infer_request(request: InferRequest, binary: bool = True) -> tuple[bytes, TextFields]:  # noqa: FBT001, FBT002 - the contract's signature
    """Encode `request`; the path carries its model and version.

    Args:
        request: Not a raw one.
        binary: Whether inputs travel as raw bytes, and outputs are asked for so.

    Returns:
        The content, and the fields that describe it.

    Raises:
        OIPError: a tensor that JSON cannot carry: BF16, or BYTES that are not UTF-8, or numbers that are not
            finite.
    """
    head: dict[str, Any] = {}
    if request.id is not None:
        head["id"] = request.id
    parameters = dict(request.parameters)
    if binary or request.is_output_binary:
        parameters["binary_data_output"] = True
    if parameters:
        head["parameters"] = parameters
    blobs: list[Blob] = []
    head["inputs"] = _tensors(request.inputs, lambda _: binary, blobs)
    if request.outputs:
        head["outputs"] = [_requested(output) for output in request.outputs]
    return _join(head, blobs)


def encode_infer_response(response: InferResponse, request: InferRequest) -> tuple[bytes, TextFields]:
    """Encode `response` the way `request` asked for it.

    Returns:
        The content, and the fields that describe it.

    Raises:
        OIPError: an output that JSON cannot carry, of a request that did not ask for raw bytes.
    """
    head: dict[str, Any] = {"model_name": response.model}
    if response.version is not None:
        head["model_version"] = response.version
    if response.id is not None:
        head["id"] = response.id
    if response.parameters:
        head["parameters"] = dict(response.parameters)
    blobs: list[Blob] = []
    head["outputs"] = _tensors(response.outputs, request.is_binary, blobs)
    return _join(head, blobs)


def encode_error(message: str) -> tuple[bytes, TextFields]:
    """Encode what answers a request that failed."""
    return _encode_json({"error": message}), (("content-type", JSON_MEDIA_TYPE),)


def _join(head: dict[str, Any], blobs: list[Blob]) -> tuple[bytes, TextFields]:
    encoded = _encode_json(head)
    if not blobs:
        return encoded, (("content-type", JSON_MEDIA_TYPE),)
    fields = (("content-type", BINARY_MEDIA_TYPE), (HEADER_LENGTH_FIELD, str(len(encoded))))
    return b"".join((encoded, *blobs)), fields


def _tensors(
    tensors: Iterable[Tensor], is_binary: Callable[[str], bool], blobs: list[Blob]
) -> list[dict[str, Any]]:
    """Describe `tensors`, and append the raw bytes of those that travel so to `blobs`."""
    described: list[dict[str, Any]] = []
    for tensor in tensors:
        entry: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": tensor.array.shape,
        }
        parameters = dict(tensor.parameters)
        if is_binary(tensor.name):
            blob = to_raw(tensor.datatype, tensor.array)
            parameters["binary_data_size"] = len(blob)
            blobs.append(blob)
        else:
            entry["data"] = _to_json(tensor)
        if parameters:
            entry["parameters"] = parameters
        described.append(entry)
    return described


def _requested(output: RequestedOutput) -> dict[str, Any]:
    parameters: dict[str, Any] = dict(output.parameters)
    if output.is_binary is not None:
        parameters["binary_data"] = output.is_binary
    return {"name": output.name, "parameters": parameters} if parameters else {"name": output.name}


def _to_json(tensor: Tensor) -> list[Any]:
    """Return the elements as what JSON can carry, flat and row-major."""
    array: Array = tensor.array.ravel()
    if tensor.datatype == "BF16":
        raise OIPError(f"{tensor.name}: BF16 travels in binary only")
    if tensor.datatype == "BYTES":
        try:
            return [as_bytes(element).decode() for element in array.tolist()]
        except UnicodeDecodeError:
            raise OIPError(f"{tensor.name}: BYTES that are not UTF-8 travel in binary only") from None
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise OIPError(f"{tensor.name}: numbers that are not finite travel in binary only")
    elements: list[Any] = array.tolist()
    return elements
