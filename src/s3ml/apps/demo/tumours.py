"""The demonstration's model: breast tumours told apart by real clinical measurements.

Data: Breast Cancer Wisconsin (Diagnostic), 569 cases of 30 measurements, bundled with scikit-learn
(`sklearn.datasets.load_breast_cancer`). A third is held out, stratified, with a fixed seed.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from s3ml.primitives.files import write_atomically

SEED = 20260
HELD_OUT = 1 / 3
HIDDEN_UNITS = (64, 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tumours:
    """A trained classifier, exported, with what it has never seen.

    Attributes:
        onnx: The model file's bytes; input ``x`` of shape (n, 30) FP32, outputs ``label`` (n,) INT64 and
            ``probabilities`` (n, 2) FP32.
        rows: Held-out inputs, shape (190, 30), FP32.
        labels: Their diagnoses, shape (190,), 0 malignant, 1 benign.
        weights: Every weight tensor of the network, for the search of what the operator could see.
        accuracy: Share of held-out rows that the scikit-learn model classifies as diagnosed.
    """

    onnx: bytes
    rows: NDArray[np.float32]
    labels: NDArray[np.int64]
    weights: tuple[NDArray[np.float32], ...]
    accuracy: float

    def write(self, folder: Path) -> Path:
        """Write the plaintext model where only its owner works, and return its path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "tumours.onnx"
        write_atomically(path, self.onnx, mode=0o600)
        return path


def train() -> Tumours:
    """Train on two thirds, export to ONNX, keep the rest."""
    from onnx import load_from_string, numpy_helper  # noqa: PLC0415 - heavy, and for the demonstration only
    from skl2onnx import to_onnx  # noqa: PLC0415
    from sklearn.datasets import load_breast_cancer  # noqa: PLC0415
    from sklearn.model_selection import train_test_split  # noqa: PLC0415
    from sklearn.neural_network import MLPClassifier  # noqa: PLC0415
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415

    data, target = load_breast_cancer(return_X_y=True)
    seen, held_out, seen_labels, labels = train_test_split(
        data.astype(np.float32), target, test_size=HELD_OUT, random_state=SEED, stratify=target
    )
    model = make_pipeline(
        StandardScaler(), MLPClassifier(HIDDEN_UNITS, max_iter=400, alpha=1e-2, random_state=SEED)
    )
    model.fit(seen, seen_labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = to_onnx(
            model, seen[:1], options={"zipmap": False}, initial_types=None, target_opset=17, name="tumours"
        )
    for value in (*exported.graph.input, *exported.graph.output):
        _rename(exported.graph, value.name, {"X": "x"}.get(value.name, value.name))
    onnx = exported.SerializeToString()
    weights = tuple(
        array.astype(np.float32)
        for array in map(numpy_helper.to_array, load_from_string(onnx).graph.initializer)
        if array.dtype.kind == "f" and array.size >= HIDDEN_UNITS[-1]
    )
    return Tumours(
        onnx=onnx,
        rows=np.ascontiguousarray(held_out),
        labels=labels.astype(np.int64),
        weights=weights,
        accuracy=float(model.score(held_out, labels)),
    )


def _rename(graph: object, old: str, new: str) -> None:
    """Rename a value of an ONNX graph wherever it is named."""
    for value in (*graph.input, *graph.output):  # type: ignore[attr-defined]
        if value.name == old:
            value.name = new
    for node in graph.node:  # type: ignore[attr-defined]
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
