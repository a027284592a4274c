"""A fleet: several key-service replicas, witnesses and a database, each a process of its own.

Replicas are enclave processes of the simulated platform. Between each replica and everything that it talks
to stands a tap, so that a test can part them. Every process is ended by its own id.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote

import s3ml
from s3ml.apps.cluster.process import LOOPBACK, PlatformProcess
from s3ml.apps.governance.policies import read_root
from s3ml.attestation import Technology
from s3ml.attestation.simulated.admin import Launched, PlatformAdmin
from s3ml.attestation.simulated.quoter import DEFAULT_TCB_STATE
from s3ml.keyservice.client import KeyServiceClient
from s3ml.keyservice.documents import DeploymentReply
from s3ml.primitives.errors import UnavailableError
from s3ml.transparency.witness.signer import WitnessSigner
from tests.keyservice.postgres_server import USER, PostgresServer
from tests.ports import claim_port
from tests.replication.taps import Tap

DEADLINE_S = 180.0
POLL_S = 0.02
TIMEOUT_S = 60.0
BIN = Path(sys.executable).parent

_T = TypeVar("_T")


def eventually(
    ask: Callable[[], _T | None],
    *,
    deadline_s: float = DEADLINE_S,
    what: str = "",
    tell: Callable[[], object] = lambda: "",
) -> _T:
    """Ask until there is an answer, and return it; being unavailable is none.

    Args:
        ask: Returns nothing, or something false, where there is none yet.
        deadline_s: For how long, in seconds.
        what: Is awaited, for the failure's message.
        tell: Adds to that message.
    """
    until = time.monotonic() + deadline_s
    last: object = None
    while time.monotonic() < until:
        try:
            last = found = ask()
        except (UnavailableError, OSError) as error:
            last, found = error, None
        if found:
            return found
        time.sleep(POLL_S)
    raise AssertionError(f"{what or 'nothing'} in {deadline_s:.0f} s: {last} {tell()}")


class Platform:
    """A simulated platform in `folder`, whose path is short; it runs until `stop`.

    Attributes:
        package: A copy of the package as it was when the tests began: it may be edited while they run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.package = folder, folder / "package" / "s3ml"
        shutil.copytree(
            Path(s3ml.__file__).parent, self.package, ignore=shutil.ignore_patterns("__pycache__")
        )
        self._process = PlatformProcess(
            folder, folder / "platform.log", simulates=Technology.SGX, tcb=DEFAULT_TCB_STATE
        )
        self._process.spawn()
        self._process.wait_until_ready(deadline_s=DEADLINE_S)
        self.admin = PlatformAdmin(folder / "admin.sock")

    @property
    def root(self) -> bytes:
        """The simulated vendor's root, DER."""
        return read_root(self.folder / "root.pem")

    def has_ended(self, instance: str) -> bool:
        """Whether a process that was launched here has ended."""
        return all(one.instance != instance or one.exit_status is not None for one in self.admin.list())

    def stop(self) -> None:
        """End it, and everything that it launched."""
        self._process.stop(grace_s=10.0)


class WitnessProcess:
    """A witness: `s3ml witness serve`, with its key, its state and its configuration in `folder`."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir()
        self.folder, self.port = folder, claim_port()
        self.signer = WitnessSigner.generate(name)
        (folder / "witness.key").write_text(f"{self.signer.to_text()}\n")
        (folder / "witness.key").chmod(0o600)
        self.watch()
        self._process: subprocess.Popen[bytes] | None = None
        self._has_begun = False

    @property
    def vkey(self) -> str:
        """Its public key."""
        return str(self.signer.public)

    def watch(self, origin: str = "", *keys: str) -> None:
        """Configure the log that it watches, by its name and its keys; none without a name."""
        lines = ["version = 1"]
        if origin:
            listed = ", ".join(f'"{key}"' for key in keys)
            lines += ["[[log]]", f'origin = "{origin}"', f"keys = [{listed}]"]
        path = self.folder / "logs.toml"
        path.with_suffix(".new").write_text("\n".join(lines) + "\n")
        path.with_suffix(".new").replace(path)

    def start(self) -> None:
        """Start it, and wait until it listens."""
        log = (self.folder / "witness.log").open("ab")
        command = [str(BIN / "s3ml"), "witness", "serve", "--listen", f"{LOOPBACK}:{self.port}"]
        command += ["--config", str(self.folder / "logs.toml"), "--key", str(self.folder / "witness.key")]
        command += ["--state", str(self.folder / "state"), *([] if self._has_begun else ["--begin"])]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        self._has_begun = True
        eventually(self._listens, what="a witness that listens")

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "witness.log").read_text()
        return (self.folder / "witness.log").read_text().count('"listening"') > 0 and is_listening(self.port)

    @property
    def is_running(self) -> bool:
        """Whether it was started and not killed."""
        return self._process is not None

    def kill(self) -> None:
        """Kill it, if it runs."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()


