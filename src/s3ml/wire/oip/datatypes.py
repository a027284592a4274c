"""The datatypes of the protocol and their arrays.

All are little-endian. BF16, which numpy lacks, is its raw bits as 16-bit integers, and travels in binary
only. BYTES is an array of Python `bytes`.

Source: Open Inference Protocol, "Tensor Data Types"; Triton's binary tensor data extension.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from s3ml.wire.oip.errors import OIPError

Array = np.ndarray[Any, np.dtype[Any]]

NUMPY_TYPES: Mapping[str, np.dtype[Any]] = MappingProxyType(
    {
        "BOOL": np.dtype(np.bool_),
        "UINT8": np.dtype("<u1"),
        "UINT16": np.dtype("<u2"),
        "UINT32": np.dtype("<u4"),
        "UINT64": np.dtype("<u8"),
        "INT8": np.dtype("<i1"),
        "INT16": np.dtype("<i2"),
        "INT32": np.dtype("<i4"),
        "INT64": np.dtype("<i8"),
        "FP16": np.dtype("<f2"),
        "BF16": np.dtype("<u2"),
        "FP32": np.dtype("<f4"),
        "FP64": np.dtype("<f8"),
        "BYTES": np.dtype(np.object_),
    }
)

_DATATYPES = {dtype: name for name, dtype in NUMPY_TYPES.items() if name != "BF16"}
_LENGTH_BYTES = 4


def datatype_of(array: Array) -> str:
    """Return the datatype that an array has of itself; text and bytes are BYTES.

    Raises:
        OIPError: the protocol has none for it.
    """
    if array.dtype.kind in "SU":
        return "BYTES"
    name = _DATATYPES.get(array.dtype.newbyteorder("<"))
    if name is None:
        raise OIPError(f"array: expected a numeric, boolean or bytes dtype, got {array.dtype}")
    return name


def to_raw(datatype: str, array: Array) -> bytes | memoryview:
    """Return the elements in row-major order as the binary extension has them: a view where that can be."""
    if datatype != "BYTES":
        return np.ascontiguousarray(array, NUMPY_TYPES[datatype]).reshape(-1).view(np.uint8).data
    elements = (as_bytes(element) for element in array.ravel().tolist())
    return b"".join(len(e).to_bytes(_LENGTH_BYTES, "little") + e for e in elements)


def from_raw(datatype: str, data: bytes | memoryview, shape: tuple[int, ...], *, name: str) -> Array:
    """Return the array that `data` holds: a read-only view of it, and perhaps unaligned.

    Args:
        datatype: One of the protocol's.
        data: From an untrusted peer.
        shape: Already within limits.
        name: Whose data it is, for messages.

    Raises:
        OIPError: `data` is not exactly what `datatype` and `shape` say.
    """
    if datatype == "BYTES":
        return object_array(_split(bytes(data), _count(shape), name=name), shape)
    dtype = NUMPY_TYPES[datatype]
    expected = _count(shape) * dtype.itemsize
    if len(data) != expected:
        raise OIPError(f"{name}: expected {expected} bytes for {datatype} {list(shape)}, got {len(data)}")
    array: Array = np.frombuffer(data, dtype) if expected else np.empty(0, dtype)
    if datatype == "BOOL" and expected and int(array.view(np.uint8).max()) > 1:
        raise OIPError(f"{name}: expected each BOOL to be 0 or 1")
    return array.reshape(shape)


def object_array(elements: list[bytes], shape: tuple[int, ...]) -> Array:
    """Return an array of `bytes` objects."""
    array = np.empty(len(elements), dtype=np.object_)
    array[:] = elements
    return array.reshape(shape)


def as_bytes(element: object) -> bytes:
    """Return an element of a BYTES array as bytes; text as UTF-8.

    Raises:
        OIPError: it is neither.
    """
    if isinstance(element, bytes):
        return element
    if isinstance(element, str):
        return element.encode()
    raise OIPError(f"BYTES: expected elements of bytes or text, got {type(element).__name__}")


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for dimension in shape:
        count *= dimension
    return count


def _split(data: bytes, count: int, *, name: str) -> list[bytes]:
    """Split length-prefixed elements; nothing is allocated for a count that `data` cannot hold."""
    if count * _LENGTH_BYTES > len(data):
        raise OIPError(f"{name}: expected {count} elements of BYTES, got {len(data)} bytes")
    elements: list[bytes] = []
    position = 0
    for _ in range(count):
        start = position + _LENGTH_BYTES
        position = start + int.from_bytes(data[start - _LENGTH_BYTES : start], "little")
        if start > len(data) or position > len(data):
            raise OIPError(f"{name}: an element of BYTES is truncated")
        elements.append(data[start:position])
    if position != len(data):
        raise OIPError(f"{name}: expected {count} elements of BYTES, got more bytes after them")
    return elements
