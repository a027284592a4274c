"""The loop of every client program: one JSON object a line in, one out.

A request is `{"call": name, …}`; an answer is `{"result": …}` or `{"error": {"status", "message"}}`. Tensors
travel as `{"name", "datatype", "shape", "raw"}` with the protocol's raw bytes in base64. Only this loop is
shared: each program is a plain user of its library.
"""

import base64
import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

DTYPES = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}
_LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True)
class Given:
    """A tensor of a request."""

    name: str
    datatype: str
    shape: list[int]
    array: Any


def given(described: Mapping[str, Any]) -> Given:
    """Read a tensor of a request; BYTES become an array of `bytes` objects."""
    raw = base64.b64decode(described["raw"])
    shape = described["shape"]
    if described["datatype"] == "BYTES":
        elements = []
        while raw:
            end = _LENGTH_BYTES + int.from_bytes(raw[:_LENGTH_BYTES], "little")
            elements.append(raw[_LENGTH_BYTES:end])
            raw = raw[end:]
        array = np.empty(len(elements), np.object_)
        array[:] = elements
    else:
        array = np.frombuffer(raw, DTYPES[described["datatype"]])
    return Given(described["name"], described["datatype"], shape, array.reshape(shape))


def told(name: str, datatype: str, array: Any) -> dict[str, Any]:
    """Describe a tensor of an answer, as the library gave it."""
    if datatype == "BYTES":
        elements = [e if isinstance(e, bytes) else str(e).encode() for e in array.ravel().tolist()]
        raw = b"".join(len(e).to_bytes(_LENGTH_BYTES, "little") + e for e in elements)
    else:
        raw = np.ascontiguousarray(array).tobytes()
    encoded = base64.b64encode(raw).decode()
    return {"name": name, "datatype": datatype, "shape": list(array.shape), "raw": encoded}


async def serve(
    calls: Mapping[str, Callable[..., Awaitable[Any]]],
    describe: Callable[[Exception], dict[str, Any]],
) -> None:
    """Answer until standard input ends.

    Args:
        calls: By name; each gets the request's other members as keywords.
        describe: Turns what the library raises into `{"status", "message"}`.
    """
    for line in sys.stdin:
        request = json.loads(line)
        call = request.pop("call")
        answer: dict[str, Any]
        try:
            answer = {"result": await calls[call](**request)}
        except Exception as error:  # noqa: BLE001 - whatever a library raises is what the suite wants to see
            answer = {"error": {"kind": type(error).__name__, **describe(error)}}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
