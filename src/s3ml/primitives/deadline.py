"""Connections that end at a deadline, whatever their peer does.

A socket's own timeout counts from byte to byte, so that a peer that sends one every second is never late.
Here a timer shuts the socket down when the exchange as a whole has taken too long.
"""

import contextlib
import socket
import threading
from types import TracebackType
from typing import Any, Self

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

_CURRENT = threading.local()


class Deadline:
    """The end of one exchange, made in the thread that talks; a context manager.

    Args:
        seconds: From entering on, real time.
    """

    __slots__ = ("_lock", "_sockets", "_timer", "is_over")

    def __init__(self, seconds: float) -> None:
        self.is_over = False
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        _CURRENT.deadline = self
        self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _CURRENT.deadline = None
        self._timer.cancel()
        with self._lock:
            self._sockets.clear()

    def watch(self, connected: socket.socket) -> None:
        """Put a socket under this deadline, even where it is over already."""
        with self._lock:
            self._sockets.append(connected)
            if self.is_over:
                _shut(connected)

    def _end(self) -> None:
        with self._lock:
            self.is_over = True
            for connected in self._sockets:
                _shut(connected)


class _HTTP(HTTPConnection):
    def connect(self) -> None:
        super().connect()
        _watch(self.sock)

    def putrequest(self, *args: Any, **options: Any) -> None:
        _watch(self.sock)
        super().putrequest(*args, **options)


class _HTTPS(HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        _watch(self.sock)

    def putrequest(self, *args: Any, **options: Any) -> None:
        _watch(self.sock)
        super().putrequest(*args, **options)


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _HTTP


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _HTTPS


POOL_CLASSES: dict[str, type[HTTPConnectionPool]] = {"http": _HTTPPool, "https": _HTTPSPool}


def _watch(connected: socket.socket | None) -> None:
    """Put a socket under the deadline that this thread has entered: a new one, or one that is kept alive."""
    deadline: Deadline | None = getattr(_CURRENT, "deadline", None)
    if deadline is not None and connected is not None:
        deadline.watch(connected)


def _shut(connected: socket.socket) -> None:
    """Shut a socket down under whoever reads from it; the base class's way leaves a TLS session as it is."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connected, socket.SHUT_RDWR)
