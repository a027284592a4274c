"""From scikit-learn to ONNX, believed only where both say the same on the owner's own samples.

Every output of the ONNX model is compared, on every sample, with what the source model says: text and whole
numbers with `predict`, exactly; other numbers with that method of the source that they come closest to,
within a tolerance. The ONNX model computes in the runtime that will serve it, in FP32 as skl2onnx converts.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s3ml.apps.packing.estimator import missing_extra
from s3ml.bundle import ListedFile, ModelConfig, ModelFiles
from s3ml.modelserver.runtimes import ModelUnusableError, Runtime, RuntimeRefusedError, open_model
from s3ml.primitives.errors import ConfigurationError

TOLERANCE = 1e-4
# Old enough for every operator that skl2onnx emits to have a kernel in ONNX Runtime 1.24.
_OPSETS = {"": 17, "ai.onnx.ml": 3}
_METHODS = ("predict_proba", "decision_function", "transform", "score_samples", "predict")

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One output of the converted model beside its source.

    Args:
        output: Its name.
        method: What it was compared with.
        difference: The largest, relative where the source's number is above 1; of labels the share that
            differs.
        is_exact: Whether these are labels, of which none may differ.
    """

    output: str
    method: str
    difference: float
    is_exact: bool

    def is_within(self, tolerance: float) -> bool:
        """Tell whether the output says what the source says."""
        return self.difference <= (0 if self.is_exact else tolerance)

    def describe(self, tolerance: float) -> str:
        """Say for people how the two compare."""
        if self.is_exact:
            return f"{self.output}: {self.difference:.2%} of the samples are not what {self.method} says"
        figures = f"up to {self.difference:.3g} (allowed: {tolerance:g})"
        return f"{self.output}: differs from {self.method} by {figures}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """An ONNX model that says what its source says.

    Args:
        onnx: The serialised model.
        rows: How many samples were compared.
        compared: Every output.
    """

    onnx: bytes = field(repr=False)
    rows: int
    compared: tuple[Compared, ...]


def convert(model: Any, samples: Array, *, path: Path, tolerance: float = TOLERANCE) -> Conversion:
    """Convert a fitted scikit-learn model and compare the result with it.

    Args:
        model: Takes rows of numbers.
        samples: At least one row, shape (rows, features); rows that are typical, and some near the edges.
        path: Where the model came from, for messages.
        tolerance: The largest difference that is accepted, absolute for numbers up to 1, relative above.

    Raises:
        ConfigurationError: skl2onnx cannot convert it, either model cannot be evaluated on the samples, or
            they differ; with figures.
    """
    rows = check_samples(samples, path=path)
    expected = _evaluate(model, rows, path=path)
    onnx = _to_onnx(model, rows, path=path)
    compared = compare(_compute(onnx, rows, path=path), expected, path=path, tolerance=tolerance)
    return Conversion(onnx=onnx, rows=len(rows), compared=compared)


def check_samples(samples: Array, *, path: Path) -> Array:
    """Return samples in FP32.

    Raises:
        ConfigurationError: they are no rows of numbers, or not finite in FP32.
    """
    if samples.ndim != 2 or not samples.size or samples.dtype.kind not in "fiub":  # noqa: PLR2004
        raise ConfigurationError(
            f"{path}: samples: expected rows of numbers, got {samples.dtype} of shape {list(samples.shape)}"
        )
    with np.errstate(over="ignore"):
        rows = np.ascontiguousarray(samples, np.float32)
    if not np.isfinite(rows).all():
        raise ConfigurationError(f"{path}: samples: expected numbers that are finite in FP32")
    return rows


def compare(
    got: Mapping[str, Array], expected: Mapping[str, Array], *, path: Path, tolerance: float
) -> tuple[Compared, ...]:
    """Compare every output with the source.

    Args:
        got: By output.
        expected: By method of the source.
        path: For messages.
        tolerance: As for `convert`.

    Raises:
        ConfigurationError: an output says something else; all of them are named, with figures.
    """
    compared = tuple(_compare(name, array, expected) for name, array in got.items())
    problems = [one.describe(tolerance) for one in compared if not one.is_within(tolerance)]
    if problems:
        raise ConfigurationError(f"{path}: the ONNX model differs from its source: {'; '.join(problems)}")
    return compared


def _compare(name: str, got: Array, expected: Mapping[str, Array]) -> Compared:
    if got.dtype.kind != "f":
        share = _share(got, expected.get("predict"))
        return Compared(output=name, method="predict", difference=share, is_exact=True)
    distances = {method: _distance(got, other) for method, other in expected.items()}
    closest = min(distances, key=distances.__getitem__)
    return Compared(output=name, method=closest, difference=distances[closest], is_exact=False)


def _evaluate(model: Any, rows: Array, *, path: Path) -> dict[str, Array]:
    """Return what the source says, by method; scores of two classes as one column each."""
    answers: dict[str, Array] = {}
    for method in _METHODS:
        if (function := getattr(model, method, None)) is not None:
            answers[method] = _ask(function, rows, what=f"{path}: {method}")
    scores = answers.get("decision_function")
    if scores is not None and scores.ndim == 1 and "predict_proba" not in answers:
        answers["decision_function of both classes"] = np.stack([-scores, scores], axis=1)
    if not answers:
        raise ConfigurationError(f"{path}: expected a model that predicts or transforms")
    return answers


def _ask(function: Callable[[Array], Any], rows: Array, *, what: str) -> Array:
    """Ask the source, in FP64 as most are fitted, or else in FP32; the numbers are the same."""
    for given in (rows.astype(np.float64), rows):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return np.asarray(function(given))
        except Exception as error:  # noqa: BLE001 - whatever the model raises
            last = error
    raise ConfigurationError(f"{what} fails on the samples: {last}") from last


def _to_onnx(model: Any, rows: Array, *, path: Path) -> bytes:
    try:
        from skl2onnx import to_onnx  # noqa: PLC0415 - heavy, and in an extra
    except ImportError as error:
        raise missing_extra(path) from error
    # Classifiers give a list of maps unless told otherwise; models that are none do not know the option.
    for options in ({"zipmap": False}, None):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                converted = to_onnx(model, rows[:1], options=options, target_opset=_OPSETS)
                data: bytes = converted.SerializeToString()
                return data
        except Exception as error:  # noqa: BLE001 - skl2onnx raises whatever went wrong within
            last = error
    reason = " ".join(str(last.__cause__ or last).split())[:200]
    raise ConfigurationError(f"{path}: skl2onnx cannot convert it: {reason}") from last


def _compute(onnx: bytes, rows: Array, *, path: Path) -> dict[str, Array]:
    listed = (ListedFile(name="model.onnx", size_bytes=len(onnx), sha256="0" * 64),)
    files = ModelFiles(config=ModelConfig(runtime="onnx", files=listed), files={"model.onnx": onnx})
    try:
        runtime: Runtime = open_model(files)
        names = [spec.name for spec in runtime.outputs]
        return dict(zip(names, runtime.run({runtime.inputs[0].name: rows}, names), strict=True))
    except (ModelUnusableError, RuntimeRefusedError) as error:
        raise ConfigurationError(f"{path}: its ONNX model cannot be used: {error}") from error


def _share(got: Array, expected: Array | None) -> float:
    """Return the share of labels that differ."""
    if expected is None or got.size != expected.size:
        return 1.0
    labels: list[Any] = [
        label.decode() if isinstance(label, bytes) else label for label in got.ravel().tolist()
    ]
    differing = [a for a, b in zip(labels, expected.ravel().tolist(), strict=True) if a != b]
    return len(differing) / len(labels)


def _distance(got: Array, expected: Array) -> float:
    """Return the largest difference, relative above 1; infinite where the two cannot be compared."""
    if expected.dtype.kind not in "fiub" or got.size != expected.size:
        return np.inf
    wanted = np.asarray(expected, np.float64).reshape(got.shape)
    distance = np.abs(np.asarray(got, np.float64) - wanted) / np.maximum(1, np.abs(wanted))
    largest: float = np.nan_to_num(distance, nan=np.inf, posinf=np.inf).max()
    return float(largest)
