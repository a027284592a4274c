"""The data of a tensor out of JSON, flat or nested, in memory that its size bounds.

Lists of Python take up to forty times the bytes of the JSON that they were parsed from. So nesting is
compared with the shape as text, and numbers are parsed a piece at a time, into the array that they end in.

Source: Open Inference Protocol, "HTTP/REST", "Tensor Data".
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from math import prod
from typing import Any

import msgspec
import numpy as np

from s3ml.primitives.units import KIB
from s3ml.wire.oip.datatypes import NUMPY_TYPES, Array, object_array
from s3ml.wire.oip.errors import OIPError

_KINDS: dict[str, type] = {"b": bool, "u": int, "i": int, "f": float}
_SPACES = b" \t\r\n"
# What numbers, and `true` and `false`, are written with; the rest of data is its nesting.
_SCALARS = _SPACES + b"0123456789+-.eE" + b"trufals"
_UNNESTED = bytes.maketrans(b"[]", b"  ")
_ROWS = re.compile(rb"\[[ \t\r\n]*\[")
_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"')
_PIECE_BYTES = 64 * KIB


def numbers_from_json(datatype: str, data: bytes, shape: tuple[int, ...], *, name: str) -> Array:
    """Return the array that `data` holds in row-major order.

    Args:
        datatype: One of the protocol's but BF16 and BYTES.
        data: A well-formed JSON value, from an untrusted peer.
        shape: Already within limits; `data` is flat, or nested as it says.
        name: Whose data it is, for messages.

    Raises:
        OIPError: `data` is not what `datatype` and `shape` say.
    """
    dtype, count = NUMPY_TYPES[datatype], prod(shape)
    if _ROWS.match(data):
        nesting = data.translate(None, _SCALARS)
        _check_nesting(nesting, shape, name=name)
        if not count and data.translate(None, _SPACES) != nesting:
            raise OIPError(f"{name}: data: expected no elements for {list(shape)}, got some")
        data = b"[%b]" % data.translate(_UNNESTED) if count else b"[]"
    if count > len(data):
        raise OIPError(_miscounted(data, shape, name=name))
    array: Array = np.empty(count, dtype)
    position = 0
    try:
        with np.errstate(over="raise"):
            for elements in _pieces(data, _KINDS[dtype.kind]):
                end = position + len(elements)
                if end > count:
                    raise OIPError(_miscounted(data, shape, name=name))
                array[position:end] = np.array(elements, dtype)
                position = end
    except (OverflowError, FloatingPointError) as error:
        raise OIPError(f"{name}: expected elements within the range of {datatype}") from error
    except msgspec.DecodeError as error:
        raise OIPError(f"{name}: data: {str(error).partition(' - at ')[0]}") from error
    if position != count:
        raise OIPError(_miscounted(data, shape, name=name))
    return array.reshape(shape)


def texts_from_json(data: bytes, shape: tuple[int, ...], *, name: str) -> Array:
    """Return the array of `bytes` that `data` holds in row-major order, text as UTF-8.

    Args:
        data: A well-formed JSON value, from an untrusted peer.
        shape: Already within limits; `data` is flat, or nested as it says.
        name: Whose data it is, for messages.

    Raises:
        OIPError: `data` is not what `shape` says.
    """
    count = prod(shape)
    if data.count(b'"') - data.count(b'\\"') > 2 * count:
        raise OIPError(f"{name}: data: expected {count} elements for {list(shape)}, got more")
    try:
        texts = _texts(data, shape, name=name)
    except UnicodeDecodeError as error:
        raise OIPError(f"{name}: data: expected UTF-8") from error
    if len(texts) != count:
        raise OIPError(f"{name}: data: expected {count} elements for {list(shape)}, got {len(texts)}")
    return object_array([text.encode() for text in texts], shape)


def _miscounted(data: bytes, shape: tuple[int, ...], *, name: str) -> str:
    got = 0 if data.translate(None, _SPACES) == b"[]" else data.count(b",") + 1
    return f"{name}: data: expected {prod(shape)} elements for {list(shape)}, got {got}"


def _texts(data: bytes, shape: tuple[int, ...], *, name: str) -> list[str]:
    decoder: msgspec.json.Decoder[list[str]] = _decoder(str)
    try:
        return decoder.decode(data)
    except msgspec.ValidationError:
        _check_nesting(_TEXT.sub(b"", data).translate(None, _SPACES), shape, name=name)
        return decoder.decode(b"[%b]" % b",".join(_TEXT.findall(data)))


def _check_nesting(nesting: bytes, shape: tuple[int, ...], *, name: str) -> None:
    if not _is_nested(nesting, shape):
        raise OIPError(f"{name}: data: expected it flat, or nested as {list(shape)}")


def _is_nested(nesting: bytes, shape: tuple[int, ...]) -> bool:
    """Whether brackets and commas are those of rows in rows; nothing larger than `nesting` is made."""
    if len(shape) < 2:  # noqa: PLR2004 - one dimension has no nesting but flat
        return False
    dimensions = shape[: shape.index(0) + 1] if 0 in shape else shape
    length, expected = 0, b""
    for dimension in reversed(dimensions):
        length = 2 + dimension * length + max(dimension - 1, 0)
    if length != len(nesting):
        return False
    for dimension in reversed(dimensions):
        expected = b"[%b]" % ((expected + b",") * dimension)[:-1]
    return nesting == expected


def _pieces(data: bytes, kind: type) -> Iterator[list[Any]]:
    """Parse an array without arrays in it, from comma to comma."""
    decode = _decoder(kind).decode
    if len(data) <= _PIECE_BYTES or data[:1] != b"[":
        yield decode(data)
        return
    start, stop = 1, len(data) - 1
    while start < stop:
        end = data.find(b",", start + _PIECE_BYTES, stop)
        end = stop if end < 0 else end
        yield decode(b"[%b]" % data[start:end])
        start = end + 1


@lru_cache(maxsize=8)
def _decoder(kind: type) -> msgspec.json.Decoder[list[Any]]:
    return msgspec.json.Decoder(list[kind])  # type: ignore[valid-type]
