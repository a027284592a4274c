"""Models on their whole way: tried, packed, encrypted, opened by the bundle's own code, computed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest

from s3ml.apps.packing.tried import try_model
from s3ml.bundle import Declaration, ModelFiles, decrypt_payload, encrypt_payload
from s3ml.modelserver.runtimes import Runtime, open_model
from s3ml.primitives.units import GIB

Array = npt.NDArray[Any]
OpenPacked = Callable[..., Runtime]


def plain(model: bytes, inputs: dict[str, Array]) -> list[Array]:
    """Compute with a session of ONNX Runtime as its documentation makes one, on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return [np.asarray(one) for one in session.run(None, inputs)]


def assert_same_bits(got: list[Array], expected: list[Array]) -> None:
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.tobytes() == other.tobytes()


@pytest.fixture(scope="session")
def open_packed(tmp_path_factory: pytest.TempPathFactory) -> OpenPacked:
    """Try, pack and open a model, as its owner and then the model server do."""

    def through(model: bytes, declaration: Declaration | None = None) -> Runtime:
        folder = tmp_path_factory.mktemp("packed")
        source, payload = folder / "model", folder / "payload.age"
        source.write_bytes(model)
        declared = try_model(source, declaration or Declaration()).declaration
        encrypted = encrypt_payload(
            source, payload, progress=lambda _done, _total: None, declaration=declared
        )
        source.unlink()
        with payload.open("rb") as stream:
            files: ModelFiles = decrypt_payload(
                stream,
                encrypted.identity,
                expected_sha256=encrypted.sha256,
                expected_bytes=encrypted.size_bytes,
                limit_bytes=GIB,
            )
        payload.unlink()
        assert files.config.inputs == declared.inputs != ()
        return open_model(files)

    return through


@pytest.fixture(scope="session")
def repository_root() -> Path:
    return Path(__file__).parents[3]
