"""A plaintext model as the repository hands it to the runtime, without the bundle around it."""

import hashlib
from pathlib import Path
from types import MappingProxyType

from s3ml.bundle import ListedFile, ModelConfig, ModelFiles
from s3ml.bundle.contents import MODEL_NAMES


def model_files(path: Path) -> ModelFiles:
    """Return what opening a bundle of this ``.onnx`` file would give."""
    data = path.read_bytes()
    listed = ListedFile(
        name=MODEL_NAMES["onnx"], size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest()
    )
    config = ModelConfig(runtime="onnx", files=(listed,))
    return ModelFiles(config=config, files=MappingProxyType({listed.name: data}))
