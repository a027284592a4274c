"""Requests that every server of the suite's models answers, for tests to take as they are or to break."""

import copy
from typing import Any

import numpy as np

from conformance.oip.names import DATATYPES
from conformance.oip.tensors import DTYPES, Tensor, tensor

A = tensor("a", "FP32", [1.5, 2.0, -3.0, 0.0, 0.25, 1e6], (2, 3))
B = tensor("b", "FP32", [0.5, -2.0, 4.0, 0.0, 0.75, 1.0], (2, 3))
X = tensor("x", "FP32", [1.0, -2.0, 0.5, 4.0], (2, 2))

# Extremes of each datatype: what a detour through doubles, signed numbers or C strings would change.
SAMPLES: dict[str, Any] = {
    "BOOL": [True, False, True],
    "UINT8": [0, 1, 255],
    "UINT16": [0, 1, 65535],
    "UINT32": [0, 1, 2**32 - 1],
    "UINT64": [0, 2**53 + 1, 2**64 - 1],
    "INT8": [-128, 0, 127],
    "INT16": [-(2**15), 0, 2**15 - 1],
    "INT32": [-(2**31), 0, 2**31 - 1],
    "INT64": [-(2**63), -(2**53) - 1, 2**63 - 1],
    "FP32": [0.1, -3.4028235e38, 1e-45],
    "FP64": [0.1, -1.7976931348623157e308, 5e-324],
    "BYTES": [b"", "gr\u00fc\u00dfe \u65e5\u672c".encode(), b'"\\\n\t'],
}


def add_subtract() -> dict[str, Any]:
    """Return a request for `add-subtract` in JSON, for the caller to change."""
    return {"id": "an id", "inputs": [A.in_json(), B.in_json()]}


def scale() -> dict[str, Any]:
    """Return a request for `scale` in JSON, for the caller to change."""
    return {"inputs": [X.in_json()]}


def changed(document: dict[str, Any], *path: Any, to: Any) -> dict[str, Any]:
    """Return a copy with the value at `path` replaced."""
    made = copy.deepcopy(document)
    place: Any = made
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to
    return made


def without(document: dict[str, Any], *path: Any) -> dict[str, Any]:
    """Return a copy without the value at `path`."""
    made = copy.deepcopy(document)
    place: Any = made
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    return made


def every_datatype(**given: Tensor) -> list[Tensor]:
    """Return inputs for `every-datatype`: those that are given by datatype, and one element of the others."""
    inputs = []
    for datatype in DATATYPES:
        one = np.array(SAMPLES[datatype][:1], DTYPES[datatype])
        default = Tensor(name=datatype.lower(), datatype=datatype, array=one)
        inputs.append(given.get(datatype, default))
    return inputs


def sample(datatype: str) -> Tensor:
    """Return the extremes of a datatype as the input of `every-datatype`."""
    return tensor(datatype.lower(), datatype, SAMPLES[datatype])
