"""Taps: proxies between two processes that pass everything on, until a test pauses, slows or cuts them.

A tap knows where one message of PostgreSQL ends and which statement it belongs to; of anything else it sees
the pieces as they come. A `Pause` holds the first message that a test describes, and everything behind it.

Source: PostgreSQL documentation, "Message Formats".
"""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import BinaryIO

LOOPBACK = "127.0.0.1"
DEADLINE_S = 180.0
_PIECE_BYTES = 65536

Upstream = Path | tuple[str, int]


class Way(Enum):
    """Where a message goes."""

    TO_SERVER = auto()
    TO_CLIENT = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What passes: a message of PostgreSQL, or a piece of another stream.

    Args:
        way: Where it goes.
        data: All of it.
        kind: PostgreSQL's letter for it; empty for other streams.
        statement: The statement that it belongs to; empty for other streams.
    """

    way: Way
    data: bytes
    kind: bytes = b""
    statement: bytes = b""


Match = Callable[[Message], bool]


@dataclass(slots=True)
class Pause:
    """Holds what `match` describes first, and everything behind it, until it ends.

    Args:
        match: Describes a message.
    """

    match: Match
    _reached: threading.Event = field(default_factory=threading.Event)
    _ended: threading.Event = field(default_factory=threading.Event)
    _passes: bool = True

    def wait(self) -> None:
        """Wait until the message is there."""
        assert self._reached.wait(DEADLINE_S), "nothing of that kind came"

    def release(self) -> None:
        """Let everything pass."""
        self._ended.set()

    def drop(self) -> None:
        """Lose what is held."""
        self._passes = False
        self._ended.set()

    def hold(self) -> bool:
        """Hold the message; tell whether it is to pass."""
        self._reached.set()
        self._ended.wait()
        return self._passes


@dataclass(slots=True)
class _Link:
    client: socket.socket
    server: socket.socket

    def close(self) -> None:
        for end in (self.client, self.server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class Tap:
    """Listens on a free port of loopback, and passes to `upstream`.

    Args:
        upstream: A Unix socket, or an address.
        is_postgresql: Whether what passes are messages of PostgreSQL.

    Attributes:
        port: Where it listens.
        delay_s: How long each message takes, in seconds.
    """

    def __init__(self, upstream: Upstream, *, is_postgresql: bool = False) -> None:
        self.delay_s = 0.0
        self._upstream = upstream
        self._is_postgresql = is_postgresql
        self._lock = threading.Lock()
        self._pauses: list[Pause] = []
        self._is_refusing = False
        self._is_open = threading.Event()
        self._is_open.set()
        self._closing = threading.Event()
        self._links: list[_Link] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        self._begin(self._accept)

    @property
    def url(self) -> str:
        """Its address for HTTP."""
        return f"http://{LOOPBACK}:{self.port}"

    def pause(self, match: Match) -> Pause:
        """Hold the next message that `match` describes."""
        pause = Pause(match)
        with self._lock:
            self._pauses.append(pause)
        return pause

    def cut(self) -> None:
        """Close every connection, and refuse new ones until `mend`."""
        self._is_refusing = True
        self._close_links()

    def swallow(self) -> None:
        """Let nothing pass and close nothing, as a network does that loses everything, until `mend`."""
        self._is_open.clear()

    def mend(self) -> None:
        """Let everything pass again, on new connections where the old ones were of no more use."""
        self._is_refusing, self.delay_s = False, 0.0
        if not self._is_open.is_set():
            self._close_links()
        self._is_open.set()

    def redirect(self, upstream: Upstream) -> None:
        """Lead elsewhere from now on; what is open is closed."""
        self._upstream = upstream
        self._close_links()

    def close(self) -> None:
        """Close everything, and wait until it has ended."""
        self._closing.set()
        self._is_open.set()
        with self._lock:
            pauses, self._pauses = self._pauses, []
        for pause in pauses:
            pause.drop()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._close_links()
        for thread in self._threads:
            thread.join(DEADLINE_S)

    def _close_links(self) -> None:
        with self._lock:
            links, self._links = self._links, []
        for link in links:
            link.close()

    def _begin(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self._is_refusing or self._closing.is_set():
                    client.close()
                    continue
                is_unix = isinstance(self._upstream, Path)
                server = socket.socket(socket.AF_UNIX if is_unix else socket.AF_INET)
                link = _Link(client=client, server=server)
                try:
                    where = self._upstream
                    server.connect(str(where) if isinstance(where, Path) else where)
                except OSError:
                    link.close()
                    continue
                for end in (client, server):
                    if end.family is socket.AF_INET:
                        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._lock:
                    self._links.append(link)
                statements = _Statements()
                self._begin(self._pump, link, Way.TO_SERVER, statements)
                self._begin(self._pump, link, Way.TO_CLIENT, statements)

    def _pump(self, link: _Link, way: Way, statements: "_Statements") -> None:
        source, target = (link.client, link.server) if way is Way.TO_SERVER else (link.server, link.client)
        with suppress(OSError, ValueError):
            for message in self._messages(source, way, statements):
                if self.delay_s:
                    self._closing.wait(self.delay_s)
                self._is_open.wait()
                pause = self._take(message)
                if pause is not None and not pause.hold():
                    break
                target.sendall(message.data)
        link.close()
        with self._lock, suppress(ValueError):
            self._links.remove(link)

    def _take(self, message: Message) -> Pause | None:
        with self._lock:
            found = next((pause for pause in self._pauses if pause.match(message)), None)
            if found is not None:
                self._pauses.remove(found)
            return found

    def _messages(self, source: socket.socket, way: Way, statements: "_Statements") -> Iterator[Message]:
        if not self._is_postgresql:
            while piece := source.recv(_PIECE_BYTES):
                yield Message(way=way, data=piece)
            return
        with source.makefile("rb") as stream:
            if way is Way.TO_SERVER:
                yield Message(way=way, data=_rest(stream))  # how a connection begins
            while kind := stream.read(1):
                data = kind + _rest(stream)
                if way is Way.TO_SERVER:
                    statements.note(kind, data[5:])
                yield Message(way=way, data=data, kind=kind, statement=statements.current)


class _Statements:
    """Which statement a connection is at."""

    def __init__(self) -> None:
        self.current = b""
        self._by_name: dict[bytes, bytes] = {}

    def note(self, kind: bytes, body: bytes) -> None:
        """Follow what the client says."""
        if kind == b"P":
            name, self.current = body.split(b"\0", 2)[:2]
            self._by_name[name] = self.current
        elif kind == b"B":
            self.current = self._by_name.get(body.split(b"\0", 2)[1], b"")


def _rest(stream: BinaryIO) -> bytes:
    length = stream.read(4)
    return length + stream.read(int.from_bytes(length) - 4)
