"""A running balancer, asked over its Unix socket: how things stand, and to switch its policy; blocking."""

import http.client
import os
import socket
from pathlib import Path

import msgspec

from s3ml.primitives.errors import ConfigurationError, UnavailableError
from s3ml.scheduling.balancer.control import POLICY_PATH, STATUS_PATH, PolicyChoice
from s3ml.scheduling.balancer.status import BalancerStatus

_DEADLINE_S = 5.0
_LIMIT_BYTES = 4 * 1024 * 1024


class _SocketConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket, addressed through its folder so that a long path fits."""

    def __init__(self, path: Path) -> None:
        super().__init__("balancer.invalid", timeout=_DEADLINE_S)
        self._path = path

    def connect(self) -> None:
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(_DEADLINE_S)
            self.sock.connect(f"/proc/self/fd/{folder}/{self._path.name}")
        finally:
            os.close(folder)


def read_status(path: Path) -> BalancerStatus:
    """Ask the balancer behind the socket at `path` how things stand.

    Raises:
        UnavailableError: none answers there.
    """
    return _ask(path, "GET", STATUS_PATH)


def switch_policy(path: Path, policy: str) -> BalancerStatus:
    """Let another policy decide; return how things stand then.

    Raises:
        ConfigurationError: no policy has that name.
        UnavailableError: no balancer answers there.
    """
    return _ask(path, "PUT", POLICY_PATH, msgspec.json.encode(PolicyChoice(policy)))


def _ask(path: Path, method: str, target: str, body: bytes | None = None) -> BalancerStatus:
    connection = _SocketConnection(path)
    try:
        connection.request(method, target, body)
        response = connection.getresponse()
        data = response.read(_LIMIT_BYTES)
        if response.status == http.client.BAD_REQUEST:
            raise ConfigurationError(str(msgspec.json.decode(data, type=dict[str, str])["error"]))
        return msgspec.json.decode(data, type=BalancerStatus)
    except (OSError, http.client.HTTPException) as error:
        raise UnavailableError(f"balancer: none answers at {path}: is it running?") from error
    except (msgspec.DecodeError, KeyError) as error:
        raise UnavailableError(f"balancer: what answers at {path} is none") from error
    finally:
        connection.close()
