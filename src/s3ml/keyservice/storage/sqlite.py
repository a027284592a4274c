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
from typing import Self, TypeVar

from s3ml.keyservice.storage.protocol import (
    Commit,
    Head,
    HeadMovedError,
    SecretName,
    StorageUnavailableError,
)

_T = TypeVar("_T")

FORMAT = 1
LOCK_TIMEOUT_S = 2.0
_SCHEMA = """
CREATE TABLE log (idx INTEGER PRIMARY KEY, entry BLOB NOT NULL) STRICT;
CREATE TABLE audit (idx INTEGER PRIMARY KEY, record BLOB NOT NULL) STRICT;
CREATE TABLE head (one INTEGER PRIMARY KEY CHECK (one = 1), size INTEGER NOT NULL,
    checkpoint TEXT NOT NULL, seal BLOB NOT NULL) STRICT;
CREATE TABLE secrets (kind TEXT NOT NULL, name TEXT NOT NULL, version TEXT NOT NULL,
    ciphertext BLOB NOT NULL, PRIMARY KEY (kind, name, version)) STRICT, WITHOUT ROWID;
"""


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
            if found == 0:
                for statement in _SCHEMA.split(";"):
                    run(statement)
                run(f"PRAGMA user_version={FORMAT}")
            elif found != FORMAT:
                raise StorageUnavailableError(f"storage {self._path}: expected format {FORMAT}, got {found}")

    def head(self) -> Head | None:
        """Return the newest head, or nothing before the first commit."""
        with self._using() as run:
            row = run("SELECT size, checkpoint, seal FROM head").fetchone()
            if row is None:
                return None
            return Head(size=_typed(row[0], int), checkpoint=_typed(row[1], str), seal=_typed(row[2], bytes))

    def entries(self, start: int, end: int) -> list[bytes]:
        """Return the entries from index `start` up to before `end`, in order; fewer where there are fewer."""
        with self._using() as run:
            rows = run("SELECT entry FROM log WHERE idx >= ? AND idx < ? ORDER BY idx", (start, end))
            return [_typed(row[0], bytes) for row in rows]

    def secret(self, name: SecretName) -> bytes | None:
        """Return the ciphertext kept under `name`."""
        with self._using() as run:
            row = run(
                "SELECT ciphertext FROM secrets WHERE kind = ? AND name = ? AND version = ?",
                (name.kind, name.name, name.version),
            ).fetchone()
            return None if row is None else _typed(row[0], bytes)

    def audit(self, start: int, end: int) -> list[bytes]:
        """Return the audit records from index `start` up to before `end`; fewer where there are fewer."""
        with self._using() as run:
            rows = run("SELECT record FROM audit WHERE idx >= ? AND idx < ? ORDER BY idx", (start, end))
            return [_typed(row[0], bytes) for row in rows]

    def append(self, commit: Commit) -> None:
        """Store `commit` as one transaction.

        Raises:
            HeadMovedError: the log has another size than `commit.expected_size`.
        """
        with self._using() as run, self._transaction():
            row = run("SELECT size FROM head").fetchone()
            size = 0 if row is None else _typed(row[0], int)
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
        except sqlite3.Error as error:
            raise StorageUnavailableError(f"storage {self._path}: {error}") from error
        except TypeError as error:
            raise StorageUnavailableError(f"storage {self._path}: {error}") from error


def _typed(value: object, kind: type[_T]) -> _T:
    """Return `value` when it is of type `kind`: the file is the host's, and so are its column types."""
    if not isinstance(value, kind):
        raise TypeError(f"expected a value of type {kind.__name__}, got {type(value).__name__}")
    return value
