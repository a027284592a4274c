"""What lies inside a payload: ``files.json`` first, then the files that it lists, in its order.

Besides the files the listing says how the model wants to be served. All of it is the owner's word: whoever
opens the model compares what it declares with the model itself.

Source: docs/spec/bundle.md, section "The listing".
"""

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
TENSORS_LIMIT = 64

RuntimeName = Literal["onnx", "litert"]
MODEL_NAMES: Mapping[RuntimeName, str] = MappingProxyType({"onnx": "model.onnx", "litert": "model.tflite"})

Datatype = Literal[
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "BF16",
    "FP32",
    "FP64",
    "BYTES",
]


class ListedFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of a payload: its name, its size and the hexadecimal SHA-256 of its bytes."""

    name: Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]
    size_bytes: Annotated[int, msgspec.Meta(ge=0, le=MEMBER_LIMIT_BYTES)]
    sha256: Annotated[str, msgspec.Meta(pattern=DIGEST_PATTERN)]


class DeclaredTensor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An input or output as the owner declares it; -1 in its shape stands for any size.

    The shape is the whole one, with the dimension along which requests are batched.
    """

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    datatype: Datatype
    shape: Annotated[
        tuple[Annotated[int, msgspec.Meta(ge=-1, le=(1 << 31) - 1)], ...], msgspec.Meta(max_length=16)
    ]


class Batching(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How requests are joined along their first dimension.

    Args:
        max_size: The most rows that are computed at once.
        max_delay_us: How long the first request of a batch waits for others, in microseconds.
        max_queue: The most requests that wait; one more is turned away.
    """

    max_size: Annotated[int, msgspec.Meta(ge=1, le=1024)]
    max_delay_us: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    max_queue: Annotated[int, msgspec.Meta(ge=1, le=65_536)] = 256


class Resources(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the model takes: resident bytes when it computes, and threads per computation."""

    memory_bytes: Annotated[int, msgspec.Meta(ge=1, le=1 << 50)]
    threads: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1


DeclaredTensors = Annotated[tuple[DeclaredTensor, ...], msgspec.Meta(max_length=TENSORS_LIMIT)]


class Declaration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an owner says of a model, all of it optional.

    Args:
        inputs: All inputs, in any order; none declared where empty.
        outputs: All outputs, likewise.
        batching: None computes requests one at a time.
        resources: None where the owner measured nothing.
    """

    inputs: DeclaredTensors = ()
    outputs: DeclaredTensors = ()
    batching: Batching | None = None
    resources: Resources | None = None

    def __post_init__(self) -> None:
        """Reject a name that stands twice."""
        check_names(self.inputs, what="inputs")
        check_names(self.outputs, what="outputs")


def check_names(tensors: tuple[DeclaredTensor, ...], *, what: str) -> None:
    """Accept tensors of which each has a name of its own.

    Raises:
        ValueError: a name stands twice.
    """
    names = [tensor.name for tensor in tensors]
    if len(set(names)) != len(names):
        raise ValueError(f"{what}: expected each name once")


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The content of ``files.json``: which runtime serves the model, its files, and its `Declaration`."""

    version: Literal[1] = 1
    runtime: RuntimeName
    files: Annotated[tuple[ListedFile, ...], msgspec.Meta(min_length=1, max_length=FILES_LIMIT)]
    inputs: DeclaredTensors = ()
    outputs: DeclaredTensors = ()
    batching: Batching | None = None
    resources: Resources | None = None

    def __post_init__(self) -> None:
        """Reject a tensor that is declared twice."""
        check_names(self.inputs, what="inputs")
        check_names(self.outputs, what="outputs")

    @property
    def model_name(self) -> str:
        """The name of the file that holds the model."""
        return MODEL_NAMES[self.runtime]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """A decrypted model, in memory only; its `repr` shows names, never contents."""

    config: ModelConfig
    files: Mapping[str, bytes] = field(repr=False)

    @property
    def model(self) -> bytes:
        """The bytes of the model: of ``model.onnx``, or ``model.tflite``."""
        return self.files[self.config.model_name]

    @property
    def external(self) -> Mapping[str, bytes]:
        """The other files: the only place where the model's external data may lie."""
        name = self.config.model_name
        return MappingProxyType({other: data for other, data in self.files.items() if other != name})


def encode_listing(config: ModelConfig) -> bytes:
    """Return ``files.json``; what is not stated is left out, except the version."""
    return msgspec.json.encode({"version": config.version, **msgspec.to_builtins(config)})


def parse_listing(data: bytes) -> ModelConfig:
    """Parse ``files.json``.

    Raises:
        BundleMalformedError: unknown fields, another version or runtime, a number outside its limits, a file
            or tensor twice, or no model.
    """
    try:
        config = msgspec.json.decode(data, type=ModelConfig)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleMalformedError(f"bundle: {LISTING_NAME}: {error}") from error
    names = [file.name for file in config.files]
    if len(set(names)) != len(names) or LISTING_NAME in names:
        raise BundleMalformedError(f"bundle: {LISTING_NAME} names a file twice, or itself")
    if config.model_name not in names:
        raise BundleMalformedError(f"bundle: {LISTING_NAME} names no {config.model_name}")
    return config
