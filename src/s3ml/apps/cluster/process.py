"""The processes of a local cluster: ports, readiness, and the platform's daemon as a child."""

import contextlib
import http.client
import os
import secrets
import select
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from s3ml.attestation import Technology
from s3ml.primitives.errors import UnavailableError

LOOPBACK = "127.0.0.1"
_POLL_S = 0.02
_PROBE_TIMEOUT_S = 2.0
_TAIL_BYTES = 4096
_PORTS = range(20_000, 32_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One enclave process as its operator knows it.

    Attributes:
        name: Its name in logs and replies.
        service: What it serves, or nothing for the key service.
        instance: The platform's name for it.
        pid: Its process id.
        port: Where it listens on loopback.
        measurement: What the platform measured.
        log: The file that holds what it prints.
        is_honest: Whether it runs the installed code.
        node: The node that it runs on, or nothing for the key service.
    """

    name: str
    service: str
    instance: str
    pid: int
    port: int
    measurement: str
    log: Path
    is_honest: bool
    node: str = ""

    @property
    def address(self) -> str:
        """Where it listens, as ``ip:port``."""
        return f"{LOOPBACK}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """What a replica says of itself outside the seal: whether it is ready, and if not, its phase."""

    is_ready: bool
    detail: str


def free_port() -> int:
    """Return a port of loopback that was free a moment ago; see `free_ports`."""
    (port,) = free_ports(1)
    return port


def free_ports(count: int) -> tuple[int, ...]:
    """Return that many different ports of loopback that were free a moment ago, drawn at random.

    They lie below those that Linux gives to connections and to whoever asks for any port: nobody is given one
    of them before the process listens that it was chosen for.

    Source: Linux, Documentation/networking/ip-sysctl.rst, "ip_local_port_range".
    """
    found: set[int] = set()
    while len(found) < count:
        if is_port_free(port := secrets.choice(_PORTS)):
            found.add(port)
    return tuple(found)


def is_port_free(port: int) -> bool:
    """Tell whether `port` of loopback can be listened on."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            return True
    return False


def readiness(port: int, path: str) -> Readiness:
    """Ask a process whether it is ready; not listening yet counts as not ready."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=_PROBE_TIMEOUT_S)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        body = reply.read(16_384)
    except (OSError, http.client.HTTPException):
        return Readiness(is_ready=False, detail="not listening yet")
    finally:
        connection.close()
    return Readiness(is_ready=reply.status == http.client.OK, detail=_detail(body))


def last_line(log: Path) -> str:
    """Return the last line that a process printed, by which it says why it ended."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            lines = file.read().decode("utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return lines[-1] if lines else "it said nothing"


def _detail(body: bytes) -> str:
    with contextlib.suppress(msgspec.DecodeError):
        document = msgspec.json.decode(body)
        if isinstance(document, dict):
            return str(document.get("error") or document.get("phase") or "")
    return body.decode(errors="replace")


class PlatformProcess:
    """The simulated platform's daemon as a child of this process.

    Args:
        state: Its folder.
        log: The file for what it prints.
        simulates: Whose formats its evidence has.
        tcb: What its vendor says of it, by name.
    """

    def __init__(self, state: Path, log: Path, *, simulates: Technology, tcb: str) -> None:
        self._state = state
        self._log = log
        self._arguments = ("--simulates", simulates, "--tcb", tcb)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def exit_status(self) -> int | None:
        """The exit status of a daemon that ended by itself, or nothing."""
        return self._process.poll() if self._process else None

    def spawn(self) -> None:
        """Start the daemon."""
        daemon = [sys.executable, "-m", "s3ml.apps.processes.platform"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own argument list, no shell
                [*daemon, "--state", str(self._state), "--die-with-parent", *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )

    def wait_until_ready(self, *, deadline_s: float) -> None:
        """Return once the daemon's sockets accept.

        Raises:
            UnavailableError: it ended, or was not ready in time.
        """
        output = self._process.stdout if self._process else None
        deadline = time.monotonic() + deadline_s
        while output is not None and time.monotonic() < deadline:
            if select.select([output], [], [], _POLL_S)[0]:
                line = output.readline()
                if b"READY" in line:
                    return
                if not line:
                    break
        self.stop(grace_s=0.0)
        last = self._log.read_text(errors="replace").strip().splitlines()[-1:]
        raise UnavailableError(f"simulated platform: did not start: {''.join(last) or 'no reason given'}")

    def stop(self, *, grace_s: float) -> None:
        """Stop the daemon and everything that it launched, by force once `grace_s` has passed."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(timeout=grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
