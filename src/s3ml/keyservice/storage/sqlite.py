"""Storage in one SQLite file, for one replica.

Write-ahead log with ``synchronous=FULL``: a commit returns once its frames are on the disk, at the price of
one flush; a rollback journal needs several, and the deletion of the journal may itself be lost. The lock is
exclusive and held for as long as the store is open: a second process is refused at its start, and SQLite
keeps its index of the write-ahead log in this process's own memory instead of a shared mapping, which a
TEE such as SGX does not have.

Source: SQLite documentation, "Write-Ahead Logging", section 8 (use of WAL without shared memory), and
"PRAGMA synchronous".
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from s3ml.keyservice.storage.protocol import (
    Commit,
    Committed,
    Head,
    HeadMovedError,
    SecretName,
    StorageUnavailableError,
    WrappedSecret,
)
from s3ml.keyservice.storage.rows import read_heads, read_secrets, read_values
from s3ml.keyservice.storage.values import VALUE_LIMIT_BYTES, ValueTypeError, typed
from s3ml.primitives.units import KIB

FORMAT = 2
LOCK_TIMEOUT_S = 2.0
_ROW_LIMIT_BYTES = VALUE_LIMIT_BYTES + 64 * KIB
_MESSAGE_LIMIT = 200
_FORMAT_1 = """
CREATE TABLE log (idx INTEGER PRIMARY KEY, entry BLOB NOT NULL) STRICT;
CREATE TABLE audit (idx INTEGER PRIMARY KEY, record BLOB NOT NULL) STRICT;
CREATE TABLE head (one INTEGER PRIMARY KEY CHECK (one = 1), size INTEGER NOT NULL,
    checkpoint TEXT NOT NULL, seal BLOB NOT NULL) STRICT;
CREATE TABLE secrets (kind TEXT NOT NULL, name TEXT NOT NULL, version TEXT NOT NULL,
    ciphertext BLOB NOT NULL, PRIMARY KEY (kind, name, version)) STRICT, WITHOUT ROWID;
"""
_FORMAT_2 = """
CREATE TABLE committed (one INTEGER PRIMARY KEY CHECK (one = 1), size INTEGER NOT NULL,
    note TEXT NOT NULL) STRICT;
