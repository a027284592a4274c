"""What a caller hands over, as the tensors that it becomes.

A numpy array travels as it is. Lists and tables have no datatype of their own, so the model's metadata
decides theirs; nothing is converted behind a caller's back otherwise.

Source: Open Inference Protocol, "Tensor Data Types".
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from s3ml.client.bfloat16 import BFloat16
from s3ml.client.errors import InvalidInputError
from s3ml.client.frames import Column, Frame, column_values, is_column, is_frame, is_plain, split_frame
from s3ml.wire.oip import NUMPY_TYPES, OIPError, RequestedOutput, Tensor

Array = np.ndarray[Any, np.dtype[Any]]
# Which kinds of Python values each kind of datatype takes without loss of meaning.
_ACCEPTED_KINDS = {"b": "b", "u": "bui", "i": "bui", "f": "buif"}
_TABLE_RANK = 2
ArrayLike = Array | BFloat16 | Frame | Column | Sequence[Any] | float | int | bool | str | bytes
Inputs = Mapping[str, ArrayLike] | Frame


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredInput:
    """What a model's metadata says of an input; -1 in `shape` is a dimension that varies."""

    datatype: str
    shape: tuple[int, ...]


def needs_metadata(inputs: Inputs) -> bool:
    """Tell whether an input has no datatype of its own."""
    return is_frame(inputs) or any(
        not isinstance(value, np.ndarray | np.generic | BFloat16) for value in _by_name(inputs).values()
    )


def declared_inputs(metadata: Mapping[str, Any]) -> dict[str, DeclaredInput]:
    """Return each input that a model's metadata (from a verified server) declares.

    Raises:
        InvalidInputError: the metadata is malformed.
    """
    try:
        return {
            str(tensor["name"]): DeclaredInput(
                datatype=str(tensor["datatype"]), shape=tuple(map(int, tensor["shape"]))
            )
            for tensor in metadata["inputs"]
        }
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInputError("model metadata: expected inputs with name, datatype and shape") from error


def to_tensors(inputs: Inputs, declared: Mapping[str, DeclaredInput]) -> tuple[Tensor, ...]:
    """Return `inputs` as tensors.

    Args:
        inputs: By name; at least one. Or a data frame, see `split_frame`.
        declared: What the model declares, by name; consulted for what has no datatype of its own.

    Raises:
        InvalidInputError: no input, a name that the model does not have, or values that are no such tensor.
    """
    named = split_frame(inputs, declared) if is_frame(inputs) else _by_name(inputs)
    if not named:
        raise InvalidInputError("inputs: expected at least one, got none")
    return tuple(_tensor(name, value, declared) for name, value in named.items())


def to_requested(outputs: Iterable[str] | None) -> tuple[RequestedOutput, ...]:
    """Return what is asked for; None asks for every output."""
    if isinstance(outputs, str):
        raise InvalidInputError("outputs: expected a list of names, got one text")
    return tuple(RequestedOutput(name=name) for name in outputs or ())


def _by_name(inputs: Inputs) -> Mapping[str, ArrayLike]:
    if not isinstance(inputs, Mapping):
        raise InvalidInputError(
            f"inputs: expected a mapping of names to arrays, or a data frame, got {type(inputs).__name__}"
        )
    return inputs


def _tensor(name: str, value: ArrayLike, declared: Mapping[str, DeclaredInput]) -> Tensor:
    try:
        if isinstance(value, BFloat16):
            return Tensor(name=name, datatype="BF16", array=value.bits)
        if isinstance(value, np.ndarray | np.generic):
            return _own(name, np.asarray(value))
        expected = declared.get(name)
        if expected is None:
            known = ", ".join(declared) or "none"
            raise InvalidInputError(f"input {name!r}: the model has no such input; expected: {known}")
        if is_frame(value) or is_column(value):
            array = _table(value, expected)
        else:
            array = _converted(value, expected.datatype)
        return Tensor(name=name, datatype=expected.datatype, array=array)
    except OIPError as error:
        raise InvalidInputError(f"input {name!r}: {error}") from None
    except (ValueError, TypeError, OverflowError):
        # The library's own message may quote values.
        raise InvalidInputError(f"input {name!r}: expected values of one shape and datatype") from None


