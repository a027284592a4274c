"""A witness on a port of its own: the real server in a thread, and a peer that answers as it is told to."""

import asyncio
import contextlib
import http.client
import io
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn

from s3ml.transparency.witness.client import WitnessClient
from s3ml.transparency.witness.logs import LogsFile
from s3ml.transparency.witness.observing import EventLog
from s3ml.transparency.witness.server import Served, create_app
from s3ml.transparency.witness.service import Witness
from s3ml.transparency.witness.store import SQLiteStore
from tests.clocks import FakeClock
from tests.transparency.transparency_world import LOG_KEY, ORIGIN, signer

SIGNER = signer(1)


def configuration(origin: str = ORIGIN, *keys: str) -> str:
    listed = ", ".join(f'"{key}"' for key in keys or (str(LOG_KEY.public),))
    return f'version = 1\n\n[[log]]\norigin = "{origin}"\nkeys = [{listed}]\n'


class Live:
    """A witness, everything that it is made of, and a client of it."""

    def __init__(self, folder: Path) -> None:
        self.lines = io.StringIO()
        self.clock = FakeClock()
        self.config = folder / "witness.toml"
        self.config.write_text(configuration())
        self.events = EventLog(self.lines.write, self.clock)
        self.logs = LogsFile(
            self.config,
            own_key=SIGNER.public.key,
            changed=lambda found: self.events.emit("configured", logs=len(found)),
            rejected=lambda error: self.events.emit("configuration-rejected", error=f"{error}"),
        )
        self.store = SQLiteStore.begin(folder / "state", SIGNER.public)
        self.witness = Witness(SIGNER, self.logs, self.store, self.clock)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        app = create_app(Served(witness=self.witness, logs=self.logs, state=self.store, events=self.events))
        self.server = uvicorn.Server(uvicorn.Config(app, http="httptools", log_config=None, lifespan="on"))
        self.thread = threading.Thread(target=lambda: asyncio.run(self.server.serve(sockets=[self.socket])))
        self.thread.start()
        self.client = WitnessClient(self.url, timeout_s=120.0)

    @property
    def told(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines.getvalue().splitlines()]

    def raw(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            reply = connection.getresponse()
            return reply.status, {k.lower(): v for k, v in reply.getheaders()}, reply.read()

    def stop(self) -> None:
        self.client.close()
        self.server.should_exit = True
        self.thread.join(120)
        assert not self.thread.is_alive()
        self.socket.close()
        self.store.close()


@contextlib.contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """Serve connections, one after the other, by `answer`; yield the address."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(120)
                answer(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(120)
        assert not thread.is_alive()


def take_request(connection: socket.socket) -> None:
    """Read one request to its end."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)


def reply(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)
