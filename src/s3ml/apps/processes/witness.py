"""A witness's process: it watches the logs of a file and cosigns what only appends.

Logs are JSON lines on standard error. SIGHUP reads the configuration again, as a change of the file does;
SIGTERM and SIGINT end it once the requests that are being answered are.
"""

import signal
import socket
import sys
from pathlib import Path

import uvicorn

from s3ml.listening import http_config, listen
from s3ml.primitives.clock import SystemClock
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.files import read_limited
from s3ml.primitives.units import KIB
from s3ml.transparency.witness.logs import Logs, LogsFile
from s3ml.transparency.witness.observing import EventLog
from s3ml.transparency.witness.server import Served, create_app
from s3ml.transparency.witness.service import Witness
from s3ml.transparency.witness.signer import WitnessSigner
from s3ml.transparency.witness.store import SQLiteStore

GRACE_S = 5
CONNECTIONS_LIMIT = 1024
_KEY_LIMIT_BYTES = 4 * KIB


def read_signer(path: Path) -> WitnessSigner:
    """Read a witness's key file.

    Raises:
        ConfigurationError: it is missing, or no witness's key.
    """
    data = read_limited(path, limit_bytes=_KEY_LIMIT_BYTES, what="witness key")
    try:
        return WitnessSigner.parse(data.decode("utf-8", errors="replace"))
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def serve(*, config: Path, key: Path, state: Path, host: str, port: int, is_beginning: bool) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        config: The logs to watch.
        key: The witness's key file.
        state: The folder of what it must not forget.
        host: The address to listen on.
        port: The port to listen on; 0 lets the system choose.
        is_beginning: Make the state, which must not exist yet.

    Raises:
        ConfigurationError: a file cannot be used, or the address cannot be listened on.
        UnavailableError: the state is in use, or the disk does not serve.
    """
    clock = SystemClock()
    events = EventLog(_write_line, clock)
    signer = read_signer(key)
    logs = LogsFile(
        config,
        own_key=signer.public.key,
        changed=lambda found: events.emit("configured", logs=len(found)),
        rejected=lambda error: events.emit("configuration-rejected", error=f"{error}: the old one holds"),
    )
    open_state = SQLiteStore.begin if is_beginning else SQLiteStore
    with open_state(state, signer.public) as store, listen(host, port, setting="--listen") as listener:
        witness = Witness(signer, logs, store, clock)
        app = create_app(Served(witness=witness, logs=logs, state=store, events=events))
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _end)  # uvicorn raises the signal again once it has stopped
        signal.signal(signal.SIGHUP, lambda *_: logs.expire())
        _announce(events, signer, logs.current(), listener)
        settings = http_config(app=app, connections=CONNECTIONS_LIMIT, grace_s=GRACE_S)
        uvicorn.Server(settings).run(sockets=[listener])


def _announce(events: EventLog, signer: WitnessSigner, logs: Logs, listener: socket.socket) -> None:
    host, port = listener.getsockname()[:2]
    events.emit("listening", listen=f"{host}:{port}", witness=str(signer.public), logs=len(logs))


def _end(_number: int, _frame: object) -> None:
    sys.exit(0)


def _write_line(line: str) -> None:
    sys.stderr.write(line)
    sys.stderr.flush()
