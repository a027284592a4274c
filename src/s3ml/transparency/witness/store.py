"""What a witness must never forget: the newest head that it cosigned of each log.

One SQLite file: comparing with the head that was and replacing it is one transaction, it is on the disk when
`advance` returns (write-ahead log, ``synchronous=FULL``), and the exclusive lock that SQLite holds for as
long as the file is open keeps a second witness off the same state. A file per log would need all three made
anew. The file belongs to one witness, by name and key.

A state is begun once, explicitly. A witness that began anew by itself after its disk was lost would cosign
any fork of every log it had watched.

Source: SQLite documentation, "Write-Ahead Logging" and "PRAGMA synchronous".
"""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Protocol, Self

from s3ml.primitives.errors import ConfigurationError, UnavailableError
from s3ml.transparency.cosignature import WitnessKey
from s3ml.transparency.witness.decision import Latest

FORMAT = 1
FILE_NAME = "witness.sqlite3"
LOCK_TIMEOUT_S = 2.0
# After any other error nobody can say what the disk holds: only opening the file anew can.
_PASSING = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY})
_SCHEMA = """
CREATE TABLE witness (one INTEGER PRIMARY KEY CHECK (one = 1), vkey TEXT NOT NULL) STRICT;
CREATE TABLE latest (origin TEXT PRIMARY KEY, origin_sha256 TEXT NOT NULL UNIQUE, size INTEGER NOT NULL,
    root BLOB NOT NULL, time_s INTEGER NOT NULL, note TEXT NOT NULL) STRICT, WITHOUT ROWID;
"""


class StateUnavailableError(UnavailableError):
    """The state cannot be read or written: nothing is cosigned."""


class StateMovedError(StateUnavailableError):
    """The newest head is not the one that the decision was made on: nothing was stored."""


class Store(Protocol):
    """Where a witness keeps what it cosigned; methods block, and raise `StateUnavailableError`."""

    def latest(self, origin: str) -> Latest | None:
        """Return the newest head of a log that was cosigned."""
        ...

    def advance(self, origin: str, *, before: Latest | None, latest: Latest, note: str) -> None:
        """Replace the newest head of a log durably.

        Args:
            origin: The log's.
            before: What `latest` returned when the decision was made.
            latest: The head to keep.
            note: Its checkpoint with the log's signatures and the cosignature.

        Raises:
            StateMovedError: the newest head is not `before`.
        """
        ...

    def note(self, origin_sha256: str) -> str | None:
        """Return the newest cosigned checkpoint of the log whose origin has that SHA-256 (hexadecimal)."""
        ...

    def heads(self) -> Mapping[str, Latest]:
        """Return every newest head by origin."""
        ...


