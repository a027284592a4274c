"""Replicas, witnesses and databases of a benchmark: every one a process, ended by its own id."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import urllib3

from benchmarks.enclaves import KEY_SERVICE, MODEL_SERVER, PlayedEnclave, create_vendor
from benchmarks.founding import Founder, found_at
from s3ml.apps.cluster.process import free_port
from s3ml.attestation.simulated.pki import SimulatedPKI
from s3ml.keyservice.client import KeyServiceClient
from s3ml.keyservice.storage import open_storage
from tests.keyservice.postgres_server import PostgresServer, running
from tests.replication.fleet import WitnessProcess

DEADLINE_S = 120.0
POLL_S = 0.005
REPOSITORY = Path(__file__).resolve().parents[1]


class Child:
    """A process of `keyservice_process.py`.

    Args:
        arguments: Beside its port.
        log: What it prints.
    """

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        self.port, self.log = free_port(), log
        command = [sys.executable, "-m", "benchmarks.keyservice_process", "--port", str(self.port)]
        self.began_s = time.monotonic()
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [*command, *arguments], cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """Its id."""
        return self._process.pid

    @property
    def busy_s(self) -> float:
        """The processor time that it has used, over all of its threads."""
        return time.clock_gettime(~self.pid << 3 | 2)  # Linux: the processor clock of a process

    @property
    def resident_mb(self) -> float:
        """Its resident memory."""
        for line in Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmRSS:"):
                return round(int(line.split()[1]) * 1024 / 1e6, 1)
        raise AssertionError("a running process has resident memory")

    def until(self, path: str = "/readyz") -> float:
        """Wait until `path` answers 200; return how long that was after the start, in seconds."""
        pool = urllib3.HTTPConnectionPool("127.0.0.1", self.port, retries=False)
        try:
            while time.monotonic() - self.began_s < DEADLINE_S:
                assert self._process.poll() is None, self.log.read_text()[-2000:]
                try:
                    if pool.request("GET", path, timeout=5.0).status == 200:
                        return time.monotonic() - self.began_s
                except urllib3.exceptions.HTTPError:
                    pass
                time.sleep(POLL_S)
            raise AssertionError(f"{path}: {self.log.read_text()[-2000:]}")
        finally:
            pool.close()

    def events(self) -> list[dict[str, object]]:
        """Return what it told its operator."""
        lines = self.log.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@dataclass(slots=True, kw_only=True)
class Yard:
    """Where a benchmark's processes live.

    Args:
        folder: For files; short-lived.
        vendor: The simulated vendor.
        stack: Ends what was started, the newest first.
    """

    folder: Path
    vendor: SimulatedPKI
    stack: ExitStack
    counter: int = 0
    _server: PostgresServer | None = field(default=None)

    @property
    def key_service(self) -> PlayedEnclave:
        """The key service's enclave."""
        return PlayedEnclave(self.vendor, KEY_SERVICE)

    @property
    def model_server(self) -> PlayedEnclave:
        """A model server's enclave on a platform that all share."""
        return PlayedEnclave(self.vendor, MODEL_SERVER)

    def path(self, name: str) -> Path:
        """Return a path that nothing else has."""
        self.counter += 1
        return self.folder / f"{self.counter}-{name}"

    def sqlite(self) -> str:
        """Return a database in a file of its own."""
        return str(self.path("log.sqlite"))

    def postgresql(self) -> str:
        """Return the URL of a schema of its own in this yard's PostgreSQL."""
        if self._server is None:
            self._server = self.stack.enter_context(running())
        return self._server.url(schema=self._server.create_schema())

    def witnesses(self, count: int) -> list[WitnessProcess]:
        """Start witnesses that watch nothing yet."""
        found = []
        for number in range(count):
            witness = WitnessProcess(self.path("witness"), f"witness.test/w{number}")
            witness.start()
            self.stack.callback(witness.kill)
            found.append(witness)
        return found

    def founder(self, witnesses: Sequence[WitnessProcess] = ()) -> Founder:
        """Return who begins a deployment that has these witnesses."""

        def tell(origin: str, key: str) -> None:
            for witness in witnesses:
                witness.watch(origin, key)

        return Founder(
            key_service=self.key_service.policy,
            model_server=self.model_server.policy,
            witnesses=[witness.vkey for witness in witnesses],
            tell=tell,
        )

    def replica(
        self,
        database: str,
        *,
        witnesses: Sequence[WitnessProcess] = (),
        peers: Sequence[Child] = (),
        quote_ms: float = 0.0,
        core: int = 0,
    ) -> Child:
        """Start a replica; it is not ready yet."""
        arguments = ["--vendor", str(self.folder / "vendor"), "--database", database]
        arguments += ["--quote-ms", str(quote_ms), "--core", str(core)]
        for witness in witnesses:
            arguments += ["--witness", f"http://127.0.0.1:{witness.port}"]
        for peer in peers:
            arguments += ["--peer", peer.url]
        child = Child(arguments, self.path("replica.log"))
        self.stack.callback(child.stop)
        return child

    def founded(
        self, database: str, *, witnesses: Sequence[WitnessProcess] = (), quote_ms: float = 0.0, core: int = 0
    ) -> Child:
        """Start a replica and begin a deployment there; it is ready."""
        child = self.replica(database, witnesses=witnesses, quote_ms=quote_ms, core=core)
        child.until("/livez")
        client = KeyServiceClient(child.url)

        def read_entry() -> bytes:
            storage = open_storage(database)
            try:
                return storage.entries(0, 1)[0]
            finally:
                storage.close()

        try:
            found_at(client, self.founder(witnesses), read_entry)
        finally:
            client.close()
        child.until()
        return child

    def echo(self, replies: dict[str, bytes]) -> Child:
        """Start a bare echo that answers each path with a fixed reply; it is ready."""
        folder = self.path("replies")
        folder.mkdir()
        for path, reply in replies.items():
            (folder / path.rpartition("/")[2]).write_bytes(reply)
        (folder / "readyz").write_bytes(b"ready")
        child = Child(["--echo", str(folder)], self.path("echo.log"))
        self.stack.callback(child.stop)
        child.until("/v1/readyz")
        return child


@contextmanager
def yard() -> Iterator[Yard]:
    """Make a place for a benchmark's processes; everything in it is ended and removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="s3ml-ks-") as folder, ExitStack() as stack:
        made = Yard(folder=Path(folder), vendor=create_vendor(), stack=stack)
        (made.folder / "vendor").write_bytes(made.vendor.to_bytes())
        (made.folder / "vendor").chmod(0o600)
        yield made
