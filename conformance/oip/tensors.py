"""Tensors to and from what the protocol sends, written anew: nothing here is the code under test.

Source: Open Inference Protocol, "Tensor Data"; Triton's binary tensor data extension.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from conformance.oip.endpoint import Reply

Array = npt.NDArray[Any]

# BF16 is left out: numpy has no such type.
DTYPES: dict[str, np.dtype[Any]] = {
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
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
    "BYTES": np.dtype(np.object_),
}
_LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tensor:
    """A tensor of a request or a reply; BYTES hold `bytes`."""

    name: str
    datatype: str
    array: Array
    parameters: dict[str, Any] = field(default_factory=dict)

    @property
    def raw(self) -> bytes:
        """Its elements as the binary extension has them."""
        if self.datatype != "BYTES":
            return self.array.astype(DTYPES[self.datatype]).tobytes()
        elements = self.array.ravel().tolist()
        return b"".join(len(e).to_bytes(_LENGTH_BYTES, "little") + e for e in elements)

    def described(self, **parameters: object) -> dict[str, Any]:
        """Return its JSON without data."""
        entry: dict[str, Any] = {
            "name": self.name,
            "shape": list(self.array.shape),
            "datatype": self.datatype,
        }
        if merged := {**self.parameters, **parameters}:
            entry["parameters"] = merged
        return entry

    def in_json(self, *, nested: bool = False) -> dict[str, Any]:
        """Return its JSON with data, flat or nested as its shape is."""
        values = self.array if nested else self.array.ravel()
        data = values.tolist()
        return {**self.described(), "data": _texts(data) if self.datatype == "BYTES" else data}

    def in_binary(self) -> dict[str, Any]:
        """Return its JSON with the size of the data that follows."""
        return self.described(binary_data_size=len(self.raw))


def tensor(name: str, datatype: str, values: object, shape: tuple[int, ...] | None = None) -> Tensor:
    """Make a tensor; elements of BYTES are `bytes`."""
    array = np.array(values, DTYPES[datatype])
    return Tensor(name=name, datatype=datatype, array=array if shape is None else array.reshape(shape))


def from_raw(name: str, datatype: str, shape: tuple[int, ...], raw: bytes) -> Tensor:
    """Read raw elements.

    Raises:
        AssertionError: they are not what the shape says.
    """
    if datatype != "BYTES":
        expected = int(np.prod(shape, dtype=np.int64)) * DTYPES[datatype].itemsize
        assert len(raw) == expected, f"{name}: expected {expected} bytes, got {len(raw)}"
        return Tensor(name=name, datatype=datatype, array=np.frombuffer(raw, DTYPES[datatype]).reshape(shape))
    elements = []
    position = 0
    while position < len(raw):
        length = int.from_bytes(raw[position : position + _LENGTH_BYTES], "little")
        position += _LENGTH_BYTES + length
        assert position <= len(raw), f"{name}: an element of BYTES is truncated"
        elements.append(raw[position - length : position])
    array = np.empty(len(elements), np.object_)
    array[:] = elements
    return Tensor(name=name, datatype=datatype, array=array.reshape(shape))


def outputs(reply: Reply) -> dict[str, Tensor]:
    """Read the outputs of a reply to an inference, by name.

    Raises:
        AssertionError: the status is not 200, the reply is malformed, or a byte is left over.
    """
    assert reply.status == 200, (reply.status, reply.content[:500])
    position = 0
    found: dict[str, Tensor] = {}
    for entry in reply.document["outputs"]:
        shape = tuple(entry["shape"])
        size = (entry.get("parameters") or {}).get("binary_data_size")
        if size is None:
            read = _from_json(entry, shape)
        else:
            assert "data" not in entry, "expected data in JSON or in binary, got both"
            blob = reply.blobs[position : position + size]
            assert len(blob) == size, f"{entry['name']}: expected {size} bytes, got {len(blob)}"
            read = from_raw(entry["name"], entry["datatype"], shape, blob)
            position += size
        assert read.name not in found, f"{read.name}: twice"
        found[read.name] = read
    assert position == len(reply.blobs), f"expected {position} bytes of data, got {len(reply.blobs)}"
    return found


def binary_names(reply: Reply) -> set[str]:
    """Return which outputs travelled in binary."""
    return {
        entry["name"]
        for entry in reply.document["outputs"]
        if "binary_data_size" in (entry.get("parameters") or {})
    }


def same(left: Array, right: Array) -> bool:
    """Tell whether two arrays are equal to the bit, NaN being itself."""
    if left.shape != right.shape or left.dtype.kind != right.dtype.kind:
        return False
    if left.dtype == np.object_:
        return bool(left.ravel().tolist() == right.ravel().tolist())
    return left.astype(left.dtype.newbyteorder("<")).tobytes() == right.astype(left.dtype).tobytes()


def _from_json(entry: dict[str, Any], shape: tuple[int, ...]) -> Tensor:
    """Read data that is flat or nested; numbers have to be exactly of the datatype."""
    datatype = entry["datatype"]
    elements = list(_flatten(entry["data"]))
    if datatype == "BYTES":
        array = np.empty(len(elements), np.object_)
        array[:] = [element.encode() for element in elements]
    else:
        array = np.array(elements, DTYPES[datatype])
    return Tensor(name=entry["name"], datatype=datatype, array=array.reshape(shape))


def _flatten(data: Any) -> Any:
    for element in data:
        if isinstance(element, list):
            yield from _flatten(element)
        else:
            yield element


def _texts(data: Any) -> Any:
    return [_texts(element) if isinstance(element, list) else element.decode() for element in data]
