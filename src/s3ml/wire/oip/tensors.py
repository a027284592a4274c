"""Tensors out of JSON and out of the raw bytes behind it.

Source: Open Inference Protocol, "HTTP/REST", "Tensor Data"; Triton's binary tensor data extension.
"""

from s3ml.wire.oip.datatypes import NUMPY_TYPES, Array, from_raw
from s3ml.wire.oip.documents import ParameterValue, TensorDocument
from s3ml.wire.oip.errors import OIPError
from s3ml.wire.oip.json_data import numbers_from_json, texts_from_json
from s3ml.wire.oip.limits import Limits
from s3ml.wire.oip.messages import Tensor

SIZE_PARAMETER = "binary_data_size"
_NO_DATA = b"null"
_DIMENSION_LIMIT = (1 << 31) - 1


def decode_tensors(
    documents: list[TensorDocument], blobs: memoryview, *, limits: Limits
) -> tuple[Tensor, ...]:
    """Decode tensors with the raw bytes that follow their JSON, all of which must be used.

    Raises:
        OIPError: a name stands twice, a datatype is unknown, data is not what the shape says, or bytes are
            missing or left over.
    """
    tensors: list[Tensor] = []
    names: set[str] = set()
    position = 0
    for document in documents:
        if document.name in names:
            raise OIPError(f"{document.name}: expected each tensor once, got it twice")
        names.add(document.name)
        parameters = dict(document.parameters or {})
        size = parameters.pop(SIZE_PARAMETER, None)
        shape = _shape(document, limits=limits)
        if size is None:
            array = _from_json(document, shape)
        else:
            end = position + _blob_size(document, size, len(blobs) - position)
            array = from_raw(document.datatype, blobs[position:end], shape, name=document.name)
            position = end
        tensors.append(
            Tensor(name=document.name, datatype=document.datatype, array=array, parameters=parameters)
        )
    if position != len(blobs):
        raise OIPError(f"binary data: expected {position} bytes, got {len(blobs)}")
    return tuple(tensors)


def _shape(document: TensorDocument, *, limits: Limits) -> tuple[int, ...]:
    """Return the declared shape when it is within limits, and the datatype known."""
    if document.datatype not in NUMPY_TYPES:
        known = ", ".join(NUMPY_TYPES)
        raise OIPError(f"{document.name}: expected a datatype of {known}, got {document.datatype[:40]!r}")
    if len(document.shape) > limits.rank:
        raise OIPError(
            f"{document.name}: expected at most {limits.rank} dimensions, got {len(document.shape)}"
        )
    count = 1
    for dimension in document.shape:
        if not 0 <= dimension <= _DIMENSION_LIMIT:
            raise OIPError(
                f"{document.name}: expected dimensions of 0 to {_DIMENSION_LIMIT}, got {dimension}"
            )
        count *= max(dimension, 1)
    most = limits.text_count if document.datatype == "BYTES" else limits.element_count
    if count > most:
        raise OIPError(f"{document.name}: expected at most {most} elements of {document.datatype}")
    return tuple(document.shape)


def _blob_size(document: TensorDocument, size: ParameterValue, available: int) -> int:
    # KServe's client says `"data": null` of a tensor without elements, with a size of 0.
    if bytes(document.data) not in (b"", _NO_DATA):
        raise OIPError(f"{document.name}: expected data in JSON or in binary, got both")
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= available:
        raise OIPError(
            f"{document.name}: expected {SIZE_PARAMETER} of 0 to {available}, got {str(size)[:40]}"
        )
    return size


def _from_json(document: TensorDocument, shape: tuple[int, ...]) -> Array:
    """Decode flat or nested row-major data."""
    data = bytes(document.data)
    if not data:
        raise OIPError(f"{document.name}: expected data")
    if document.datatype == "BF16":
        raise OIPError(f"{document.name}: BF16 travels in binary only")
    if document.datatype == "BYTES":
        return texts_from_json(data, shape, name=document.name)
    return numbers_from_json(document.datatype, data, shape, name=document.name)
