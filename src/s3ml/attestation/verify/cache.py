"""Verdicts that are remembered: keyed on what was proved, bounded, and for acceptances alone.

A key is the digest of everything that a verdict follows from, in its one canonical form; never that of a
quote or of evidence, which anybody can write in many ways. What is remembered is used within its validity
only. What a policy decides, the report data and the age of collateral are never remembered.

Source: docs/adr/0010-verdict-cache.md.
"""

import threading
from collections import OrderedDict
from datetime import datetime
from typing import Protocol, TypeVar

from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.units import MIB

MAX_ENTRIES = 1024
MAX_BYTES = 8 * MIB
ENTRY_BYTES = 4 * 1024  # what an entry takes besides what its owner counts; measured, rounded up


class Dated(Protocol):
    """Something that was proved, and when the same proof has the same outcome."""

    @property
    def valid_from(self) -> datetime:
        """The first instant."""
        ...

    @property
    def valid_until(self) -> datetime:
        """The first instant after it."""
        ...


Kind = TypeVar("Kind", bound=Dated)


class Shelf:
    """What was proved, by key: the least recently used goes first. Safe for threads.

    Args:
        max_entries: How many entries it holds.
        max_bytes: How much they take together, as their owners counted it.
    """

    __slots__ = ("_entries", "_lock", "_max_bytes", "_max_entries", "_size_bytes")

    def __init__(self, *, max_entries: int, max_bytes: int) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._entries: OrderedDict[bytes, tuple[Dated, int]] = OrderedDict()
        self._size_bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size_bytes(self) -> int:
        """What the entries take together, as their owners counted it."""
        return self._size_bytes

    def recall(self, key: bytes, kind: type[Kind], *, now: datetime) -> Kind | None:
        """Return what was kept under `key`, where it is of `kind` and valid in the whole second of `now`.

        Whole seconds, because parts of a verification count no smaller ones.
        """
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            value, size_bytes = entry
            if now >= value.valid_until:
                del self._entries[key]
                self._size_bytes -= size_bytes
                return None
            self._entries.move_to_end(key)
        if not isinstance(value, kind) or now.replace(microsecond=0) < value.valid_from:
            return None
        return value

    def keep(self, key: bytes, value: Dated, *, size_bytes: int = 0) -> None:
        """Keep `value`, and let others go where there is no room.

        Args:
            key: A digest of everything that `value` follows from.
            value: Proved.
            size_bytes: How much it takes beyond a few fields.
        """
        size_bytes += ENTRY_BYTES
        with self._lock:
            if replaced := self._entries.pop(key, None):
                self._size_bytes -= replaced[1]
            self._entries[key] = value, size_bytes
            self._size_bytes += size_bytes
            while len(self._entries) > self._max_entries or self._size_bytes > self._max_bytes:
                _, (_, freed_bytes) = self._entries.popitem(last=False)
                self._size_bytes -= freed_bytes


class VerdictCache:
    """What verifications proved, at two levels: of platforms, and of whole quotes or reports.

    A fresh quote of a platform that is known costs one signature. No lock is held while anything is verified:
    two threads that meet the same platform at once both verify it.

    Args:
        max_entries: How many entries each level holds.
        max_bytes: How much the entries of each level take together.

    Raises:
        ConfigurationError: a limit is below 1.
    """

    __slots__ = ("platforms", "wholes")

    def __init__(self, *, max_entries: int = MAX_ENTRIES, max_bytes: int = MAX_BYTES) -> None:
        if min(max_entries, max_bytes) < 1:
            raise ConfigurationError(
                f"verdict cache: expected limits of at least 1, got {max_entries} entries, {max_bytes} bytes"
            )
        self.platforms = Shelf(max_entries=max_entries, max_bytes=max_bytes)
        self.wholes = Shelf(max_entries=max_entries, max_bytes=max_bytes)
