"""A site where the runbooks are followed word for word: PostgreSQL, three witnesses, a cluster, a folder."""

import contextlib
import json
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

from s3ml.keyservice.client import KeyServiceClient
from s3ml.keyservice.documents import StatusReply
from s3ml.primitives.errors import UnavailableError
from tests.apps.conftest import BIN, DEADLINE_S, REPOSITORY, Ended, only_asks, run_again
from tests.keyservice.postgres_server import running
from tests.ports import claim_port

RUNBOOKS = REPOSITORY / "docs" / "runbooks"
WITNESS_PORTS = (8081, 8082, 8083)
WATCH = re.compile(r"the log (\S+) with the key (\S+), and send the proposal again")
NEW_KEY = re.compile(r"Checkpoints are signed by (\S+) from here on")
STARTED_S = 300.0


def commands(page: str, name: str) -> list[str]:
    """Return the commands of a console block of a runbook."""
    text = (RUNBOOKS / f"{page}.md").read_text(encoding="utf-8")
    found = re.search(rf"<!-- runbook: {name} -->\n```console\n(.*?)```", text, re.DOTALL)
    assert found, f"{page}.md has no block {name!r}"
    joined = found[1].replace("\\\n", " ")
    return [line[2:] for line in joined.splitlines() if line.startswith("$ ")]


def block_names(page: str) -> list[str]:
    """Return the names of the blocks of a runbook that are run."""
    text = (RUNBOOKS / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(r"<!-- runbook: (.*?) -->\n```console\n", text)


@dataclass
class Site:
    """Where somebody types what the runbooks say; addresses and paths are this site's own."""

    folder: Path
    database: str
    ports: tuple[int, ...]
    stack: ExitStack
    gateway: str = ""
    key_services: tuple[str, ...] = ()
    origin: str = ""
    keys: list[str] = field(default_factory=list)
    recovering: str = ""
    witnesses: list[subprocess.Popen[str]] = field(default_factory=list)
    followed: set[tuple[str, str]] = field(default_factory=set)

    def here(self, command: str) -> str:
        """Return a command with this site's addresses."""
        command = command.replace("/tmp/s3ml-cluster", str(self.folder / "cluster"))  # noqa: S108
        for told, port in zip(WITNESS_PORTS, self.ports, strict=True):
            command = command.replace(f"127.0.0.1:{told}", f"127.0.0.1:{port}")
        return command.replace("10.0.0.7:8080", self.recovering)

    def environment(self) -> dict[str, str]:
        """Return what the commands see."""
        return {
            "PATH": f"{BIN}:/usr/bin:/bin",
            "HOME": str(self.folder),
            "COLUMNS": "200",
            "S3ML_UP_DATABASE": self.database,
            **({"S3ML_GATEWAY": self.gateway} if self.gateway else {}),
        }

    def run(self, command: str) -> Ended:
        """Run one command, as a shell does."""
        done = subprocess.run(
            ["bash", "-c", self.here(command)],
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def follow(self, page: str, name: str, *, status: int = 0) -> list[Ended]:
        """Run a block; the last command ends with `status`, every other one well."""
        found = commands(page, name)
        results = []
        for number, command in enumerate(found, start=1):
            expected = status if number == len(found) else 0
            run = partial(self.run, command)
            done = run_again(run) if expected == 0 and only_asks(command.split()) else run()
            assert done.status == expected, (command, done.err, done.out)
            results.append(done)
        self.followed.add((page, name))
        return results

    def statuses(self) -> list[StatusReply]:
        """Ask every replica of the key service how it does."""
        return [KeyServiceClient(f"http://{address}").status() for address in self.key_services]

    @property
    def epochs(self) -> list[tuple[int, str]]:
        """The living epochs, by number, with their states."""
        return [(one.epoch, one.state) for one in self.statuses()[1].epochs]

    def watch(self, *, letter: str = "w") -> None:
        """Configure every witness for the log, with all of its keys."""
        keys = ", ".join(f'"{key}"' for key in self.keys)
        for number in (1, 2, 3):
            (self.folder / f"{letter}{number}" / "witness.toml").write_text(
                f'version = 1\n\n[[log]]\norigin = "{self.origin}"\nkeys = [{keys}]\n'
            )

    def learn(self, told: str) -> None:
        """Have every witness know the checkpoint key that the log announces."""
        found = NEW_KEY.findall(told)
        assert found, told
        self.keys.append(found[-1])
        self.watch()

    def until(self, what: str, holds: Any, deadline_s: float = STARTED_S) -> Any:
        """Ask until something holds."""
        until = time.monotonic() + deadline_s
        while time.monotonic() < until:
            with contextlib.suppress(UnavailableError):
                if found := holds():
                    return found
            time.sleep(0.2)
        raise AssertionError(f"{what}: not in {deadline_s:.0f} s: {self.run('s3ml status').out}")

    def until_all_serve(self) -> None:
        """Wait until every replica of the key service serves."""
        self.until(
            "every replica serves",
            lambda: all(
                one.deployment.state == "serving" and one.deployment.trouble is None
                for one in self.statuses()
            ),
        )

    def start(self, command: str, log: str) -> subprocess.Popen[str]:
        """Start what goes on until the end."""
        error: IO[str] = self.stack.enter_context((self.folder / log).open("w"))
        process = subprocess.Popen(
            ["bash", "-c", f"exec {self.here(command)}"],
            cwd=self.folder,
            env={**os.environ, **self.environment()},
            stdout=subprocess.PIPE,
            stderr=error,
            text=True,
        )
        self.stack.callback(_end, process)
        return process

    def bootstrap(self) -> None:
        """Follow bootstrap.md to a service that answers."""
        page = "bootstrap"
        self.follow(page, "witness keys")
        self.start_witnesses(page, "witnesses")
        (command,) = commands(page, "replicas")
        up = self.start(f"{command} --json", "up.log")
        assert up.stdout is not None
        line = up.stdout.readline()
        assert line, (self.folder / "up.log").read_text()
        told = json.loads(line)
        self.gateway, self.key_services = told["gateway"], tuple(told["key_services"])
        self.follow(page, "proposal")
        (waits,) = self.follow(page, "genesis waits", status=4)
        found = WATCH.search(waits.line)
        assert found, waits.err
        self.origin, self.keys = found[1], [found[2]]
        self.watch()
        # A witness reads its configuration again within a second or so.
        self.until(
            "genesis",
            lambda: self.run("s3ml deployment init proposal.json --allow-simulated -o t.toml").status == 0,
        )
        self.follow(page, "genesis")
        self.until_all_serve()
        self.follow(page, "first service")
        self.followed.add((page, "replicas"))

    def start_witnesses(self, page: str, name: str) -> None:
        """Run a block whose commands go on, each a witness."""
        for number, command in enumerate(commands(page, name), start=1):
            log = self.folder / f"{page}-{number}.log"
            self.witnesses.append(self.start(command, log.name))
            self.until("a witness", lambda log=log: "listening" in log.read_text())
        self.followed.add((page, name))

    def lose_witnesses(self) -> None:
        """Kill every witness."""
        for process in self.witnesses:
            process.kill()
            process.wait()
        self.witnesses.clear()


def _end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout=DEADLINE_S)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@contextlib.contextmanager
def running_site() -> Iterator[Site]:
    """Run a site as long as the block; nothing of it is left."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="s3ml-rb-")))
        database = stack.enter_context(running())
        (folder / "examples").symlink_to(REPOSITORY / "examples")
        site = Site(
            folder=folder,
            database=database.url(),
            ports=tuple(claim_port() for _ in WITNESS_PORTS),
            stack=stack,
        )
        yield site
