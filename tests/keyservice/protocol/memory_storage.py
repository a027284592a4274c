"""A store in memory whose whole content is one value, which a host can keep, copy and put back.

It passes the contract tests of the real stores: see `test_protocol_storage.py`.
"""

import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace

from s3ml.keyservice.storage import (
    Commit,
    Committed,
    Head,
    HeadMovedError,
    SecretName,
    StorageUnavailableError,
    WrappedSecret,
    values,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """Everything that is stored, at one moment."""

    entries: tuple[bytes, ...] = ()
    audit: tuple[bytes, ...] = ()
    secrets: frozenset[WrappedSecret] = frozenset()
    head: Head | None = None
    committed: Committed | None = None

    @property
    def size(self) -> int:
        return 0 if self.head is None else self.head.size

    def with_committed(self, committed: Committed) -> "Database":
        if self.committed is not None and self.committed.size > committed.size:
            return self
        return replace(self, committed=committed)

    def with_commit(self, commit: Commit) -> "Database":
        if self.size != commit.expected_size:
            raise HeadMovedError(
                f"storage: expected a log of {commit.expected_size} entries, got {self.size}"
            )
        if commit.audit and commit.audit_start != len(self.audit):
            raise StorageUnavailableError("storage: another audit record stands there")
        put = {secret.name: secret for secret in commit.secrets}
        gone = {*put, *commit.forget}
        stored = replace(
            self,
            entries=self.entries + commit.entries,
            audit=self.audit + commit.audit,
            secrets=frozenset((*(one for one in self.secrets if one.name not in gone), *put.values())),
            head=commit.head,
        )
        return stored if commit.committed is None else stored.with_committed(commit.committed)


@dataclass(slots=True)
class Cell:
    """Where a store keeps its content; whoever holds the cell is the host."""

    database: Database


class MemoryStorage:
    """A `Storage` over a cell."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._lock = threading.Lock()
        self._is_closed = False

    def head(self) -> Head | None:
        return self.heads()[0]

    def committed(self) -> Committed | None:
        return self.heads()[1]

    def heads(self) -> tuple[Head | None, Committed | None]:
        found = self._read()
        return found.head, found.committed

    def entries(self, start: int, end: int) -> list[bytes]:
        return _within_limit(self._read().entries[start:end])

    def audit(self, start: int, end: int) -> list[bytes]:
        return _within_limit(self._read().audit[start:end])

    def secret(self, name: SecretName) -> bytes | None:
        return next((one.ciphertext for one in self._read().secrets if one.name == name), None)

    def secrets_of(self, kind: str) -> list[WrappedSecret]:
        found = [one for one in self._read().secrets if one.name.kind == kind]
        if sum(len(one.ciphertext) for one in found) > values.READ_LIMIT_BYTES:
            raise StorageUnavailableError("storage: expected secrets of at most 64 MiB")
        return sorted(found, key=lambda one: (one.name.name, one.name.version))

    def append(self, commit: Commit) -> None:
        with self._lock:
            self._cell.database = self._read().with_commit(commit)

    def commit(self, committed: Committed) -> None:
        with self._lock:
            self._cell.database = self._read().with_committed(committed)

    def close(self) -> None:
        self._is_closed = True

    def _read(self) -> Database:
        if self._is_closed:
            raise StorageUnavailableError("storage: is closed")
        return self._cell.database


def _within_limit(found: Iterable[bytes]) -> list[bytes]:
    kept: list[bytes] = []
    total = 0
    for one in found:
        total += len(one)
        if kept and total > values.READ_LIMIT_BYTES:
            break
        kept.append(one)
    return kept
