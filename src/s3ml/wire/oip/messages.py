"""Requests and responses as values.

Source: Open Inference Protocol, "HTTP/REST", "Inference".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from s3ml.wire.oip.datatypes import NUMPY_TYPES, Array, datatype_of
from s3ml.wire.oip.errors import OIPError

Parameters = Mapping[str, bool | int | float | str]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tensor:
    """A named array.

    Args:
        name: As the model has it.
        datatype: One of the protocol's.
        array: Of the dtype that `NUMPY_TYPES` gives; one that was decoded is read-only and may be unaligned.
        parameters: Without those that say how the tensor travels.

    Raises:
        OIPError: an unknown datatype, or an array that is not of it.
    """

    name: str
    datatype: str
    array: Array = field(repr=False)
    parameters: Parameters = field(default_factory=dict)

    def __post_init__(self) -> None:
        dtype = NUMPY_TYPES.get(self.datatype)
        if dtype is None:
            raise OIPError(
                f"{self.name}: expected a datatype of {', '.join(NUMPY_TYPES)}, got {self.datatype}"
            )
        if self.array.dtype != dtype and not (self.datatype == "BYTES" and self.array.dtype.kind in "SU"):
            raise OIPError(
                f"{self.name}: expected an array of {dtype} for {self.datatype}, got {self.array.dtype}"
            )

    @classmethod
    def from_array(cls, name: str, array: object) -> "Tensor":
        """Make a tensor of the datatype that `array` (anything numpy takes) has of itself.

        Raises:
            OIPError: the protocol has no datatype for it.
        """
        values: Array = np.asarray(array)
        datatype = datatype_of(values)
        if datatype != "BYTES":
            values = values.astype(NUMPY_TYPES[datatype], copy=False)
        return cls(name=name, datatype=datatype, array=values)

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's shape."""
        return tuple(self.array.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedOutput:
    """An output that the request asks for.

    Args:
        name: As the model has it.
        is_binary: Whether it should travel as raw bytes; None leaves that to the request.
        parameters: The others.
    """

    name: str
    is_binary: bool | None = None
    parameters: Parameters = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InferRequest:
    """A request for one inference.

    Args:
        model: From the path; empty where the path names none.
        version: From the path; None leaves the choice to the server.
        id: Echoed by the response.
        inputs: Names are unique. Empty only with `raw`.
        outputs: What is asked for; none asks for all.
        is_output_binary: Whether outputs that do not say otherwise should travel as raw bytes.
        parameters: Without those that say how the request travels.
        raw: The content of a request without JSON, which `bind_raw_input` turns into the one input.
    """

    model: str
    version: str | None = None
    id: str | None = None
    inputs: tuple[Tensor, ...]
    outputs: tuple[RequestedOutput, ...] = ()
    is_output_binary: bool = False
    parameters: Parameters = field(default_factory=dict)
    raw: memoryview | None = field(default=None, repr=False)

    def is_binary(self, output: str) -> bool:
        """Tell whether `output` should travel as raw bytes."""
        for requested in self.outputs:
            if requested.name == output and requested.is_binary is not None:
                return requested.is_binary
        return self.is_output_binary


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class InferResponse:
    """The answer to one inference."""

    model: str
    version: str | None = None
    id: str | None = None
    outputs: tuple[Tensor, ...]
    parameters: Parameters = field(default_factory=dict)