class SQLiteStore:
    """A `Store` in a folder; use `begin` once, and the constructor ever after.

    Args:
        folder: Where the state is.
        witness: Whose it is.

    Raises:
        ConfigurationError: there is no state yet, or it is another witness's.
        StateUnavailableError: another process uses it, or it cannot be read.
    """

    def __init__(self, folder: Path, witness: WitnessKey) -> None:
        self._path = folder / FILE_NAME
        self._lock = threading.Lock()
        self._is_halted = False
        if not self._path.exists():
            raise ConfigurationError(
                f"{self._path}: no state yet; begin it once with --begin. If this witness has run before, "
                "restore its newest state instead: one that forgets cosigns forks"
            )
        with _mapped(self._path):
            self._connection = _connect(self._path)
        try:
            with self._using():
                self._prepare(witness)
        except BaseException:
            self._connection.close()
            raise

    @classmethod
    def begin(cls, folder: Path, witness: WitnessKey) -> Self:
        """Make the folder and the state of a new witness, and open it.

        Raises:
            ConfigurationError: there is a state already, or the folder cannot be written.
            StateUnavailableError: another process uses it, or it cannot be written.
        """
        path = folder / FILE_NAME
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise ConfigurationError(f"{folder}: cannot hold a state: {error.strerror}") from error
        with _mapped(path):
            connection = _connect(path)
            try:
                _create(path, connection, witness)
            finally:
                connection.close()
        return cls(folder, witness)

    @property
    def is_halted(self) -> bool:
        """Whether an error left the state in doubt; a restart reads it anew."""
        return self._is_halted

    def latest(self, origin: str) -> Latest | None:
        """Return the newest head of a log that was cosigned."""
        with self._using() as run:
            return _latest(run, origin)

    def advance(self, origin: str, *, before: Latest | None, latest: Latest, note: str) -> None:
        """Replace the newest head of a log durably; see `Store`."""
        with self._using() as run, _transaction(run):
            if _latest(run, origin) != before:
                raise StateMovedError(f"witness state: the newest head of {origin} is another one by now")
            run(
                "INSERT OR REPLACE INTO latest VALUES (?, ?, ?, ?, ?, ?)",
                (
                    origin,
                    sha256(origin.encode()).hexdigest(),
                    latest.size,
                    latest.root,
                    int(latest.time.timestamp()),
                    note,
                ),
            )

    def note(self, origin_sha256: str) -> str | None:
        """Return the newest cosigned checkpoint of the log whose origin has that SHA-256."""
        with self._using() as run:
            row = run("SELECT note FROM latest WHERE origin_sha256 = ?", (origin_sha256,)).fetchone()
            return None if row is None else str(row[0])

    def heads(self) -> Mapping[str, Latest]:
        """Return every newest head by origin."""
        with self._using() as run:
            rows = run("SELECT origin, size, root, time_s FROM latest ORDER BY origin").fetchall()
            return {origin: _head(size, root, time_s) for origin, size, root, time_s in rows}

    def close(self) -> None:
        """Let go of the file."""
        with self._lock, suppress(sqlite3.Error):
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prepare(self, witness: WitnessKey) -> None:
        run = self._connection.execute
        with _transaction(run):  # takes the exclusive lock
            found = int(run("PRAGMA user_version").fetchone()[0])
            if found == 0:
                raise ConfigurationError(f"{self._path}: no state yet; begin it once with --begin")
            if found != FORMAT:
                raise StateUnavailableError(f"{self._path}: expected format {FORMAT}, got {found}")
            row = run("SELECT vkey FROM witness").fetchone()
            if row is None or row[0] != str(witness):
                raise ConfigurationError(
                    f"{self._path}: expected the state of {witness.name} and its key, got another witness's"
                )
            run("UPDATE witness SET vkey = vkey")  # a disk that takes no writes is found out now

    @contextmanager
    def _using(self) -> Iterator[Callable[..., sqlite3.Cursor]]:
        with self._lock:
            if self._is_halted:
                raise StateUnavailableError("witness state: in doubt after an error: restart the witness")
            try:
                yield self._connection.execute
            except sqlite3.Error as error:
                self._is_halted = _code(error) not in _PASSING
                raise _unavailable(self._path, error) from error


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=LOCK_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        for pragma in (
            "locking_mode=EXCLUSIVE",
            "journal_mode=WAL",
            "synchronous=FULL",
            "trusted_schema=OFF",
            "cell_size_check=ON",
        ):
            connection.execute(f"PRAGMA {pragma}").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def _create(path: Path, connection: sqlite3.Connection, witness: WitnessKey) -> None:
    run = connection.execute
    with _transaction(run):
        if int(run("PRAGMA user_version").fetchone()[0]):
            raise ConfigurationError(f"{path}: holds a state already; start without --begin")
        for statement in _SCHEMA.split(";"):
            run(statement)
        run("INSERT INTO witness VALUES (1, ?)", (str(witness),))
        run(f"PRAGMA user_version={FORMAT}")


@contextmanager
def _mapped(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise _unavailable(path, error) from error


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code of an extended one


def _unavailable(path: Path, error: sqlite3.Error) -> StateUnavailableError:
    if _code(error) == sqlite3.SQLITE_BUSY:
        return StateUnavailableError(
            f"witness state {path}: another process uses it; a state has one witness"
        )
    return StateUnavailableError(f"witness state {path}: {error}")


@contextmanager
def _transaction(run: Callable[..., sqlite3.Cursor]) -> Iterator[None]:
    run("BEGIN IMMEDIATE")
    try:
        yield
        run("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # an error of the transaction itself may have ended it already
            run("ROLLBACK")
        raise


def _latest(run: Callable[..., sqlite3.Cursor], origin: str) -> Latest | None:
    row = run("SELECT size, root, time_s FROM latest WHERE origin = ?", (origin,)).fetchone()
    return None if row is None else _head(*row)


def _head(size: int, root: bytes, time_s: int) -> Latest:
    return Latest(size=size, root=root, time=datetime.fromtimestamp(time_s, UTC))
