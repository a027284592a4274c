"""The pool of sessions: bounded, checked before use, renewed after the server was away.

Sessions are opened by two threads of the pool's own. While the server is away, they try for a few seconds;
after that, whoever asks next has them try again.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg_pool import ConnectionPool, PoolTimeout, TooManyRequests

from s3ml.keyservice.storage.postgresql.session import (
    FOREIGN_ERRORS,
    Session,
    Timeouts,
    begin,
    read_conninfo,
    reason,
)
from s3ml.keyservice.storage.protocol import StorageUnavailableError
from s3ml.primitives.errors import ConfigurationError

SESSIONS_LIMIT = 8
WAITING_LIMIT = 256
LIFETIME_S = 3600.0
IDLE_S = 600.0

for _name in ("psycopg", "psycopg.pool"):  # its lines name addresses; what fails is told by our own errors
    logging.getLogger(_name).addHandler(logging.NullHandler())
    logging.getLogger(_name).propagate = False


class Sessions:
    """Sessions with one database.

    Args:
        conninfo: A URL or a connection string, as libpq takes it.
        timeouts: See `Timeouts`.

    Raises:
        ConfigurationError: `conninfo` is malformed.
    """

    def __init__(self, conninfo: str, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self._parameters = read_conninfo(conninfo, timeouts)
        self._refusal = ""
        self._pool = ConnectionPool(
            connection_class=Session,
            kwargs=self._parameters,
            configure=self._begin,
            check=self._check,
            min_size=1,
            max_size=SESSIONS_LIMIT,
            max_waiting=WAITING_LIMIT,
            max_lifetime=LIFETIME_S,
            max_idle=IDLE_S,
            timeout=timeouts.checkout_s,
            reconnect_timeout=timeouts.checkout_s,
            num_workers=2,
            name="s3ml",
            open=False,
        )

    def open(self) -> None:
        """Begin to keep sessions at hand."""
        self._pool.open()

    def close(self) -> None:
        """Close every session, and refuse to open another."""
        self._pool.close()

    @contextmanager
    def first(self) -> Iterator[Session]:
        """Open a session outside the pool, to learn at once why that fails.

        Raises:
            ConfigurationError: the server refuses, or is refused, for good.
            StorageUnavailableError: it does not serve.
        """
        with self._mapped():
            session = Session.connect(**self._parameters)
            try:
                begin(session, self._timeouts)
                yield session
            finally:
                session.close()

    @contextmanager
    def session(self) -> Iterator[Session]:
        """Lend a session; one on which anything failed is not lent again.

        Raises:
            StorageUnavailableError: none is to be had, or anything failed.
        """
        with self._mapped():
            session = self._pool.getconn()
            try:
                yield session
            except BaseException:
                session.close()
                raise
            finally:
                self._pool.putconn(session)

    def _begin(self, session: Session) -> None:
        try:
            begin(session, self._timeouts)
            self._refusal = ""
        except BaseException as error:
            self._refusal = str(error) if isinstance(error, ConfigurationError) else ""
            session.close()
            raise

    def _check(self, session: Session) -> None:
        try:
            session.check_alive()
        except psycopg.Error:
            session.close()
            self._pool.drain()  # the others were opened before the server went away, too
            raise

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        """Turn the driver's errors into ours."""
        try:
            yield
        except (PoolTimeout, TooManyRequests) as error:
            why = self._refusal or "storage: PostgreSQL: no session to be had in time"
            raise StorageUnavailableError(why) from error
        except FOREIGN_ERRORS as error:
            raise StorageUnavailableError(
                f"storage: PostgreSQL: {reason(error, self._parameters)}"
            ) from error
