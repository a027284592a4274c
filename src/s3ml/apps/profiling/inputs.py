"""What a model is fed while it is measured: random arrays of given sizes, or rows of samples.

Random floats lie in [0, 1). Random integers are 0 or 1, so that they are valid as a token, an index or a
mask; random text is one short word.
"""

import io
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3ml.apps.profiling.messages import Declared
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.files import read_limited
from s3ml.primitives.units import GIB, MIB
from s3ml.wire.oip import NUMPY_TYPES

Array = NDArray[Any]
Shapes = Mapping[str, tuple[int, ...]]

SAMPLES_LIMIT_BYTES = 512 * MIB
INPUT_LIMIT_BYTES = 4 * GIB
_SEED = 20260
_ANY = -1
_TEXT = b"sample"


@dataclass(frozen=True, slots=True, kw_only=True)
class Feeding:
    """Which sizes the inputs have at batch 1, and whether more rows may be asked for."""

    shapes: Shapes
    is_batched: bool


def plan_feeding(inputs: Sequence[Declared], given: Shapes, *, is_batchable: bool) -> Feeding:
    """Settle the sizes of all inputs from what the model declares and what somebody gave.

    Args:
        inputs: As the model declares them.
        is_batchable: Whether their first dimension, which varies, counts rows: it is 1 where not given.
        given: Whole shapes by name, the first dimension included.

    Raises:
        ConfigurationError: a name that the model does not have, a shape that contradicts the model's, or a
            dimension that varies and was not given.
    """
    names = [one.name for one in inputs]
    if unknown := sorted(given.keys() - set(names)):
        raise ConfigurationError(f"inputs: the model takes {', '.join(names)}, not {unknown[0][:100]}")
    shapes = {one.name: _settle(one, given.get(one.name), is_batchable=is_batchable) for one in inputs}
    return Feeding(shapes=MappingProxyType(shapes), is_batched=is_batchable)


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """Parse ``NAME=1,3,224,224``.

    Raises:
        ConfigurationError: it has another form, or a size below 1.
    """
    name, separator, sizes = text.rpartition("=")
    parts = [part.strip() for part in sizes.split(",")]
    if not separator or not name or not all(part.isdecimal() and 0 < int(part) < 2**31 for part in parts):
        raise ConfigurationError(f"--shape: expected NAME=1,3,224,224, got {text[:80]!r}")
    return name, tuple(map(int, parts))


def read_samples(path: Path) -> dict[str, Array]:
    """Read named arrays from an ``.npz`` file.

    Raises:
        ConfigurationError: it cannot be read, is too large, or holds anything but plain arrays.
    """
    data = read_limited(path, limit_bytes=SAMPLES_LIMIT_BYTES, what="samples")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, TypeError, AttributeError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ConfigurationError(
            f"samples {path}: expected an .npz of plain arrays, one for each input by its name"
        ) from error


def check_samples(samples: Mapping[str, Array], inputs: Sequence[Declared]) -> Shapes:
    """Return the shapes of samples of which there is one array for each input.

    Raises:
        ConfigurationError: an input has none, or an array is of another kind than its input.
    """
    for one in inputs:
        array = samples.get(one.name)
        if array is None:
            told = ", ".join(sorted(samples)) or "none"
            raise ConfigurationError(f"samples: expected an array {one.name}, got {told}")
        if array.size == 0:
            raise ConfigurationError(f"samples: {one.name}: expected at least one row, got none")
        _as_datatype(array, one)
    return {name: array.shape for name, array in samples.items()}


def make_feeds(
    inputs: Sequence[Declared], feeding: Feeding, *, batch: int, samples: Mapping[str, Array] | None
) -> dict[str, Array]:
    """Return what one run is fed.

    Args:
        inputs: As the model declares them.
        feeding: Their sizes.
        batch: How many rows; counts for batched models alone.
        samples: Rows to take, the first ones again where there are too few; random ones where None.

    Raises:
        ConfigurationError: more memory is needed than an input may have.
    """
    generator = np.random.default_rng(_SEED)
    feeds = {}
    for one in inputs:
        shape = feeding.shapes[one.name]
        if feeding.is_batched:
            shape = (batch, *shape[1:])
        if math.prod(shape) * NUMPY_TYPES[one.datatype].itemsize > INPUT_LIMIT_BYTES:
            raise ConfigurationError(f"inputs: {one.name}: expected at most 4 GiB, got {list(shape)}")
        if samples is None:
            feeds[one.name] = _random(generator, one.datatype, shape)
        else:
            rows = _as_datatype(samples[one.name], one)
            if feeding.is_batched:
                rows = rows[np.arange(batch) % len(rows)]
            feeds[one.name] = np.ascontiguousarray(rows)
    return feeds


def _settle(declared: Declared, given: tuple[int, ...] | None, *, is_batchable: bool) -> tuple[int, ...]:
    """Return the whole shape of an input at batch 1 (or as given)."""
    wanted = declared.shape
    if given is None:
        fixed = (1, *wanted[1:]) if is_batchable else wanted
        if _ANY in fixed:
            sizes = ",".join("?" if size == _ANY else str(size) for size in fixed)
            raise ConfigurationError(
                f"inputs: {declared.name} has dimensions of any size: say which with "
                f"--shape {declared.name}={sizes} (a size for each ?), or give --samples"
            )
        return fixed
    fits = len(given) == len(wanted) and all(w in {_ANY, g} for w, g in zip(wanted, given, strict=True))
    if not fits:
        raise ConfigurationError(
            f"inputs: {declared.name}: expected the shape {list(wanted)}, where -1 is any size, "
            f"got {list(given)}"
        )
    return given


def _random(generator: np.random.Generator, datatype: str, shape: tuple[int, ...]) -> Array:
    dtype = NUMPY_TYPES[datatype]
    if datatype == "BYTES":
        return np.full(shape, _TEXT, dtype=np.object_)
    if dtype.kind == "f":
        return generator.random(shape, dtype=np.float32).astype(dtype)
    return generator.integers(0, 2, shape, dtype=np.uint8).astype(dtype)


def _as_datatype(array: Array, declared: Declared) -> Array:
    """Return samples as the runtime wants them; numbers change their width, never their kind."""
    wanted = NUMPY_TYPES[declared.datatype]
    if declared.datatype == "BYTES":
        if array.dtype.kind not in "SU":
            raise ConfigurationError(f"samples: {declared.name}: expected text, got {array.dtype}")
        texts = array if array.dtype.kind == "S" else np.char.encode(array, "utf-8")
        elements: Array = texts.astype(np.object_)
        return elements
    if not np.can_cast(array.dtype, wanted, casting="same_kind"):
        raise ConfigurationError(
            f"samples: {declared.name}: expected {declared.datatype} or alike, got {array.dtype}"
        )
    return array.astype(wanted)
