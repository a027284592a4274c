"""Small models of every kind on disk."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.modelserver.conftest import linear
from tests.modelserver.litert_models import linear as linear_litert

ROWS = np.random.default_rng(7).normal(size=(60, 4))
LABELS = (ROWS[:, 0] > ROWS[:, 1]).astype(np.int64)


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    path = tmp_path / "tumours.onnx"
    path.write_bytes(linear())
    return path


@pytest.fixture
def litert_file(tmp_path: Path) -> Path:
    path = tmp_path / "tumours.tflite"
    path.write_bytes(linear_litert())
    return path


@pytest.fixture
def samples(tmp_path: Path) -> Path:
    path = tmp_path / "rows.npy"
    np.save(path, ROWS)
    return path


@pytest.fixture
def classifier() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression().fit(ROWS, LABELS)


@pytest.fixture
def saved(tmp_path: Path, classifier: Any) -> Callable[[str], Path]:
    """Save a classifier under a name, in the form that its ending says."""

    def save(name: str, model: Any = classifier) -> Path:
        import joblib
        import skops.io

        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        (skops.io.dump if path.suffix == ".skops" else joblib.dump)(model, path)
        return path

    return save
