"""What the suite's models compute, in numpy: for servers that the suite is held against.

Imported by programs of other virtual environments, which have numpy and no ONNX Runtime.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from conformance.oip.names import ADD_SUBTRACT, DATATYPES, EVERY_DATATYPE, HALF_PRECISION, LOADABLE, SCALE

ECHOED = {EVERY_DATATYPE: DATATYPES, HALF_PRECISION: ("FP16",)}
FACTORS = {(SCALE, "1"): 2.0, (SCALE, "2"): 3.0, (LOADABLE, "1"): 5.0}


@dataclass(frozen=True)
class Spec:
    """An input or output."""

    name: str
    datatype: str
    shape: tuple[int, ...]


def served() -> list[tuple[str, str]]:
    """Return the models' names and versions."""
    return [*((name, "1") for name in ECHOED), (ADD_SUBTRACT, "1"), *FACTORS]


def inputs(model: str) -> list[Spec]:
    """Return a model's inputs."""
    if model in ECHOED:
        return [Spec(datatype.lower(), datatype, (-1,)) for datatype in ECHOED[model]]
    if model == ADD_SUBTRACT:
        return [Spec(name, "FP32", (-1, 3)) for name in ("a", "b")]
    return [Spec("x", "FP32", (-1, -1))]


def outputs(model: str) -> list[Spec]:
    """Return a model's outputs."""
    if model in ECHOED:
        return [Spec(f"{spec.name}-out", spec.datatype, spec.shape) for spec in inputs(model)]
    if model == ADD_SUBTRACT:
        return [Spec(name, "FP32", (-1, 3)) for name in ("sum", "difference")]
    return [Spec("y", "FP32", (-1, -1))]


def compute(model: str, version: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Compute all outputs."""
    if model in ECHOED:
        return {f"{name}-out": array for name, array in given.items()}
    if model == ADD_SUBTRACT:
        return {"sum": given["a"] + given["b"], "difference": given["a"] - given["b"]}
    return {"y": given["x"] * np.float32(FACTORS[model, version])}
