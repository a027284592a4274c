"""One local cluster for all tests of the command line: started as the README says, ended by signal."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent
DEADLINE_S = 300
UNAVAILABLE = 4
ASKING = (("s3ml", "infer"), ("s3ml", "verify"), ("s3ml", "status"), ("s3ml", "service", "list"))


def snippet(name: str, language: str = "console") -> str:
    """Return the README's block of that name."""
    found = re.search(rf"<!-- quickstart: {name} -->\n```{language}\n(.*?)```", README, re.DOTALL)
    assert found, f"README.md has no block {name!r}"
    return found[1]


def commands(name: str) -> list[list[str]]:
    """Return the commands of a console block of the README, each split as a shell does."""
    text = snippet(name).replace("\\\n", " ")
    return [shlex.split(line[2:]) for line in text.splitlines() if line.startswith("$ ")]


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line of its error."""
        lines = [line for line in self.err.splitlines() if line.startswith("s3ml: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        return lines[0]


def only_asks(words: Sequence[str]) -> bool:
    """Tell whether a command changes nothing."""
    return any(tuple(words[: len(start)]) == start for start in ASKING)


def run_again(run: Callable[[], Ended]) -> Ended:
    """Run until the end is no longer the one that says: come again; a starved replica needs a while."""
    until_s = time.monotonic() + DEADLINE_S
    while (ended := run()).status == UNAVAILABLE and time.monotonic() < until_s:
        time.sleep(0.5)
    return ended


@dataclass(frozen=True)
class Desk:
    """A folder with a cluster's addresses: where somebody types commands."""

    folder: Path
    state: Path
    gateway: str
    up: subprocess.Popen[str]

    def run(self, *words: str, gateway: str | None = None) -> Ended:
        """Run a command as somebody would; one that only asks is run again while it says: come again."""
        run = partial(self._run, *words, gateway=gateway)
        return run_again(run) if gateway is None and only_asks(words) else run()

    def _run(self, *words: str, gateway: str | None) -> Ended:
        replaced = [word.replace("/tmp/s3ml-cluster", str(self.state)) for word in words]  # noqa: S108
        done = subprocess.run(
            replaced,
            cwd=self.folder,
            env={
                "PATH": f"{BIN}:/usr/bin:/bin",
                "S3ML_GATEWAY": gateway or self.gateway,
                "HOME": str(self.folder),
                "COLUMNS": "200",
            },
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def until_served(self, *words: str) -> Ended:
        """Run `s3ml infer` until it is answered: replicas take up models in their own time."""
        until_s = time.monotonic() + DEADLINE_S
        while (ended := self.s3ml("infer", *words)).status != 0:
            assert time.monotonic() < until_s, ended
        return ended

    def s3ml(self, *words: str, gateway: str | None = None) -> Ended:
        """Run `s3ml` with these words."""
        return self.run("s3ml", *words, gateway=gateway)

    def follow_readme(self, name: str) -> list[Ended]:
        """Run a console block of the README; every command of it has to end well."""
        results = []
        for command in commands(name):
            done = self.run(*command)
            assert done.status == 0, (command, done.err, done.out)
            results.append(done)
        return results


@contextlib.contextmanager
def running_cluster(*words: str) -> Iterator[Desk]:
    """Run `s3ml up` with `words` as long as the block, in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="s3ml-desk-"))
    state = folder / "cluster"
    (folder / "examples").symlink_to(REPOSITORY / "examples")
    with (folder / "up.log").open("w") as log:
        up = subprocess.Popen(
            [str(BIN / "s3ml"), "up", *words, "--state", str(state), "--json"],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "HOME": str(folder)},
        )
    try:
        assert up.stdout is not None
        line = up.stdout.readline()
        assert line, (folder / "up.log").read_text()
        yield Desk(folder=folder, state=state, gateway=json.loads(line)["gateway"], up=up)
    finally:
        up.send_signal(signal.SIGINT)
        try:
            assert up.wait(timeout=DEADLINE_S) == 0
        finally:
            up.kill()
            up.wait()
            if up.stdout is not None:
                up.stdout.close()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def desk() -> Iterator[Desk]:
    """A cluster begun by following the README, from the first command to a service that answers."""
    (command,) = commands("operator")
    program, verb, service, option, _ = command
    assert (program, verb, option) == ("s3ml", "up", "--state")
    with running_cluster(service) as desk:
        for name in ("owners begin", "owners sign the policy", "model owner"):
            desk.follow_readme(name)
        yield desk
