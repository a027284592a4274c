"""Models small enough to build in a moment."""

import errno
import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyrage
import pytest
from onnx import TensorProto, helper, numpy_helper

from s3ml.bundle import EncryptedPayload, ModelFiles, decrypt_payload, encrypt_payload
from s3ml.bundle.archive import END, Member, encode_header, padding_bytes

NUMBERS = np.arange(6, dtype=np.float32).reshape(3, 2)


def silent(_done: int, _total: int) -> None:
    """Take progress and show nothing."""


def make_model(extra_nodes: tuple[Any, ...] = (), **graph: Any) -> Any:
    weights = numpy_helper.from_array(NUMBERS, "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"]), *extra_nodes]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])]
    built = helper.make_graph(nodes, "graph", inputs, outputs, [weights], **graph)
    return helper.make_model(built, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def tar(*members: tuple[str, bytes], end: bytes = END) -> bytes:
    """Join members the way a payload does."""
    parts = []
    for name, content in members:
        header = encode_header(Member(name=name, size_bytes=len(content)))
        parts.append(header + content + bytes(padding_bytes(len(content))))
    return b"".join(parts) + end


@dataclass
class Packed:
    """A payload in memory, with what its owner would sign."""

    payload: bytes
    identity: str
    sha256: str

    def open(self, **changes: Any) -> ModelFiles:
        stated: dict[str, Any] = {
            "stream": io.BytesIO(self.payload),
            "identity": self.identity,
            "expected_sha256": self.sha256,
            "expected_bytes": len(self.payload),
            "limit_bytes": 1 << 20,
        }
        stated.update(changes)
        return decrypt_payload(stated.pop("stream"), stated.pop("identity"), **stated)


@pytest.fixture
def model_bytes() -> bytes:
    data: bytes = make_model().SerializeToString()
    return data


@pytest.fixture
def model_file(tmp_path: Path, model_bytes: bytes) -> Path:
    path = tmp_path / "tumours.onnx"
    path.write_bytes(model_bytes)
    return path


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A model with its weights in a file of their own."""
    folder = tmp_path / "model"
    folder.mkdir()
    onnx.save_model(
        make_model(), folder / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0
    )
    return folder


@pytest.fixture
def pack(tmp_path: Path) -> Callable[[Path], Packed]:
    """Encrypt a source and return everything about it."""

    def encrypt(source: Path) -> Packed:
        destination = tmp_path / "payload.age"
        made: EncryptedPayload = encrypt_payload(source, destination, progress=silent)
        return Packed(payload=destination.read_bytes(), identity=made.identity, sha256=made.sha256)

    return encrypt


@pytest.fixture
def packed(pack: Callable[[Path], Packed], model_folder: Path) -> Packed:
    return pack(model_folder)


@pytest.fixture
def forge() -> Callable[[bytes], Packed]:
    """Encrypt any plaintext as whoever knew the recipient could."""

    def encrypt(plaintext: bytes) -> Packed:
        identity = pyrage.x25519.Identity.generate()
        payload = pyrage.encrypt(plaintext, [identity.to_public()])
        return Packed(payload=payload, identity=str(identity), sha256=hashlib.sha256(payload).hexdigest())

    return encrypt


@pytest.fixture
def refuse_reading(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Make every file unreadable, for root too."""

    def refuse() -> None:
        def denied(*_arguments: object, **_named: object) -> object:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(Path, "open", denied)

    return refuse