"""
_STEPS = (_FORMAT_1, _FORMAT_2)
"""What leads from each format to the next; a new file takes them all."""


class SQLiteStorage:
    """A `Storage` in the file at `path`, which is made where it is missing.

    Args:
        path: The database file; its folder exists.

    Raises:
        StorageUnavailableError: the file cannot be opened, is in use by another process, or is no database
            of this format.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        with self._mapped():
            self._connection = sqlite3.connect(
                path, timeout=LOCK_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            self._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _ROW_LIMIT_BYTES)
        try:
            with self._mapped():
                self._prepare()
        except StorageUnavailableError:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        run = self._connection.execute
        for pragma in (
            "locking_mode=EXCLUSIVE",
            "journal_mode=WAL",
            "synchronous=FULL",
            "secure_delete=ON",
            "trusted_schema=OFF",
            "cell_size_check=ON",
        ):
            run(f"PRAGMA {pragma}").fetchall()
        with self._transaction():  # takes the exclusive lock
            found = int(run("PRAGMA user_version").fetchone()[0])
            if not 0 <= found <= FORMAT:
                raise StorageUnavailableError(
                    f"storage {self._path}: expected a format up to {FORMAT}, got {found}"
                )
            for step in _STEPS[found:]:
                for statement in step.split(";"):
                    run(statement)
            run(f"PRAGMA user_version={FORMAT}")

    def head(self) -> Head | None:
        """Return the newest head, or nothing before the first append."""
        return self.heads()[0]

    def committed(self) -> Committed | None:
        """Return the newest committed head, or nothing before the first."""
        return self.heads()[1]

    def heads(self) -> tuple[Head | None, Committed | None]:
        """Return both heads as they are at one moment."""
        with self._using() as run:
            row = run(
                "SELECT head.size, checkpoint, seal, committed.size, note FROM (SELECT 1)"
                " LEFT JOIN head ON head.one = 1 LEFT JOIN committed ON committed.one = 1"
            ).fetchone()
            return read_heads(row)

    def entries(self, start: int, end: int) -> list[bytes]:
        """Return the entries from index `start` up to before `end`, in order; see `Storage.entries`."""
        with self._using() as run:
            return read_values(
                run("SELECT entry FROM log WHERE idx >= ? AND idx < ? ORDER BY idx", (start, end))
            )

    def audit(self, start: int, end: int) -> list[bytes]:
        """Return the audit records from index `start` up to before `end`, in order; see `Storage.audit`."""
        with self._using() as run:
            return read_values(
                run("SELECT record FROM audit WHERE idx >= ? AND idx < ? ORDER BY idx", (start, end))
            )

    def secret(self, name: SecretName) -> bytes | None:
        """Return the ciphertext kept under `name`."""
        with self._using() as run:
            row = run(
                "SELECT ciphertext FROM secrets WHERE kind = ? AND name = ? AND version = ?",
                (name.kind, name.name, name.version),
            ).fetchone()
            return None if row is None else typed(row[0], bytes)

    def secrets_of(self, kind: str) -> list[WrappedSecret]:
        """Return all secrets of one kind, ordered by name and version; see `Storage.secrets_of`."""
        with self._using() as run:
            rows = run(
                "SELECT name, version, ciphertext FROM secrets WHERE kind = ? ORDER BY name, version", (kind,)
            )
            return read_secrets(kind, rows)

    def append(self, commit: Commit) -> None:
        """Store `commit` as one transaction.

        Raises:
            HeadMovedError: the log has another size than `commit.expected_size`.
        """
        with self._using() as run, self._transaction():
            row = run("SELECT size FROM head").fetchone()
            size = 0 if row is None else typed(row[0], int)
            if size != commit.expected_size:
                raise HeadMovedError(f"storage: expected a log of {commit.expected_size} entries, got {size}")
            many = self._connection.executemany
            many("INSERT INTO log VALUES (?, ?)", enumerate(commit.entries, size))
            many("INSERT INTO audit VALUES (?, ?)", enumerate(commit.audit, commit.audit_start))
            many(
                "DELETE FROM secrets WHERE kind = ? AND name = ? AND version = ?",
                [(name.kind, name.name, name.version) for name in commit.forget],
            )
            many(
                "INSERT OR REPLACE INTO secrets VALUES (?, ?, ?, ?)",
                [(s.name.kind, s.name.name, s.name.version, s.ciphertext) for s in commit.secrets],
            )
            head = commit.head
            run("INSERT OR REPLACE INTO head VALUES (1, ?, ?, ?)", (head.size, head.checkpoint, head.seal))
            if commit.committed is not None:
                self._put(commit.committed)

    def commit(self, committed: Committed) -> None:
        """Store `committed` where it is newer than the stored one, or of its size; else nothing changes."""
        with self._using(), self._transaction():
            self._put(committed)

    def _put(self, committed: Committed) -> None:
        self._connection.execute(
            "INSERT INTO committed VALUES (1, ?, ?) ON CONFLICT (one) DO UPDATE"
            " SET size = excluded.size, note = excluded.note WHERE committed.size <= excluded.size",
            (committed.size, committed.note),
        )

    def close(self) -> None:
        """Let go of the file; what was written ahead moves into it."""
        with self._lock, self._mapped():
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _using(self) -> Iterator[Callable[..., sqlite3.Cursor]]:
        with self._lock, self._mapped():
            yield self._connection.execute

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        """Turn SQLite's errors into ours."""
        try:
            yield
        except (sqlite3.Error, ValueTypeError) as error:
            raise StorageUnavailableError(f"storage {self._path}: {str(error)[:_MESSAGE_LIMIT]}") from error
