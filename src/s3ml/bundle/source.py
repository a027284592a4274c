"""A model as its owner has it on disk: one file, or a folder with the model and what belongs to it.

A LiteRT model is known by the identifier of its flatbuffer; whatever else is to be packed must be an ONNX
model.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from mmap import ACCESS_READ, mmap
from pathlib import Path

from s3ml.bundle.archive import MEMBER_LIMIT_BYTES, check_member_name
from s3ml.bundle.contents import FILES_LIMIT, LISTING_NAME, MODEL_NAMES, RuntimeName
from s3ml.bundle.external_data import external_locations
from s3ml.bundle.flatbuffer import check_litert, is_litert
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.units import MIB

READ_BYTES = MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file to pack: its name in the bundle, where it is, and its size when it was inspected."""

    name: str
    path: Path
    size_bytes: int

    def chunks(self) -> Iterator[bytes]:
        """Read the file in pieces of at most 1 MiB.

        Raises:
            ConfigurationError: it cannot be read, or its size is not the inspected one any more.
        """
        left = self.size_bytes
        try:
            with self.path.open("rb", buffering=0) as file:
                while chunk := file.read(READ_BYTES):
                    left -= len(chunk)
                    if left < 0:
                        break
                    yield chunk
        except OSError as error:
            raise ConfigurationError(f"{self.path}: cannot be read: {error.strerror}") from error
        if left != 0:
            raise changed(self)

    def sha256(self, advance: Callable[[int], None]) -> str:
        """Return the hexadecimal SHA-256 of the file, calling `advance` with the size of each piece."""
        digest = hashlib.sha256()
        for chunk in self.chunks():
            digest.update(chunk)
            advance(len(chunk))
        return digest.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The files of a model, the model itself first, the others by name; and the runtime that takes them."""

    runtime: RuntimeName
    files: tuple[SourceFile, ...]

    @property
    def size_bytes(self) -> int:
        """The sizes of all files together."""
        return sum(file.size_bytes for file in self.files)


def changed(file: SourceFile) -> ConfigurationError:
    """Describe a file that somebody wrote to while it was read."""
    return ConfigurationError(f"{file.path}: changed while it was packed; pack it again when it is at rest")


def inspect_source(path: Path, *, leave_out: frozenset[str] = frozenset()) -> Source:
    """Look at a model before it is packed.

    Args:
        path: An ONNX or LiteRT file, or a folder that holds ``model.onnx`` or ``model.tflite``, the model's
            external data and nothing else.
        leave_out: Names of files of the folder that are not the model's.

    Raises:
        ConfigurationError: there is no model, or more than one, a file of the folder cannot be part of a
            bundle, the model is of neither kind, or it names external data that is not in the folder.
    """
    if path.is_dir():
        items = sorted(item for item in path.iterdir() if item.name not in leave_out)
        files = [_inspect(item, item.name) for item in items]
        if len(files) > FILES_LIMIT:
            raise ConfigurationError(f"{path}: expected at most {FILES_LIMIT} files, got {len(files)}")
        runtime = _runtime_of_folder(path, {file.name for file in files})
        files.sort(key=lambda file: (file.name != MODEL_NAMES[runtime], file.name))
    else:
        file = _inspect(path, MODEL_NAMES["onnx"])
        runtime = "litert" if is_litert(next(file.chunks(), b"")) else "onnx"
        files = [replace(file, name=MODEL_NAMES[runtime])]
    _check_model(runtime, files[0], {file.name for file in files[1:]})
    return Source(runtime=runtime, files=tuple(files))


def _runtime_of_folder(path: Path, names: set[str]) -> RuntimeName:
    """Tell by its name which model a folder holds."""
    present: list[RuntimeName] = [runtime for runtime, name in MODEL_NAMES.items() if name in names]
    expected = " or ".join(MODEL_NAMES.values())
    if not present:
        raise ConfigurationError(f"{path}: expected a folder with {expected} in it")
    if len(present) > 1:
        raise ConfigurationError(f"{path}: expected {expected}, got both: pack them as two models")
    return present[0]


def _inspect(path: Path, name: str) -> SourceFile:
    if not path.is_file():
        is_folder = "a folder" if path.is_dir() else "nothing readable"
        raise ConfigurationError(f"{path}: expected a regular file, got {is_folder}")
    check_member_name(name, what=str(path))
    if name == LISTING_NAME:
        raise ConfigurationError(f"{path}: the name {LISTING_NAME} belongs to the bundle; rename the file")
    size_bytes = path.stat().st_size
    if size_bytes > MEMBER_LIMIT_BYTES:
        raise ConfigurationError(f"{path}: expected less than 8 GiB, got {size_bytes} bytes")
    return SourceFile(name=name, path=path, size_bytes=size_bytes)


def _check_model(runtime: RuntimeName, model: SourceFile, others: set[str]) -> None:
    """Refuse to pack a model that could not be opened."""
    locations: frozenset[str] = frozenset()
    try:
        with model.path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as mapped:
            if runtime == "onnx":
                locations = external_locations(mapped)
            else:
                check_litert(mapped)
    except OSError as error:
        raise ConfigurationError(f"{model.path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationError(f"{model.path}: expected a model, got an empty file") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"{model.path}: {error}") from error
    if missing := sorted(locations - others):
        raise ConfigurationError(
            f"{model.path}: the model keeps weights in {missing[0][:100]!r}, which is not packed: put it and "
            f"the model, named {MODEL_NAMES['onnx']}, into one folder, and pack the folder"
        )
