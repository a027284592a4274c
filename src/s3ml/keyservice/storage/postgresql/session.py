"""One session with PostgreSQL: every wait has an end, and it commits durably or is refused.

The server is the host's. What it reports of itself is believed as far as its operator is: who says that a
commit is flushed when it is not loses their own log, which is found out like any rollback.

Source: PostgreSQL documentation, "Write Ahead Log" (fsync, full_page_writes, synchronous_commit), "Client
Connection Defaults" (the timeouts) and libpq, "Connection Control Functions".
"""

import re
import select
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import conninfo as conninfos
from psycopg import errors, pq
from psycopg.abc import PQGen
from psycopg.rows import TupleRow

from s3ml.keyservice.storage.values import ValueTypeError
from s3ml.primitives.errors import ConfigurationError

OLDEST_VERSION = 14
"""The first whose `pg_terminate_backend` waits until the other session has ended."""
BYTEA, TEXT, BIGINT, INTEGER, BOOLEAN = 17, 25, 20, 23, 16
"""Types by number, as PostgreSQL's catalogue has them."""

_DURABLE = {"fsync": ("on",), "full_page_writes": ("on",), "synchronous_commit": ("on", "remote_apply")}
_BEGIN = """
SELECT set_config('statement_timeout', %(limit)s, false), set_config('lock_timeout', %(limit)s, false),
    set_config('idle_in_transaction_session_timeout', %(limit)s, false),
    set_config('default_transaction_isolation', 'read committed', false),
    current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit'),
    pid, backend_start::text
FROM pg_stat_activity WHERE pid = pg_backend_pid()
"""
END_ATTEMPTS = 3
_END_OTHER = """
SELECT pg_terminate_backend(pid, %(milliseconds)s) FROM pg_stat_activity
WHERE pid = %(pid)s AND backend_start::text = %(start)s
"""
FOREIGN_ERRORS = (psycopg.Error, ValueTypeError, ArithmeticError, LookupError, ValueError)
"""What may come of talking to a server that says anything."""

REPLY_TIMEOUT_S = 5.0
_ALIVE_READS_LIMIT = 16
_REASON_LIMIT = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long the parts of an operation may take at most, each in seconds.

    Args:
        connect_s: A connection, for each address of the host.
        checkout_s: A session of the pool becoming free.
        statement_s: A statement on the server, waiting for locks included.
        reply_s: The reply to a statement; longer than the statement, so that the server ends it first.
    """

    connect_s: int = 3
    checkout_s: float = 3.0
    statement_s: float = 4.0
    reply_s: float = REPLY_TIMEOUT_S


Backend = tuple[int, str]
"""A process of the server that serves one session: its number, and when it began."""


class Session(psycopg.Connection[TupleRow]):
    """A connection whose replies are awaited until a deadline; after it, the session is of no more use.

    Attributes:
        reply_timeout_s: That deadline.
        backend: What serves it.
    """

    reply_timeout_s = REPLY_TIMEOUT_S
    backend: Backend = (0, "")

    def wait(self, gen: PQGen[Any], interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait as psycopg does, but not for ever."""
        return super().wait(gen, interval, self.reply_timeout_s if timeout is None else timeout)

    def rows(self, statement: str, parameters: Mapping[str, object], *types: int) -> list[tuple[object, ...]]:
        """Run one statement and return its rows, whose columns have the given types.

        Raises:
            psycopg.Error: the server refused, or was not heard of.
            ValueTypeError: the columns have other types.
        """
        with self.cursor(binary=True) as cursor:
            cursor.execute(statement.encode(), parameters)
            got = tuple(column.type_code for column in cursor.description or ())
            if got != types:
                raise ValueTypeError(f"expected columns of types {types}, got {got}")
            return cursor.fetchall() if types else []

    def has_rolled_back(self, error: Exception) -> bool:
        """Whether the server reported `error` itself and went on: the statement has changed nothing, then."""
        is_reported = isinstance(error, psycopg.Error) and error.sqlstate is not None
        return is_reported and self.pgconn.transaction_status == pq.TransactionStatus.IDLE

    def end_other(self, backend: Backend, timeouts: Timeouts) -> None:
        """End the session that `backend` serves, and wait until it has ended: nothing of it happens any more.

        Raises:
            psycopg.Error: it has not ended in time, or the server was not heard of.
        """
        pid, start = backend
        parameters = {"pid": pid, "start": start, "milliseconds": round(timeouts.statement_s * 1000)}
        for _ in range(END_ATTEMPTS):  # it may end by itself between being found and being told to
            if all(row == (True,) for row in self.rows(_END_OTHER, parameters, BOOLEAN)):
                return
        raise errors.OperationalError("another session does not end")

    def check_alive(self) -> None:
        """Find out without a round trip whether the server has closed the connection.

        Raises:
            psycopg.OperationalError: it has, or it talks without having been asked.
        """
        poller = select.poll()
        poller.register(self.pgconn.socket, select.POLLIN)
        for _ in range(_ALIVE_READS_LIMIT):
            if not poller.poll(0):
                return
            self.pgconn.consume_input()
        raise errors.OperationalError("the server talks without having been asked")


