"""A private PostgreSQL for tests: real, in a folder of its own, on a Unix socket, gone afterwards.

Import the fixtures `postgres` (one server for each test process) and `database` (a URL for
one test alone), or start a `PostgresServer` of your own where a test kills, fills or restores it. Nothing is
skipped where PostgreSQL is not installed: such tests fail, and say what to install.
"""

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import psycopg
import pytest

from s3ml.keyservice.storage import StorageUnavailableError

MISSING = (
    "PostgreSQL is not installed: these tests start a real one: apt-get install postgresql"
    " (any 14 or later; its own service is not needed and may stay stopped)"
)
USER = "s3ml"
DEADLINE_S = 300
ROOM_BYTES = 4 << 30

_T = TypeVar("_T")
_numbers = itertools.count(1)


def find_binaries() -> Path:
    """Return the folder with `initdb` and `postgres`, the newest where there are several."""
    found = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    if shutil.which("pg_config"):
        told = subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True, check=False)
        found.append(Path(told.stdout.strip() or "/nonexistent"))
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    found += sorted(debian, key=lambda path: path.parent.name.zfill(3), reverse=True)
    for folder in found:
        if (folder / "initdb").is_file() and (folder / "postgres").is_file():
            return folder
    pytest.fail(MISSING, pytrace=False)


def unprivileged() -> dict[str, Any]:
    """Return what makes a child of root another user, because PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    user = names.get("postgres") or names["nobody"]
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def has_capability(number: int) -> bool:
    """Whether this process holds a Linux capability: 12 is for networks, 21 for mounts."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> number & 1)


class PostgresServer:
    """A server in `folder`, which is empty and its alone; it is made, and not started yet.

    Args:
        folder: Where the data, the socket and the log lie; its path is short, for the socket's sake.
        settings: Of the server, beyond the defaults.
        namespace: The network namespace that it runs in; needs root.
        host: An address to listen on, beside the socket.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, str] | None = None,
        *,
        namespace: str = "",
        host: str = "",
    ) -> None:
        self.folder, self.data = folder, folder / "data"
        self.settings = {
            "listen_addresses": host,
            "unix_socket_directories": str(folder),
            "max_connections": "60",
            "shared_buffers": "16MB",
            **(settings or {}),
        }
        self.log = ""
        self._namespace = namespace
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._binaries = find_binaries()
        self._as = unprivileged()
        if self._as:
            os.chown(folder, self._as["user"], self._as["group"])
        options = ["-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        subprocess.run(
            [str(self._binaries / "initdb"), "-D", str(self.data), *options],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
            **self._as,
        )

    def start(self) -> None:
        """Start it, and wait until it serves."""
        options = [part for name, value in self.settings.items() for part in ("-c", f"{name}={value}")]
        command = [str(self._binaries / "postgres"), "-D", str(self.data), *options]
        starts: dict[str, Any] = self._as
        if self._namespace:
            ids = [f"--reuid={self._as['user']}", f"--regid={self._as['group']}", "--clear-groups"]
            command = ["ip", "netns", "exec", self._namespace, "setpriv", *ids, *command]
            starts = {}
        self._process = process = subprocess.Popen(
            command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **starts
        )
        is_ready = threading.Event()
        self._reader = threading.Thread(target=self._read, args=(process, is_ready), daemon=True)
        self._reader.start()
        assert is_ready.wait(DEADLINE_S), self.log
        assert process.poll() is None, self.log

    def _read(self, process: "subprocess.Popen[str]", is_ready: threading.Event) -> None:
        assert process.stderr is not None
        for line in process.stderr:
            self.log += line
            if "database system is ready to accept connections" in line:
                is_ready.set()
        is_ready.set()  # it has ended

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT ends every session and shuts down, SIGQUIT leaves everything as it is."""
        if self._process is not None:
            self._process.send_signal(number)
            self._reap()

    def kill(self) -> None:
        """Kill it and its children as a power failure would, all at once."""
        if self._process is not None:
            for pid in (self._process.pid, *self._children()):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._reap()

    def _children(self) -> list[int]:
        assert self._process is not None
        pid = self._process.pid
        listed = Path(f"/proc/{pid}/task/{pid}/children")
        return [int(child) for child in listed.read_text(encoding="ascii").split()]

    def _reap(self) -> None:
        assert self._process is not None
        assert self._reader is not None
        self._process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)  # all of its children have closed the pipe
        assert self._process.stderr is not None
        self._process.stderr.close()
        self._process = None

    def url(self, database: str = "postgres", *, schema: str = "public") -> str:
        """Return the URL of a database, and of a schema in it, where tables are found and made."""
        folder, options = quote(str(self.folder), safe=""), quote(f"-csearch_path={schema}", safe="")
        return f"postgresql://{USER}@/{database}?host={folder}&options={options}"

    def create_schema(self) -> str:
        """Make a schema and return its name: for a test, it is as good as a database and 7 MB smaller."""
        name = f"test_{next(_numbers)}"
        self.run(f"CREATE SCHEMA {name}")
        return name

    def create_database(self) -> str:
        """Make a database and return its name."""
        name = f"test_{next(_numbers)}"
        self.run(f"CREATE DATABASE {name}")
        return name

    def run(self, statement: str, database: str = "postgres", *, schema: str = "public") -> list[Any]:
        """Run one statement as the owner of everything, and return its rows."""
        with psycopg.connect(self.url(database, schema=schema), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []


def _shelf() -> Path:
    """Return where data lies: in memory where there is enough, so that no busy disk holds up a test."""
    memory = Path("/dev/shm")  # noqa: S108 - folders in it have names that nobody else has
    has_room = memory.is_dir() and shutil.disk_usage(memory).free > ROOM_BYTES
    return memory if has_room else Path("/tmp")  # noqa: S108 - as above


@contextmanager
def server_folder() -> Iterator[Path]:
    """Make a folder whose path is short and which others may enter; remove it afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="s3ml-pg-", dir=_shelf()))
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder)


def served(ask: Callable[[], _T]) -> _T:
    """Return what a storage answers once it has found its server again, which may take a while."""
    until_s = time.monotonic() + DEADLINE_S
    while True:
        try:
            return ask()
        except StorageUnavailableError:
            assert time.monotonic() < until_s


@contextmanager
def running(settings: Mapping[str, str] | None = None, **options: str) -> Iterator[PostgresServer]:
    """Run a server of its own."""
    with server_folder() as folder:
        server = PostgresServer(folder, settings, **options)
        try:
            server.start()
            yield server
        finally:
            server.stop(signal.SIGQUIT)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for all tests of this process; no test kills it."""
    with running() as server:
        yield server


@pytest.fixture
def database(postgres: PostgresServer) -> str:
    """The URL of what no other test uses: a schema of the server's database."""
    return postgres.url(schema=postgres.create_schema())
