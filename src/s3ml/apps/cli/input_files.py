"""Inputs from files: CSV rows, NumPy arrays, Open Inference Protocol requests."""

import contextlib
import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.files import read_limited
from s3ml.primitives.units import MIB
from s3ml.wire.oip import OIPError, decode_infer_request

_LIMIT_BYTES = 64 * MIB

Array = NDArray[Any]


def read_inputs(path: Path) -> Array | dict[str, Array]:
    """Read what a file holds: one unnamed array, or named ones from a request.

    Raises:
        ConfigurationError: another kind of file, or one that does not hold what its ending says.
    """
    data = read_limited(path, limit_bytes=_LIMIT_BYTES, what="input")
    match path.suffix.lower():
        case ".csv":
            return rows_from_csv(path, data)
        case ".npy":
            try:
                array: Array = np.load(io.BytesIO(data), allow_pickle=False)
            except (ValueError, EOFError, OSError) as error:
                raise ConfigurationError(f"input {path}: is no .npy array of plain numbers") from error
            return array
        case ".json":
            try:
                request = decode_infer_request(data, None)
            except OIPError as error:
                raise ConfigurationError(f"input {path}: {error}") from error
            return {given.name: given.array for given in request.inputs}
    raise ConfigurationError(f"input {path}: expected a file that ends in .csv, .npy or .json")


def rows_from_csv(path: Path, data: bytes) -> Array:
    """Read rows of numbers, shape (rows, columns), FP64; a first row that is none is taken for a heading.

    Raises:
        ConfigurationError: no UTF-8, no row of numbers, a row that is none, or rows of different length.
    """
    try:
        rows = [row for row in csv.reader(io.StringIO(data.decode("utf-8-sig"))) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigurationError(f"input {path}: is no CSV in UTF-8: {error}") from error
    numbers: list[list[float]] = []
    for line, row in enumerate(rows, 1):
        with contextlib.suppress(ValueError):
            numbers.append([float(cell) for cell in row])
            continue
        if line > 1:
            raise ConfigurationError(
                f"input {path}: row {line}: expected numbers, got {','.join(row)[:60]!r}"
            )
    if not numbers:
        raise ConfigurationError(f"input {path}: expected at least one row of numbers")
    if len({len(row) for row in numbers}) > 1:
        raise ConfigurationError(f"input {path}: expected rows of equal length")
    return np.asarray(numbers, dtype=np.float64)