def is_listening(port: int) -> bool:
    """Whether somebody listens on a port of loopback."""
    import socket

    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((LOOPBACK, port)) == 0


@dataclass(slots=True, kw_only=True)
class Member:
    """A replica of the fleet, running or not.

    Args:
        number: From 0.
        port: Where it listens.
        front: What others reach it through.
        database: What it reaches the database through.
        witnesses: What it reaches each witness through.
        peers: What it reaches each other replica through, by number.
        log: What it prints.
    """

    number: int
    port: int
    front: Tap
    database: Tap
    witnesses: list[Tap]
    peers: dict[int, Tap]
    log: Path
    schema: str
    launched: Launched | None = None
    clients: list[KeyServiceClient] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{LOOPBACK}:{self.port}"


class Fleet:
    """Replicas that share a database and witnesses; nothing of it runs before it is started.

    Args:
        platform: Launches the replicas.
        server: Keeps the log.
        folder: For logs and the witnesses' files.
        replicas: How many.
        witnesses: How many; a quorum is more than half of them.
        has_peers: Whether replicas know of each other.
        package: Another build of the package, for all replicas.
    """

    def __init__(
        self,
        platform: Platform,
        server: PostgresServer,
        folder: Path,
        *,
        replicas: int = 2,
        witnesses: int = 0,
        has_peers: bool = True,
    ) -> None:
        self.platform, self.server, self.folder = platform, server, folder
        self.schema = server.create_schema()
        self.has_peers = has_peers
        self.members: list[Member] = []
        self._clients: list[KeyServiceClient] = []
        self._taps: list[Tap] = []
        self.witnesses = [WitnessProcess(folder / f"w{n}", f"witness.test/w{n}") for n in range(witnesses)]
        for number in range(replicas):
            self._add(number)

    @property
    def quorum(self) -> int:
        """How many witnesses have to cosign."""
        return len(self.witnesses) // 2 + 1 if self.witnesses else 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with ExitStack() as stack:
            for client in self._clients:
                stack.callback(client.close)
            for tap in self._taps:
                stack.callback(tap.close)
            for witness in self.witnesses:
                stack.callback(witness.kill)
            for member in self.members:
                stack.callback(self.kill, member.number)

    def _tap(self, upstream: Path | tuple[str, int], *, is_postgresql: bool = False) -> Tap:
        tap = Tap(upstream, is_postgresql=is_postgresql)
        self._taps.append(tap)
        return tap

    def _add(self, number: int) -> None:
        port = claim_port()
        member = Member(
            number=number,
            port=port,
            front=self._tap((LOOPBACK, port)),
            database=self._tap(self.server.folder / ".s.PGSQL.5432", is_postgresql=True),
            witnesses=[self._tap((LOOPBACK, witness.port)) for witness in self.witnesses],
            peers={},
            log=self.folder / f"replica-{number}.log",
            schema=self.schema,
        )
        if self.has_peers:
            for other in self.members:
                other.peers[number] = self._tap((LOOPBACK, port))
                member.peers[other.number] = self._tap((LOOPBACK, other.port))
        self.members.append(member)

    def add(self) -> int:
        """Make one more replica, known to those that start from now on; return its number."""
        self._add(len(self.members))
        return len(self.members) - 1

    def url_of(self, member: Member) -> str:
        """Return the URL of a member's database, through its tap."""
        options = quote(f"-csearch_path={member.schema}", safe="")
        address = f"{USER}@{LOOPBACK}:{member.database.port}"
        return f"postgresql://{address}/postgres?sslmode=disable&options={options}"

    def settings(self, number: int) -> dict[str, str]:
        """Return what the host of a replica sets."""
        member = self.members[number]
        found = {"S3ML_LISTEN": f"{LOOPBACK}:{member.port}", "S3ML_DATABASE": self.url_of(member)}
        if member.peers:
            found["S3ML_PEERS"] = ",".join(tap.url for tap in member.peers.values())
        if member.witnesses:
            found["S3ML_WITNESSES"] = ",".join(tap.url for tap in member.witnesses)
        return found

    def start(self, *numbers: int, package: Path | None = None) -> None:
        """Start replicas, all where none are named, and wait until they listen."""
        chosen = numbers or tuple(member.number for member in self.members)
        for number in chosen:
            self.launch(number, package=package)
        for number in chosen:
            self.await_listening(number)

    def launch(self, number: int, *, package: Path | None = None) -> None:
        """Launch a replica, and wait for nothing."""
        member = self.members[number]
        member.launched = self.platform.admin.launch(
            "key-service", self.settings(number), member.log, package or self.platform.package
        )

    def await_listening(self, number: int) -> None:
        """Wait until a replica that was launched listens."""
        member = self.members[number]

        def listens() -> bool:
            assert member.launched is not None
            assert not self.platform.has_ended(member.launched.instance), member.log.read_text()
            return is_listening(member.port)

        eventually(listens, what=f"replica {number} that listens")

    def kill(self, *numbers: int) -> None:
        """Kill replicas by their own ids, all at once, and wait until they have ended."""
        ended = []
        for number in numbers or range(len(self.members)):
            member = self.members[number]
            launched, member.launched = member.launched, None
            if launched is not None:
                with suppress(ProcessLookupError):
                    os.kill(launched.pid, signal.SIGKILL)
                ended.append(launched.instance)
        for instance in ended:
            eventually(lambda one=instance: self.platform.has_ended(one), what="the end of a replica")  # type: ignore[misc]

    def stop(self, *numbers: int) -> None:
        """Have replicas end as their operator does, after what they still have to write."""
        for number in numbers or range(len(self.members)):
            member = self.members[number]
            launched, member.launched = member.launched, None
            if launched is not None:
                self.platform.admin.stop(launched.instance, grace_s=DEADLINE_S)

    def restart(self, *numbers: int) -> None:
        """Kill replicas and start them again."""
        chosen = numbers or tuple(member.number for member in self.members)
        self.kill(*chosen)
        self.start(*chosen)

    def client(self, number: int, *, timeout_s: float = TIMEOUT_S) -> KeyServiceClient:
        """Return a way to a replica, directly."""
        client = KeyServiceClient(self.members[number].url, timeout_s=timeout_s)
        self._clients.append(client)
        return client

    def status(self, number: int) -> DeploymentReply:
        """Ask a replica where it stands."""
        return self.client(number).deployment()

    def until(self, number: int, state: str) -> DeploymentReply:
        """Wait until a replica stands there, and return what it says."""

        def stands() -> DeploymentReply | None:
            found = self.status(number)
            return found if found.state == state else None

        return eventually(stands, what=f"replica {number} that is {state}")

    def until_serving(self, *numbers: int) -> None:
        """Wait until replicas serve, all that run where none are named, and nothing troubles them."""
        for number in numbers or [m.number for m in self.members if m.launched is not None]:

            def serves(one: int = number) -> bool:
                found = self.status(one)
                return found.state == "serving" and found.trouble is None

            what = f"replica {number} that serves"
            eventually(serves, what=what, tell=partial(self.last_events, number))

    def events(self, number: int) -> list[dict[str, object]]:
        """Return what a replica told its operator."""
        lines = self.members[number].log.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def last_events(self, number: int) -> list[dict[str, object]]:
        """Return the last few of `events`."""
        return self.events(number)[-3:]

    def run(self, statement: str) -> list[tuple[object, ...]]:
        """Run a statement in the database, around every tap."""
        return self.server.run(statement, schema=self.schema)

    def head(self) -> tuple[int, int]:
        """Return the stored and the committed size of the log."""
        stored = self.run("SELECT size FROM s3ml_head")
        committed = self.run("SELECT size FROM s3ml_committed")
        return (int(str(stored[0][0])) if stored else 0, int(str(committed[0][0])) if committed else 0)
