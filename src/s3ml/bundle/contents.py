"""What lies inside a payload: ``files.json`` first, then the files that it lists, in its order."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Literal

import msgspec

from s3ml.bundle.archive import MEMBER_LIMIT_BYTES, NAME_PATTERN
from s3ml.bundle.errors import BundleMalformedError
from s3ml.primitives.names import DIGEST_PATTERN
from s3ml.primitives.units import MIB

MANIFEST_NAME = "manifest.json"
PAYLOAD_NAME = "payload.age"
LISTING_NAME = "files.json"
LISTING_LIMIT_BYTES = MIB
FILES_LIMIT = 1024
MODEL_NAME = "model.onnx"


class ListedFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of a payload: its name, its size and the hexadecimal SHA-256 of its bytes."""

    name: Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]
    size_bytes: Annotated[int, msgspec.Meta(ge=0, le=MEMBER_LIMIT_BYTES)]
    sha256: Annotated[str, msgspec.Meta(pattern=DIGEST_PATTERN)]


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of ``files.json``: which runtime serves the model, and its files."""

    version: Literal[1] = 1
    runtime: Literal["onnx"]
    files: Annotated[tuple[ListedFile, ...], msgspec.Meta(min_length=1, max_length=FILES_LIMIT)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """A decrypted model, in memory only; its `repr` shows names, never contents."""

    config: ModelConfig
    files: Mapping[str, bytes] = field(repr=False)

    @property
    def model(self) -> bytes:
        """The bytes of ``model.onnx``."""
        return self.files[MODEL_NAME]

    @property
    def external(self) -> Mapping[str, bytes]:
        """The other files: the only place where the model's external data may lie."""
        return MappingProxyType({name: data for name, data in self.files.items() if name != MODEL_NAME})


def encode_listing(config: ModelConfig) -> bytes:
    """Return ``files.json``."""
    return msgspec.json.encode(config)


def parse_listing(data: bytes) -> ModelConfig:
    """Parse ``files.json``.

    Raises:
        BundleMalformedError: unknown fields, another version or runtime, a name twice, or no model.
    """
    try:
        config = msgspec.json.decode(data, type=ModelConfig)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleMalformedError(f"bundle: {LISTING_NAME}: {error}") from error
    names = [file.name for file in config.files]
    if len(set(names)) != len(names) or LISTING_NAME in names:
        raise BundleMalformedError(f"bundle: {LISTING_NAME} names a file twice, or itself")
    if MODEL_NAME not in names:
        raise BundleMalformedError(f"bundle: {LISTING_NAME} names no {MODEL_NAME}")
    return config
