"""Storage in memory that several replicas share; it passes the contract of the real ones.

A test stands for the host: it keeps copies, brings them back, edits rows, and makes calls fail.
"""

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from s3ml.keyservice.storage import (
    Commit,
    Committed,
    Head,
    HeadMovedError,
    SecretName,
    StorageUnavailableError,
    WrappedSecret,
)
from s3ml.keyservice.storage.rows import read_secrets, read_values
from s3ml.keyservice.storage.values import ValueTypeError


@dataclass
class Rows:
    """Everything that is stored."""

    log: list[bytes] = field(default_factory=list)
    audit: dict[int, bytes] = field(default_factory=dict)
    secrets: dict[SecretName, bytes] = field(default_factory=dict)
    head: Head | None = None
    committed: Committed | None = None


class Database:
    """What a host keeps, and what it does to it."""

    def __init__(self) -> None:
        self.rows = Rows()
        self.lock = threading.RLock()

    def copy(self) -> Rows:
        """Return a backup."""
        with self.lock:
            return copy.deepcopy(self.rows)

    def restore(self, rows: Rows) -> None:
        """Bring a backup back."""
        with self.lock:
            self.rows = copy.deepcopy(rows)


class MemoryStorage:
    """A `Storage` over a `Database`.

    Args:
        database: Shared with other replicas, or this one's own.

    Attributes:
        before: Called with the name of each call before it is carried out; what it raises, the call raises.
        after: Likewise once it was carried out.
    """

    def __init__(self, database: Database | None = None) -> None:
        self.database = database or Database()
        self.before: Callable[[str], None] = lambda _: None
        self.after: Callable[[str], None] = lambda _: None
        self._is_closed = False

    def head(self) -> Head | None:
        return self.heads()[0]

    def committed(self) -> Committed | None:
        return self.heads()[1]

    def heads(self) -> tuple[Head | None, Committed | None]:
        with self._call("heads") as rows:
            return rows.head, rows.committed

    def entries(self, start: int, end: int) -> list[bytes]:
        with self._call("entries") as rows:
            return read_values([(entry,) for entry in rows.log[start:end]])

    def audit(self, start: int, end: int) -> list[bytes]:
        with self._call("audit") as rows:
            indices = sorted(index for index in rows.audit if start <= index < end)
            return read_values([(rows.audit[index],) for index in indices])

    def secret(self, name: SecretName) -> bytes | None:
        with self._call("secret") as rows:
            return rows.secrets.get(name)

    def secrets_of(self, kind: str) -> list[WrappedSecret]:
        with self._call("secrets_of") as rows:
            names = sorted((n for n in rows.secrets if n.kind == kind), key=lambda n: (n.name, n.version))
            try:
                return read_secrets(kind, [(n.name, n.version, rows.secrets[n]) for n in names])
            except ValueTypeError as error:
                raise StorageUnavailableError(f"storage: {error}") from error

    def append(self, commit: Commit) -> None:
        with self._call("append") as rows:
            size = rows.head.size if rows.head is not None else 0
            if size != commit.expected_size:
                raise HeadMovedError(f"storage: expected a log of {commit.expected_size} entries, got {size}")
            audit = dict(enumerate(commit.audit, commit.audit_start))
            if audit.keys() & rows.audit.keys():
                raise StorageUnavailableError("storage: an audit record of that index is there already")
            rows.log += commit.entries
            rows.audit.update(audit)
            for name in commit.forget:
                rows.secrets.pop(name, None)
            rows.secrets.update({secret.name: secret.ciphertext for secret in commit.secrets})
            rows.head = commit.head
            if commit.committed is not None:
                _put(rows, commit.committed)

    def commit(self, committed: Committed) -> None:
        with self._call("commit") as rows:
            _put(rows, committed)

    def close(self) -> None:
        self._is_closed = True

    @contextmanager
    def _call(self, name: str) -> Iterator[Rows]:
        if self._is_closed:
            raise StorageUnavailableError("storage: is closed")
        self.before(name)
        with self.database.lock:
            yield self.database.rows
        self.after(name)


def _put(rows: Rows, committed: Committed) -> None:
    if rows.committed is None or rows.committed.size <= committed.size:
        rows.committed = committed
