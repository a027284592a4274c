"""magika, the file types of this repository's own files: its model is computed by our runtime."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from magika import Magika

from s3ml.bundle import Batching, Declaration
from s3ml.modelserver.runtimes import Runtime
from tests.modelserver.models.conftest import OpenPacked, assert_same_bits, plain

FILES = {
    "src/s3ml/bundle/contents.py": "python",
    "docs/glossary.md": "markdown",
    "pyproject.toml": "toml",
    "conformance/vectors/bundle.json": "json",
    "scripts/bootstrap": "shell",
    "Makefile": "makefile",
}


class Session:
    """Stands where magika has its session, and asks a runtime; remembers what was asked."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.asked: list[dict[str, Any]] = []

    def run(self, outputs: list[str], inputs: dict[str, Any]) -> list[Any]:
        arrays = {name: np.asarray(values, np.int32) for name, values in inputs.items()}
        self.asked.append(arrays)
        return self.runtime.run(arrays, outputs)


@pytest.fixture(scope="module")
def model() -> bytes:
    spec = importlib.util.find_spec("magika")
    assert spec is not None
    assert spec.origin is not None
    (path,) = (Path(spec.origin).parent / "models").glob("*/model.onnx")
    return path.read_bytes()


@pytest.fixture(scope="module")
def session(model: bytes, open_packed: OpenPacked) -> Session:
    return Session(open_packed(model, Declaration(batching=Batching(max_size=32))))


@pytest.fixture
def magika(session: Session) -> Magika:
    made = Magika()
    made._onnx_session = session
    return made


class TestMagika:
    @pytest.mark.parametrize(("name", "label"), FILES.items())
    def test_a_file_is_what_it_is(
        self, magika: Magika, session: Session, repository_root: Path, name: str, label: str
    ) -> None:
        before = len(session.asked)

        assert magika.identify_path(repository_root / name).output.label == label
        assert len(session.asked) == before + 1

    def test_an_image_is_one(self, magika: Magika, session: Session, png: bytes) -> None:
        assert magika.identify_bytes(png).output.label == "png"

    def test_outputs_are_a_plain_sessions_to_the_bit(
        self, magika: Magika, session: Session, model: bytes, repository_root: Path
    ) -> None:
        for name in FILES:
            magika.identify_path(repository_root / name)
            inputs = session.asked[-1]
            names = [one.name for one in session.runtime.outputs]
            assert_same_bits(session.runtime.run(inputs, names), plain(model, inputs))

    def test_a_batch_says_what_its_files_say_alone(self, magika: Magika, repository_root: Path) -> None:
        paths = [repository_root / name for name in FILES]
        together = magika.identify_paths(paths)
        alone = [magika.identify_path(path) for path in paths]

        assert [one.output.label for one in together] == list(FILES.values())
        for one, other in zip(together, alone, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-5)


@pytest.fixture
def png() -> bytes:
    """An image of random pixels, as small as magika still asks its model about."""
    import struct
    import zlib

    pixels = np.random.default_rng(1).integers(0, 255, (64, 193), np.uint8)
    pixels[:, 0] = 0
    body = b"\x89PNG\r\n\x1a\n"
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(pixels.tobytes())),
        (b"IEND", b""),
    )
    for kind, data in chunks:
        body += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return body