def _own(name: str, array: Array) -> Tensor:
    """Return an array as it is; the dtype that ml_dtypes calls bfloat16 is BF16."""
    if array.dtype.name == "bfloat16":
        return Tensor(name=name, datatype="BF16", array=array.view(np.uint16))
    if array.dtype.kind == "O":
        _check_bytes(array)
    return Tensor.from_array(name, array)


def _table(value: Frame | Column, expected: DeclaredInput) -> Array:
    """Return rows, or one column, in the shape that the model declares."""
    rank = len(expected.shape)
    if is_column(value):
        array = _column(value, expected.datatype)
    elif is_frame(value) and len(value.columns) == 1:
        array = _column(value.iloc[:, 0], expected.datatype)
    else:
        array = _rows(cast("Frame", value), expected.datatype)
    if array.ndim == 1 and rank == _TABLE_RANK:
        array = array.reshape(-1, 1)
    if array.ndim == _TABLE_RANK and rank == 1 and array.shape[1] == 1:
        array = array.reshape(-1)
    fits = array.ndim == rank and all(
        wanted in (-1, got) for wanted, got in zip(expected.shape, array.shape, strict=True)
    )
    if not fits:
        raise OIPError(
            f"expected a table that makes {expected.datatype} {list(expected.shape)} (-1 varies), "
            f"got one of {list(array.shape)}"
        )
    return array


def _rows(frame: Frame, datatype: str) -> Array:
    """Return the rows of several columns, each of which makes one number or text a row."""
    if is_plain(frame):
        # All at once; where that fails, the columns one by one say which of them is wrong.
        with suppress(OIPError):
            return _converted(frame.to_numpy(), datatype)
    columns = [_column(frame.iloc[:, place], datatype) for place in range(len(frame.columns))]
    if any(column.ndim != 1 for column in columns):
        raise OIPError("expected a number or a text in each cell of a table with several columns")
    return np.stack(columns, axis=1) if columns else np.empty((len(frame.index), 0))


def _column(column: Column, datatype: str) -> Array:
    kind = NUMPY_TYPES[datatype].kind if datatype in NUMPY_TYPES else ""
    values = column_values(column, is_float=kind == "f" or datatype == "BF16")
    try:
        return _converted(values, datatype)
    except OIPError as error:
        raise OIPError(f"column {str(column.name)[:80]!r}: {error}") from None


def _converted(value: Any, datatype: str) -> Array:
    """Return values as an array of `datatype`, where that changes nothing but their width."""
    if datatype not in NUMPY_TYPES:
        raise OIPError(f"expected a datatype of {', '.join(NUMPY_TYPES)}, got {datatype[:40]!r}")
    if datatype == "BYTES":
        texts: Array = np.asarray(value, dtype=np.object_)
        _check_bytes(texts)
        return texts
    natural: Array = np.asarray(value)
    target = np.dtype(np.float32) if datatype == "BF16" else NUMPY_TYPES[datatype]
    if natural.size and natural.dtype.kind not in _ACCEPTED_KINDS[target.kind]:
        raise OIPError(f"expected {datatype}, got values of {natural.dtype}")
    if datatype == "BF16":
        return BFloat16.from_floats(_cast(natural, target, datatype)).bits
    return _cast(natural, target, datatype)


def _cast(natural: Array, target: np.dtype[Any], datatype: str) -> Array:
    """Return `natural` as `target`; a number that it cannot hold neither wraps nor becomes infinite."""
    fits = True
    if natural.size and natural.dtype.kind in "iu" and target.kind in "iu":
        bounds = np.iinfo(target)
        fits = bool(natural.min() >= bounds.min and natural.max() <= bounds.max)
    try:
        with np.errstate(over="raise"):
            cast = natural.astype(target, copy=False)
    except FloatingPointError:
        fits = False
    if not fits:
        raise OIPError(f"expected values within the range of {datatype}")
    return cast


def _check_bytes(array: Array) -> None:
    for element in array.ravel().tolist():
        if not isinstance(element, str | bytes):
            raise OIPError(f"expected text or bytes, got {type(element).__name__}")
