"""A Unix socket whose connections are judged the moment they are taken.

The kernel's word on the peer (SO_PEERCRED) is of the time of its connect; `drain` lets the owner judge all
that are waiting before the meaning of a process id can change.
"""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

from s3ml.primitives.errors import ConfigurationError

_BACKLOG = 128
_PATH_LIMIT_BYTES = 107
_CREDENTIALS = struct.Struct("=iII")


class Listener:
    """A listening Unix socket, owned by the running event loop.

    Args:
        path: Where the socket is; a dead one there is replaced.
        accept: Called with each connection (non-blocking, the callee's to close) and the peer's process id.

    Raises:
        ConfigurationError: The path is too long, or the socket cannot be made.
    """

    def __init__(self, path: Path, accept: Callable[[socket.socket, int], None]) -> None:
        self._path = path
        self._accept = accept
        if len(os.fsencode(path)) > _PATH_LIMIT_BYTES:
            raise ConfigurationError(
                f"{path}: expected at most {_PATH_LIMIT_BYTES} bytes for a socket; use a shorter one"
            )
        self._socket = socket.socket(
            socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        try:
            path.unlink(missing_ok=True)
            self._socket.bind(str(path))
            path.chmod(0o600)
            self._socket.listen(_BACKLOG)
        except OSError as error:
            self._socket.close()
            raise ConfigurationError(f"{path}: cannot listen: {error.strerror}") from error
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._socket, self.drain)

    def drain(self) -> None:
        """Take every connection that is waiting."""
        with contextlib.suppress(BlockingIOError):
            while True:
                connection, _ = self._socket.accept()
                connection.settimeout(0)
                self._accept(connection, peer_pid(connection))

    def close(self) -> None:
        """Stop listening and remove the socket."""
        self._loop.remove_reader(self._socket)
        self._socket.close()
        self._path.unlink(missing_ok=True)


def peer_pid(connection: socket.socket) -> int:
    """Return the id of the process that connected, as the kernel knows it."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid: int = _CREDENTIALS.unpack(credentials)[0]
    return pid
