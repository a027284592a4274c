"""What stands beside a model: our ``model.toml``, or what Triton and MLServer know of batching.

``model.toml`` says all that a bundle can declare. From ``config.pbtxt`` (Triton) and ``model-settings.json``
(MLServer) the settings of batching are taken and nothing else: what they say of tensors counts dimensions in
a way of its own, and the model itself knows better.

Source: Triton's model_config.proto (`ModelConfig`, `ModelDynamicBatching`); MLServer's `ModelSettings`.
"""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import msgspec

from s3ml.apps.packing.textproto import Message, Value, parse_text_proto
from s3ml.bundle import Batching, Declaration
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.files import read_limited
from s3ml.primitives.units import MIB

SETTINGS_NAME = "model.toml"
_US_PER_S = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSettings:
    """What a model's settings say, and the file that says it, if there is one."""

    declaration: Declaration
    path: Path | None = None


class _MLServerSettings(msgspec.Struct, frozen=True):
    """The settings of adaptive batching; other fields are passed over."""

    max_batch_size: int = 0
    max_batch_time: float = 0


def read_settings(path: Path) -> Declaration:
    """Read a settings file of any of the three kinds, told by its name.

    Raises:
        ConfigurationError: it cannot be read, or does not hold what its name says; a number is out of range.
    """
    read = _READERS.get(path.name, _from_toml if path.suffix == ".toml" else None)
    if read is None:
        expected = ", ".join(_READERS)
        raise ConfigurationError(f"settings {path}: expected {expected} or another .toml, got {path.name}")
    data = read_limited(path, limit_bytes=MIB, what="settings")
    try:
        return read(data.decode())
    except (tomllib.TOMLDecodeError, msgspec.DecodeError, UnicodeDecodeError, ConfigurationError) as error:
        raise ConfigurationError(f"settings {path}: {error}") from error


def find_settings(*folders: Path) -> FoundSettings:
    """Read the settings of a model from the first folder that has any; ``model.toml`` comes first.

    Raises:
        ConfigurationError: they cannot be read.
    """
    for folder in folders:
        for name in SETTINGS_NAMES:
            path = folder / name
            if path.is_file():
                return FoundSettings(declaration=read_settings(path), path=path)
    return FoundSettings(declaration=Declaration())


def _from_toml(text: str) -> Declaration:
    return msgspec.convert(tomllib.loads(text), Declaration)


def _from_triton(text: str) -> Declaration:
    """Take `max_batch_size` where `dynamic_batching` is on; without it, Triton joins no requests."""
    config = parse_text_proto(text)
    size = _integer(config, "max_batch_size", 0)
    dynamic = _message(config, "dynamic_batching")
    if dynamic is None or size < 1:
        return Declaration()
    queue = _message(dynamic, "default_queue_policy") or {}
    return _batching(
        max_size=size,
        max_delay_us=_integer(dynamic, "max_queue_delay_microseconds", 0),
        max_queue=_integer(queue, "max_queue_size", 0) or None,
    )


def _from_mlserver(text: str) -> Declaration:
    """Take both settings of adaptive batching; with either at 0, MLServer joins no requests."""
    settings = msgspec.json.decode(text, type=_MLServerSettings)
    if settings.max_batch_size <= 1 or settings.max_batch_time <= 0:
        return Declaration()
    return _batching(
        max_size=settings.max_batch_size, max_delay_us=round(settings.max_batch_time * _US_PER_S)
    )


def _batching(**fields: int | None) -> Declaration:
    stated = {name: value for name, value in fields.items() if value is not None}
    try:
        return Declaration(batching=msgspec.convert(stated, Batching))
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"batching: {error}") from error


def _integer(message: Message, name: str, default: int) -> int:
    value: Value = message.get(name, [default])[-1]
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigurationError(f"{name}: expected an integer")
    return value


def _message(message: Message, name: str) -> Message | None:
    value = message.get(name, [None])[-1]
    if value is not None and not isinstance(value, dict):
        raise ConfigurationError(f"{name}: expected a message in braces")
    return value


_READERS: Mapping[str, Callable[[str], Declaration]] = MappingProxyType(
    {SETTINGS_NAME: _from_toml, "config.pbtxt": _from_triton, "model-settings.json": _from_mlserver}
)
SETTINGS_NAMES = tuple(_READERS)
