"""Where a log is read from: a key service behind a gateway, or a file that was written from one.

Both are trusted with nothing. A file is text: a first line of JSON with the checkpoint, and a line of base64
for each entry, whose bytes are kept as they were.

Source: docs/spec/checkpoint.md, section "Exported logs".
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, Protocol

import msgspec

from s3ml.keyservice.client import KeyServiceClient
from s3ml.keyservice.log import ENTRY_LIMIT_BYTES
from s3ml.primitives.encoding import from_base64, to_base64
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.units import KIB
from s3ml.transparency.checkpoint import parse_checkpoint
from s3ml.transparency.note import NOTE_LIMIT_BYTES, Note

_BATCH = 256
_HEAD_LIMIT_BYTES = 2 * NOTE_LIMIT_BYTES + KIB
_LINE_LIMIT_BYTES = 4 * (ENTRY_LIMIT_BYTES // 3 + 2)


class LogSource(Protocol):
    """A log that can be read from any entry on."""

    def checkpoint(self) -> str:
        """Return the newest checkpoint, a note that nobody has verified."""
        ...

    def entries(self, start: int, size: int) -> Iterator[bytes]:
        """Yield the entries from index `start` up to before `size`, in order; fewer where there are fewer.

        A file yields what it holds beyond `size` too: there must be nothing.
        """
        ...


class GatewayLog:
    """The log of the key service behind a gateway.

    Args:
        client: The way to it.
    """

    def __init__(self, client: KeyServiceClient) -> None:
        self._client = client

    def checkpoint(self) -> str:
        """Return the newest checkpoint.

        Raises:
            UnavailableError: the key service does not answer.
        """
        return self._client.checkpoint()

    def entries(self, start: int, size: int) -> Iterator[bytes]:
        """Yield entries, at most 256 in one exchange.

        Raises:
            UnavailableError: the key service does not answer.
        """
        while start < size:
            found = self._client.entries(start, min(start + _BATCH, size)).entries
            if not found:
                return
            yield from found[: size - start]
            start += len(found)


class _Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: Literal["s3ml-log"] = "s3ml-log"
    version: Literal[1]
    checkpoint: Annotated[str, msgspec.Meta(max_length=NOTE_LIMIT_BYTES)]


class LogFile:
    """A log in a file, read line by line.

    Args:
        path: The file, from anybody.

    Raises:
        ConfigurationError: it cannot be read, or is no such file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        line = next(self._lines(), b"")
        try:
            self._head = msgspec.json.decode(line, type=_Head)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                f"{path}: expected a log written by `s3ml log export`: {error}"
            ) from error

    def checkpoint(self) -> str:
        """Return the checkpoint that the file holds."""
        return self._head.checkpoint

    def entries(self, start: int, size: int) -> Iterator[bytes]:
        """Yield the entries from `start` on, also those beyond `size`.

        Raises:
            ConfigurationError: the file cannot be read, or a line is no base64.
        """
        _ = size
        for number, line in enumerate(self._lines()):
            if number > start:
                text = line.decode("ascii", errors="replace")
                yield from_base64(text, what=f"{self._path}, line {number + 1}")

    def _lines(self) -> Iterator[bytes]:
        try:
            with self._path.open("rb") as file:
                limit = _HEAD_LIMIT_BYTES
                while line := file.readline(limit + 1):
                    if not line.endswith(b"\n"):
                        raise ConfigurationError(f"{self._path}: a line is cut off, or longer than any entry")
                    yield line[:-1]
                    limit = _LINE_LIMIT_BYTES
        except OSError as error:
            raise ConfigurationError(f"{self._path}: {error.strerror}") from error


def export_log(source: LogSource, path: Path) -> int:
    """Write a whole log to a new file, unverified, and return the number of its entries.

    Raises:
        ConfigurationError: `path` is there already or cannot be written.
        UntrustedPeerError: the checkpoint is malformed.
        UnavailableError: the source does not answer.
    """
    checkpoint = source.checkpoint()
    size = parse_checkpoint(Note.parse(checkpoint).text).size
    head = msgspec.json.encode(_Head(version=1, checkpoint=checkpoint))
    count = 0
    partial = path.with_name(f".{path.name}.partial")
    try:
        if path.exists():
            raise ConfigurationError(f"{path}: exists already; choose another name")
        with partial.open("wb") as file:
            file.write(head + b"\n")
            for data in source.entries(0, size):
                file.write(to_base64(data).encode() + b"\n")
                count += 1
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        partial.unlink(missing_ok=True)
    return count
