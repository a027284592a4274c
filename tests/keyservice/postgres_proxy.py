"""A proxy before PostgreSQL that knows its messages, and cuts, holds or changes what passes.

A fault is armed for the next message of a kind in one direction, on a connection whose newest statement says
a certain word; it happens once. Messages are told apart by the letter
that begins them; those that begin a connection have none and always pass.

Source: PostgreSQL documentation, "Message Formats".
"""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import BinaryIO
from urllib.parse import quote

from tests.keyservice.postgres_server import DEADLINE_S, USER, PostgresServer

LOG = b"INSERT INTO s3ml_log"


class Way(Enum):
    """Where a message goes."""

    TO_SERVER = "to the server"
    TO_CLIENT = "to the client"


@dataclass(slots=True, kw_only=True)
class Link:
    """One connection through the proxy."""

    client: socket.socket
    server: socket.socket
    statement: bytes = b""

    def forward(self, way: Way, data: bytes) -> None:
        """Pass bytes on, where anybody is left to take them."""
        with suppress(OSError):
            (self.server if way is Way.TO_SERVER else self.client).sendall(data)

    def cut(self) -> None:
        """Close both ends at once."""
        for end in (self.client, self.server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


Fault = Callable[[Link, Way, bytes], None]


def cut_before(link: Link, _way: Way, _message: bytes) -> None:
    """Lose the message and all that follows."""
    link.cut()


def cut_within(link: Link, way: Way, message: bytes) -> None:
    """Lose all from the middle of the message on."""
    link.forward(way, message[: len(message) // 2])
    link.cut()


def cut_after(link: Link, way: Way, message: bytes) -> None:
    """Lose all that follows the message."""
    link.forward(way, message)
    link.cut()


@dataclass(slots=True)
class Hold:
    """Keep the message, and what follows it, until it is released."""

    held: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)

    def __call__(self, link: Link, way: Way, message: bytes) -> None:
        self.held.set()
        self.release.wait()
        link.forward(way, message)


class Proxy:
    """Listens on a loopback port and passes to the socket of a server.

    Attributes:
        change: Changes a message that passes: its way, its letter and its bytes.
        passed: The letters of what passed, in order, each with its connection's statement.
        black_hole: While it is not set, nothing passes any more.
        is_refusing: Whether new connections are closed at once.
    """

    def __init__(self, server: PostgresServer) -> None:
        self.change: Callable[[Way, bytes, bytes], bytes] = lambda _way, _kind, message: message
        self.passed: list[tuple[Way, bytes, bytes]] = []
        self.faults: dict[tuple[Way, bytes], tuple[bytes, Fault]] = {}
        self.black_hole: threading.Event | None = None
        self.is_refusing = False
        self._upstream = str(server.folder / ".s.PGSQL.5432")
        self._holds: list[Hold] = []
        self._links: list[Link] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._begin(self._accept)

    def url(self, schema: str, **parameters: str) -> str:
        """Return the URL by which the server is reached through here."""
        given = {"sslmode": "disable", "options": f"-csearch_path={schema}", **parameters}
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in given.items())
        return f"postgresql://{USER}@127.0.0.1:{self._listener.getsockname()[1]}/postgres?{query}"

    def arm(self, way: Way, kind: bytes, fault: Fault, about: bytes = LOG) -> None:
        """Have the next message of that kind meet a fault, where it belongs to a statement with that word."""
        if isinstance(fault, Hold):
            self._holds.append(fault)
        self.faults[way, kind] = about, fault

    def cut(self) -> None:
        """Close every connection."""
        for link in self._links:
            link.cut()

    def close(self) -> None:
        """Close everything, and wait until it has ended."""
        for hold in self._holds:
            hold.release.set()
        if self.black_hole is not None:
            self.black_hole.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(DEADLINE_S)
            assert not thread.is_alive()
        for link in self._links:
            link.client.close()
            link.server.close()

    def _begin(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                link = Link(client=client, server=server)
                self._links.append(link)
                try:
                    server.connect("" if self.is_refusing else self._upstream)
                except OSError:
                    link.cut()
                    continue
                self._begin(self._pump, link, Way.TO_SERVER, client)
                self._begin(self._pump, link, Way.TO_CLIENT, server)

    def _pump(self, link: Link, way: Way, source: socket.socket) -> None:
        with suppress(OSError), source.makefile("rb") as stream:
            if way is Way.TO_SERVER:  # how a connection begins
                link.forward(way, _rest(stream))
            while kind := stream.read(1):
                self._pass(link, way, kind, self.change(way, kind, kind + _rest(stream)))
        link.cut()

    def _pass(self, link: Link, way: Way, kind: bytes, message: bytes) -> None:
        if self.black_hole is not None:
            self.black_hole.wait()
        if kind == b"P" and way is Way.TO_SERVER:
            link.statement = message
        self.passed.append((way, kind, link.statement))
        about, fault = self.faults.get((way, kind), (b"", None))
        if fault is None or about not in link.statement:
            link.forward(way, message)
        else:
            del self.faults[way, kind]
            fault(link, way, message)


def _rest(stream: BinaryIO) -> bytes:
    """Read a length and what it counts; less where the stream ends."""
    length = stream.read(4)
    return length + stream.read(max(int.from_bytes(length) - 4, 0))


@contextmanager
def proxy_before(server: PostgresServer) -> Iterator[Proxy]:
    """Run a proxy before a server."""
    proxy = Proxy(server)
    try:
        yield proxy
    finally:
        proxy.close()


def letters(proxy: Proxy, way: Way) -> str:
    """Return what passed one way of commits, as text: the pool may open another session meanwhile."""
    passed = (kind for passed_way, kind, about in proxy.passed if passed_way is way and LOG in about)
    return b"".join(passed).decode()