def read_conninfo(conninfo: str, timeouts: Timeouts) -> dict[str, Any]:
    """Parse a URL or a connection string, and add what it leaves open.

    Raises:
        ConfigurationError: malformed; the message holds nothing of it.
    """
    try:
        given = conninfos.conninfo_to_dict(conninfo)
    except psycopg.Error:
        raise ConfigurationError(
            "storage: the address of PostgreSQL is malformed: expected postgresql://user:password@host/database,"
            " with special characters percent-encoded"
        ) from None
    return {
        "application_name": "s3ml-key-service",
        "connect_timeout": timeouts.connect_s,
        "gssencmode": "disable",  # else every connection looks for Kerberos tickets first
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "target_session_attrs": "read-write",
        "tcp_user_timeout": round(timeouts.reply_s * 1000),
        **given,
        "autocommit": True,
        "client_encoding": "UTF8",
    }


def begin(session: Session, timeouts: Timeouts) -> None:
    """Set the time-outs of a new session, and check that what it commits is durable.

    Raises:
        ConfigurationError: the server is too old, does not flush what it commits, or is not spoken to
            directly.
        psycopg.Error: the server refused, or was not heard of.
        ValueTypeError: it answered something else.
    """
    session.reply_timeout_s = timeouts.reply_s
    version = session.info.server_version // 10000
    if version < OLDEST_VERSION:
        raise ConfigurationError(
            f"storage: expected PostgreSQL {OLDEST_VERSION} or later, got {version}: upgrade the server"
        )
    limit = {"limit": f"{round(timeouts.statement_s * 1000)}ms"}
    found = session.rows(_BEGIN, limit, *[TEXT] * 7, INTEGER, TEXT)
    if [row[7] for row in found] != [session.info.backend_pid]:
        raise ConfigurationError(
            "storage: a pooler stands before PostgreSQL: name the server itself (sessions are pooled here)"
        )
    values = dict(zip(_DURABLE, found[0][4:7], strict=True))
    if wrong := [f"{name} = {values[name]}" for name in _DURABLE if values[name] not in _DURABLE[name]]:
        raise ConfigurationError(
            f"storage: PostgreSQL may lose what it commits: got {', '.join(wrong)}: set it to on and reload"
        )
    session.backend = (session.info.backend_pid, str(found[0][8]))


def reason(error: Exception, parameters: Mapping[str, Any]) -> str:
    """Say in one line why `error` happened, without anything of the address or the password."""
    if isinstance(error, psycopg.Error) and error.sqlstate:
        return f"{type(error).__name__} (SQLSTATE {error.sqlstate})"
    if isinstance(error, psycopg.Error):
        line = re.sub(r".*(failed|resolve host \S+): ", "", str(error).partition("\n")[0])
        for secret in ("password", "passfile", "sslpassword"):
            if parameters.get(secret):
                line = line.replace(str(parameters[secret]), "***")
        return "".join(c for c in line if c.isprintable())[:_REASON_LIMIT]
    return str(error)[:_REASON_LIMIT]
