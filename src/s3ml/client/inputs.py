"""Arrays in and out: what a caller hands over becomes tensors, and tensors become arrays of the caller's own.

A numpy array travels as it is. Lists have no datatype of their own, so the model's metadata decides theirs;
nothing is converted behind a caller's back otherwise.

Source: Open Inference Protocol, "Tensor Data Types".
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from s3ml.client.errors import InvalidInputError
from s3ml.wire.oip import NUMPY_TYPES, InferResponse, OIPError, RequestedOutput, Tensor

Array = np.ndarray[Any, np.dtype[Any]]
# Which kinds of Python values each kind of datatype takes without loss of meaning.
_ACCEPTED_KINDS = {"b": "b", "u": "bui", "i": "bui", "f": "buif"}
ArrayLike = Array | Sequence[Any] | float | int | bool | str | bytes


def needs_metadata(inputs: Mapping[str, ArrayLike]) -> bool:
    """Tell whether an input has no datatype of its own."""
    return any(not isinstance(value, np.ndarray | np.generic) for value in inputs.values())


def datatypes_of(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return the datatype of each input that a model's metadata (from a verified server) declares.

    Raises:
        InvalidInputError: the metadata is malformed.
    """
    try:
        return {str(tensor["name"]): str(tensor["datatype"]) for tensor in metadata["inputs"]}
    except (KeyError, TypeError) as error:
        raise InvalidInputError("model metadata: expected inputs with name and datatype") from error


def to_tensors(inputs: Mapping[str, ArrayLike], datatypes: Mapping[str, str]) -> tuple[Tensor, ...]:
    """Return `inputs` as tensors.

    Args:
        inputs: By name; at least one.
        datatypes: What the model declares, by name; consulted for what is no numpy array.

    Raises:
        InvalidInputError: no input, a name that the model does not have, or values that are no such tensor.
    """
    if not inputs:
        raise InvalidInputError("inputs: expected at least one, got none")
    return tuple(_tensor(name, value, datatypes) for name, value in inputs.items())


def to_requested(outputs: Iterable[str] | None) -> tuple[RequestedOutput, ...]:
    """Return what is asked for; None asks for every output."""
    if isinstance(outputs, str):
        raise InvalidInputError("outputs: expected a list of names, got one text")
    return tuple(RequestedOutput(name=name) for name in outputs or ())


def to_arrays(response: InferResponse) -> dict[str, Array]:
    """Return the outputs by name, each a writable array of its own; BF16 as its raw 16 bits."""
    return {tensor.name: np.array(tensor.array) for tensor in response.outputs}


def _tensor(name: str, value: ArrayLike, datatypes: Mapping[str, str]) -> Tensor:
    try:
        if isinstance(value, np.ndarray | np.generic):
            return Tensor.from_array(name, value)
        datatype = datatypes.get(name)
        if datatype is None:
            expected = ", ".join(datatypes) or "none"
            raise InvalidInputError(f"input {name!r}: the model has no such input; expected: {expected}")
        return Tensor(name=name, datatype=datatype, array=_converted(value, datatype))
    except OIPError as error:
        raise InvalidInputError(f"input {name!r}: {error}") from error
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidInputError(
            f"input {name!r}: expected values of one shape and datatype: {error}"
        ) from error


def _converted(value: ArrayLike, datatype: str) -> Array:
    if datatype not in NUMPY_TYPES or datatype == "BF16":
        raise OIPError(f"expected a numpy array for datatype {datatype}, got a list")
    natural: Array = np.asarray(value)
    if datatype == "BYTES":
        if natural.dtype.kind not in "SU":
            raise OIPError(f"expected text or bytes, got {natural.dtype}")
        return natural
    if natural.size and natural.dtype.kind not in _ACCEPTED_KINDS[NUMPY_TYPES[datatype].kind]:
        raise OIPError(f"expected {datatype}, got values of {natural.dtype}")
    return np.asarray(value, dtype=NUMPY_TYPES[datatype])
