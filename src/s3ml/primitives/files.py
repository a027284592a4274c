"""Files that are either whole or absent."""

import contextlib
import os
import secrets
from pathlib import Path

from s3ml.primitives.errors import ConfigurationError


def write_atomically(path: Path, data: bytes, *, mode: int = 0o644, is_durable: bool = True) -> None:
    """Put `data` at `path` by rename, so that no reader and no crash sees half of it.

    Args:
        path: Where.
        data: The whole of it.
        mode: Less what the umask takes.
        is_durable: Whether it has to survive a crash of the machine; waiting for the disk takes milliseconds.

    Raises:
        ConfigurationError: the folder is missing or not writable, or the disk is full.
    """
    partial = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if is_durable:
                os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def read_limited(path: Path, *, limit_bytes: int, what: str) -> bytes:
    """Read a whole small file.

    Raises:
        ConfigurationError: it is missing, unreadable, or larger than `limit_bytes`.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit_bytes + 1)
    except OSError as error:
        raise ConfigurationError(f"{what} {path}: {error.strerror}") from error
    if len(data) > limit_bytes:
        raise ConfigurationError(f"{what} {path}: expected at most {limit_bytes} bytes")
    return data
