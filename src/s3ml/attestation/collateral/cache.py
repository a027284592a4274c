"""Where items are kept: in memory while a process lives, in a folder between processes.

Nothing that a folder gives back is trusted: whoever reads it proves it again. It is bounded in size; one item
is one file, whole or absent, and no name leaves the folder.
"""

import contextlib
import stat
import threading
from collections import OrderedDict
from pathlib import Path

from s3ml.attestation.collateral.item import ITEM_LIMIT_BYTES, Proven, check_item_name
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.files import read_limited, write_atomically
from s3ml.primitives.units import MIB

MEMORY_LIMIT_ITEMS = 256
FOLDER_LIMIT_BYTES = 16 * MIB
SUFFIX = ".json"


class MemoryCache:
    """Items that this process proved; the least recently used go first. Safe from several threads.

    Args:
        limit_items: The greatest number of them, each at most 64 KiB.
    """

    __slots__ = ("_items", "_limit_items", "_lock")

    def __init__(self, limit_items: int = MEMORY_LIMIT_ITEMS) -> None:
        self._items: OrderedDict[str, Proven] = OrderedDict()
        self._limit_items = limit_items
        self._lock = threading.Lock()

    def get(self, name: str) -> Proven | None:
        """Return the item `name`, or None where it is not at hand."""
        with self._lock:
            proven = self._items.get(name)
            if proven is not None:
                self._items.move_to_end(name)
            return proven

    def put(self, proven: Proven) -> None:
        """Keep `proven` under its item's name."""
        with self._lock:
            self._items[proven.item.name] = proven
            self._items.move_to_end(proven.item.name)
            while len(self._items) > self._limit_items:
                self._items.popitem(last=False)


class FolderCache:
    """Items as files of a folder, in the layout of docs/spec/collateral.md; trusted in nothing.

    Args:
        folder: Made where it is missing, for its owner alone.
        limit_bytes: The greatest size of all items together; those go first that were written first.

    Raises:
        ConfigurationError: the folder cannot be made, or the limit has no room for one item.
    """

    __slots__ = ("_folder", "_limit_bytes", "_lock")

    def __init__(self, folder: Path, *, limit_bytes: int = FOLDER_LIMIT_BYTES) -> None:
        if limit_bytes < ITEM_LIMIT_BYTES:
            raise ConfigurationError(
                f"collateral cache: expected a limit of at least {ITEM_LIMIT_BYTES} bytes, got {limit_bytes}"
            )
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"collateral cache {folder}: {error.strerror}") from error
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()

    def get(self, name: str) -> bytes | None:
        """Return what the folder holds under `name`, or None.

        Raises:
            ConfigurationError: no name of an item, or a file that is too large or cannot be read.
        """
        path = self._path(name)
        try:
            if not path.exists():
                return None
        except OSError as error:
            raise ConfigurationError(f"collateral {path}: {error.strerror}") from error
        return read_limited(path, limit_bytes=ITEM_LIMIT_BYTES, what="collateral")

    def put(self, name: str, data: bytes) -> None:
        """Keep `data` under `name`, and make room for it.

        Raises:
            ConfigurationError: no name of an item, more than 64 KiB, or the folder cannot be written.
        """
        path = self._path(name)
        if len(data) > ITEM_LIMIT_BYTES:
            raise ConfigurationError(f"collateral {name}: expected at most {ITEM_LIMIT_BYTES} bytes")
        with self._lock:
            self._make_room(self._limit_bytes - len(data), keep=path)
            write_atomically(path, data)

    def discard(self, name: str) -> None:
        """Remove what the folder holds under `name`, where it can be removed.

        Raises:
            ConfigurationError: no name of an item.
        """
        path = self._path(name)
        with contextlib.suppress(OSError):
            path.unlink()

    def names(self) -> tuple[str, ...]:
        """Return the names of all items in the folder, sorted; other files are passed over.

        Raises:
            ConfigurationError: the folder cannot be read.
        """
        found = []
        try:
            for path in self._folder.iterdir():
                with contextlib.suppress(ConfigurationError):
                    if path.suffix == SUFFIX:
                        found.append(check_item_name(path.stem))
        except OSError as error:
            raise ConfigurationError(f"collateral {self._folder}: {error.strerror}") from error
        return tuple(sorted(found))

    def _path(self, name: str) -> Path:
        return self._folder / f"{check_item_name(name)}{SUFFIX}"

    def _make_room(self, limit_bytes: int, *, keep: Path) -> None:
        """Remove the oldest files until the others take at most `limit_bytes`."""
        sized = []
        for name in self.names():
            path = self._path(name)
            with contextlib.suppress(OSError):
                status = path.lstat()
                if path != keep and stat.S_ISREG(status.st_mode):
                    sized.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in sized)
        for _, size, path in sorted(sized):
            if total <= limit_bytes:
                return
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size
