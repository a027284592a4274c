"""What the fakes of pseudo-file systems have in common: a `Directory` over a tree in memory.

Reads come in parts, as a kernel may deliver them; what a file takes and gives is up to its tree.
"""

import errno
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, Literal, Protocol

PART_BYTES = 1000

Parts = tuple[str, ...]


def failure(number: int, path: Parts) -> OSError:
    """Return the very exception that a call of the system raises."""
    return OSError(number, os.strerror(number), "/".join(path))


class Tree(Protocol):
    def exists(self, path: Parts) -> bool: ...

    def mkdir(self, path: Parts) -> None: ...

    def rmdir(self, path: Parts) -> None: ...

    def reader(self, path: Parts) -> io.RawIOBase: ...

    def writer(self, path: Parts) -> io.RawIOBase: ...


@dataclass(frozen=True, slots=True)
class PseudoPath:
    """A `Directory`: one place in a tree."""

    tree: Tree
    path: Parts = ()

    def __truediv__(self, name: str, /) -> "PseudoPath":
        assert name not in {"", ".", ".."}
        assert "/" not in name
        return PseudoPath(self.tree, (*self.path, name))

    def exists(self) -> bool:
        return self.tree.exists(self.path)

    def mkdir(self) -> None:
        self.tree.mkdir(self.path)

    def rmdir(self) -> None:
        self.tree.rmdir(self.path)

    def open(self, mode: Literal["rb", "wb"]) -> IO[bytes]:
        if mode == "rb":
            return io.BufferedReader(self.tree.reader(self.path))
        return io.BufferedWriter(self.tree.writer(self.path))


class Reader(io.RawIOBase):
    """Gives what `load` returns at the first read, a part at a time."""

    def __init__(self, load: Callable[[], bytes]) -> None:
        self._load = load
        self._rest: bytes | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._rest is None:
            self._rest = self._load()
        part = self._rest[: min(len(buffer), PART_BYTES)]
        buffer[: len(part)] = part
        self._rest = self._rest[len(part) :]
        return len(part)


class Writer(io.RawIOBase):
    """Takes each call of the system as a value of its own."""

    def __init__(self, store: Callable[[bytes], None]) -> None:
        self._store = store

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._store(bytes(data))
        return len(data)


class WriterAtClose(io.RawIOBase):
    """Gathers what is written, and hands it over when it is closed; what becomes of that is ignored."""

    def __init__(self, store: Callable[[bytes], None], *, limit_bytes: int) -> None:
        self._store = store
        self._limit_bytes = limit_bytes
        self._gathered = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if len(self._gathered) + len(data) > self._limit_bytes:
            raise failure(errno.EFBIG, ())
        self._gathered += bytes(data)
        return len(data)

    def close(self) -> None:
        if not self.closed and self._gathered:
            try:
                self._store(self._gathered)
            except OSError:
                self._gathered = b""
        super().close()
