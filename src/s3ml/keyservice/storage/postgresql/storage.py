"""A `Storage` in PostgreSQL.

Nothing here is trusted: rows are checked for type and length, and judged by whoever asked for them.

Source: docs/spec/storage.md; docs/adr/0013-postgresql-driver.md.
"""

import secrets
from typing import Self

from s3ml.keyservice.storage.postgresql import statements
from s3ml.keyservice.storage.postgresql.schema import prepare
from s3ml.keyservice.storage.postgresql.session import (
    BIGINT,
    BYTEA,
    FOREIGN_ERRORS,
    TEXT,
    Backend,
    Timeouts,
)
from s3ml.keyservice.storage.postgresql.sessions import Sessions
from s3ml.keyservice.storage.protocol import (
    Commit,
    Committed,
    Head,
    HeadMovedError,
    OutcomeUnknownError,
    SecretName,
    StorageUnavailableError,
    WrappedSecret,
)
from s3ml.keyservice.storage.rows import read_heads, read_secrets, read_values
from s3ml.keyservice.storage.values import typed

BATCH_BYTES = 16
_DEFAULT_TIMEOUTS = Timeouts()


class _NoAnswerError(Exception):
    """The server did not say whether it stored a commit."""

    def __init__(self, backend: Backend) -> None:
        super().__init__("no answer")
        self.backend = backend


class PostgreSQLStorage:
    """A `Storage` that any number of replicas share.

    Args:
        conninfo: Where the database is: a URL or a connection string, as libpq takes it, TLS included. Its
            tables are made where they are missing. It appears in no message.
        timeouts: How long anything may take; a call ends within the sum of all, `append` within twice that.

    Raises:
        ConfigurationError: `conninfo` is malformed, or the server is too old, may lose what it has committed,
            stands behind a pooler, or has tables of a later format.
        StorageUnavailableError: the server does not serve, or refuses the user.
    """

    def __init__(self, conninfo: str, *, timeouts: Timeouts = _DEFAULT_TIMEOUTS) -> None:
        self._timeouts = timeouts
        self._sessions = Sessions(conninfo, timeouts)
        with self._sessions.first() as session:
            prepare(session)
        self._sessions.open()

    def head(self) -> Head | None:
        """Return the newest head, or nothing before the first append."""
        return self.heads()[0]

    def committed(self) -> Committed | None:
        """Return the newest committed head, or nothing before the first."""
        return self.heads()[1]

    def heads(self) -> tuple[Head | None, Committed | None]:
        """Return both heads as they are at one moment, in one round trip."""
        with self._sessions.session() as session:
            return read_heads(
                session.rows(statements.HEADS, statements.LIMITS, BIGINT, TEXT, BYTEA, BIGINT, TEXT)[0]
            )

    def entries(self, start: int, end: int) -> list[bytes]:
        """Return the entries from index `start` up to before `end`, in order; see `Storage.entries`."""
        return self._values(statements.ENTRIES, start, end)

    def audit(self, start: int, end: int) -> list[bytes]:
        """Return the audit records from index `start` up to before `end`, in order; see `Storage.audit`."""
        return self._values(statements.AUDIT, start, end)

    def secret(self, name: SecretName) -> bytes | None:
        """Return the ciphertext kept under `name`."""
        parameters = {**statements.LIMITS, "kind": name.kind, "name": name.name, "version": name.version}
        with self._sessions.session() as session:
            found = session.rows(statements.WRAPPED, parameters, BYTEA)
            return typed(found[0][0], bytes) if found else None

    def secrets_of(self, kind: str) -> list[WrappedSecret]:
        """Return all secrets of one kind, ordered by name and version; see `Storage.secrets_of`."""
        parameters = {**statements.LIMITS, "kind": kind}
        with self._sessions.session() as session:
            return read_secrets(kind, session.rows(statements.WRAPPED_OF_KIND, parameters, TEXT, TEXT, BYTEA))

    def append(self, commit: Commit) -> None:
        """Store `commit` as one statement, which is one transaction.

        When no answer comes, the commit may be stored or not, and may even be about to be. It is settled:

        1. the server's process that had the statement is ended, and awaited, so that nothing follows;
        2. a write to the head waits for its lock, and for the standbys that commits are to wait for;
        3. the entries at this place of the log are compared, with the random bytes of this attempt.

        What remains: the server cannot be asked (`OutcomeUnknownError`), or another server has taken over and
        the old one, cut off, stores what nobody will read.

        Raises:
            HeadMovedError: the log has another size than `commit.expected_size`; nothing was stored.
            OutcomeUnknownError: there was no answer, and it could not be settled.
            StorageUnavailableError: the store does not serve; nothing was stored.
        """
        batch = secrets.token_bytes(BATCH_BYTES)
        try:
            is_stored = self._try(commit, batch)
        except _NoAnswerError as unanswered:
            is_stored = self._settle(commit, batch, unanswered.backend)
        if not is_stored:
            head = self.head()
            got = 0 if head is None else head.size
            raise HeadMovedError(f"storage: expected a log of {commit.expected_size} entries, got {got}")

    def commit(self, committed: Committed) -> None:
        """Store `committed` where it is newer than the stored one, or of its size; else nothing changes."""
        with self._sessions.session() as session:
            session.rows(statements.COMMIT, {"size": committed.size, "note": committed.note})

    def close(self) -> None:
        """Let go of the server."""
        self._sessions.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _values(self, statement: str, start: int, end: int) -> list[bytes]:
        parameters = {**statements.LIMITS, "start": start, "end": end, "count": max(end - start, 0)}
        with self._sessions.session() as session:
            return read_values(session.rows(statement, parameters, BYTEA))

    def _try(self, commit: Commit, batch: bytes) -> bool:
        statement = statements.APPEND_NEXT if commit.expected_size else statements.APPEND_FIRST
        with self._sessions.session() as session:
            try:
                ((moved,),) = session.rows(statement, statements.append_parameters(commit, batch), BIGINT)
            except FOREIGN_ERRORS as error:
                if session.has_rolled_back(error):
                    raise
                raise _NoAnswerError(session.backend) from error
        return moved == 1

    def _settle(self, commit: Commit, batch: bytes, backend: Backend) -> bool:
        """Find out whether `commit` was stored; see `append`."""
        try:
            with self._sessions.session() as session:
                session.end_other(backend, self._timeouts)  # (1)
                sizes = session.rows(statements.LOCK_HEAD, {}, BIGINT)  # (2)
                start, count = commit.expected_size, len(commit.entries)
                place = {**statements.LIMITS, "start": start, "end": start + count, "count": count}
                found = session.rows(statements.STORED, place, BYTEA, BYTEA)  # (3)
        except StorageUnavailableError as error:
            raise OutcomeUnknownError(f"storage: a commit was not answered, and then: {error}") from error
        if found == [(entry, batch) for entry in commit.entries]:
            return True
        if all(size == commit.expected_size for (size,) in sizes):
            raise StorageUnavailableError("storage: PostgreSQL: the connection was lost, and nothing stored")
        return False
