"""Which logs a witness watches: a TOML file, read again when it changes.

A file that cannot be used changes nothing: the logs that were watched before are watched still, and why is
said once. A log that is taken out of the file keeps its state for when it is put back.

Source: docs/spec/witness.md, section "Configuration".
"""

import os
import threading
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

import msgspec

from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.files import read_limited
from s3ml.primitives.signing import VerifyKey
from s3ml.primitives.units import MIB
from s3ml.transparency.note import is_key_name

LOGS_FILE_LIMIT_BYTES = MIB
LOGS_LIMIT = 4096
KEYS_LIMIT = 16

Logs = Mapping[str, tuple[VerifyKey, ...]]


class _Log(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    origin: str
    keys: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=KEYS_LIMIT)]


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: Literal[1]
    log: Annotated[tuple[_Log, ...], msgspec.Meta(max_length=LOGS_LIMIT)] = ()


def parse_logs(data: bytes, *, own_key: VerifyKey) -> Logs:
    """Read the content of a witness's configuration: the keys of each log by origin.

    Args:
        data: At most 1 MiB of TOML.
        own_key: The witness's own, which no log may have.

    Raises:
        ConfigurationError: no TOML, an unknown or missing field, a repeated origin or key, or a bad value.
    """
    try:
        file = msgspec.convert(tomllib.loads(data.decode()), _File)
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, UnicodeDecodeError, ValidationError
        raise ConfigurationError(f"witness configuration: {error}") from error
    logs: dict[str, tuple[VerifyKey, ...]] = {}
    for log in file.log:
        if not is_key_name(log.origin):
            raise ConfigurationError(
                "witness configuration: origin: expected 1 to 255 characters without spaces or plus, "
                f"got {log.origin[:80]!r}"
            )
        if log.origin in logs:
            raise ConfigurationError(f"witness configuration: {log.origin}: expected each origin once")
        keys = tuple(VerifyKey.parse(key) for key in log.keys)
        if len(set(keys)) != len(keys) or own_key in keys:
            raise ConfigurationError(
                f"witness configuration: {log.origin}: expected each key once, and not the witness's own"
            )
        logs[log.origin] = keys
    return MappingProxyType(logs)


class LogsFile:
    """The configuration at a path, as it was when it last could be used.

    Args:
        path: The file.
        own_key: The witness's own key.
        changed: Told the new logs whenever they are read again.
        rejected: Told why a changed file cannot be used.

    Raises:
        ConfigurationError: it cannot be used now.
    """

    def __init__(
        self,
        path: Path,
        *,
        own_key: VerifyKey,
        changed: Callable[[Logs], None],
        rejected: Callable[[ConfigurationError], None],
    ) -> None:
        self._path = path
        self._own_key = own_key
        self._changed = changed
        self._rejected = rejected
        self._lock = threading.Lock()
        self._mark = self._stat()
        self._logs = self._read()
        self._is_usable = True
        self._is_expired = False

    @property
    def is_usable(self) -> bool:
        """Whether the file could be used when it last changed."""
        return self._is_usable

    def expire(self) -> None:
        """Have the file read again at the next look; safe to call from a signal handler."""
        self._is_expired = True

    def current(self) -> Logs:
        """Return the logs, after reading the file again where it has changed."""
        with self._lock:
            mark = self._stat()
            if self._is_expired or mark != self._mark:
                self._is_expired, self._mark = False, mark
                self._reload()
            return self._logs

    def _reload(self) -> None:
        try:
            self._logs = self._read()
        except ConfigurationError as error:
            self._is_usable = False
            self._rejected(error)
            return
        self._is_usable = True
        self._changed(self._logs)

    def _read(self) -> Logs:
        data = read_limited(self._path, limit_bytes=LOGS_FILE_LIMIT_BYTES, what="witness configuration")
        try:
            return parse_logs(data, own_key=self._own_key)
        except ConfigurationError as error:
            raise ConfigurationError(f"{self._path}: {error}") from error

    def _stat(self) -> tuple[int, ...] | None:
        """Return what changes when the file does; nothing where there is none."""
        try:
            found = os.stat(self._path)  # noqa: PTH116 - the path object's own method costs twice as much
        except OSError:
            return None
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
