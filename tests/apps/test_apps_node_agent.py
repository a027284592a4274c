"""A real node agent: started on a free port, asked, ended."""

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from s3ml.apps.cli.root import run as run_command
from s3ml.tee_memory import NodeReadings, decode
from tests.tee_memory.test_tee_memory_finding import make_sgx
from tests.tee_memory.tracefs_world import UNFILTERED

S3ML = Path(sys.executable).with_name("s3ml")
DEADLINE_S = 100


@dataclass
class Agent:
    """A process, and what it said when it began."""

    process: subprocess.Popen[str]
    said: dict[str, Any]

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"{self.said['url']}{path}", timeout=DEADLINE_S) as answer:  # noqa: S310
            data: bytes = answer.read()
            return data

    def readings(self) -> NodeReadings:
        return decode(self.get("/v1/readings"))

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        self.process.send_signal(number)
        _, stderr = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, stderr


@contextmanager
def running(*options: str) -> Iterator[Agent]:
    process = subprocess.Popen(
        [str(S3ML), "node-agent", "--json", "--listen", "127.0.0.1:0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    timer = threading.Timer(DEADLINE_S, process.kill)
    timer.start()
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.stderr.read() if process.stderr else ""
        timer.cancel()
        yield Agent(process, json.loads(line))
    finally:
        timer.cancel()
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=DEADLINE_S)


@dataclass
class Refusal:
    """What a command that could not be run said."""

    status: int
    stdout: str
    stderr: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Refusal]:
    """Return what runs the command in this process."""

    def go(*options: str) -> Refusal:
        status = run_command(["node-agent", *options])
        return Refusal(status, *capsys.readouterr())

    return go


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    with running("--source", "simulated", "--node", "n1", "--interval", "50ms") as made:
        yield made


class TestRunning:
    """One agent that is asked."""

    def test_it_says_where_and_what(self, agent: Agent) -> None:
        said = {name: value for name, value in agent.said.items() if name not in {"url", "pid"}}

        assert said == {
            "node": "n1",
            "kind": "simulated",
            "source": "simulated model",
            "is_simulated": True,
            "is_emulated": False,
            "interval_s": 0.05,
            "warning": None,
        }
        assert agent.said["pid"] == agent.process.pid

    def test_readings_follow_each_other(self, agent: Agent) -> None:
        """However slow the machine is: sooner or later there is a reading with rates."""
        found = agent.readings()
        while found.reading is None or found.reading.span_s == 0:
            found = agent.readings()

        assert (found.node, found.is_simulated) == ("n1", True)
        assert found.reading.page_ins_per_s is not None
        assert [server.name for server in found.servers] == ["demonstration"]

    def test_metrics_and_health(self, agent: Agent) -> None:
        assert b's3ml_tee_memory_page_ins_total{kind="simulated",node="n1"}' in agent.get("/metrics")
        assert json.loads(agent.get("/livez")) == {"is_live": True}
        with pytest.raises(urllib.error.HTTPError, match="404"):
            agent.get("/else")


class TestEnd:
    """A signal ends it in order."""

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_ends_it_well(self, number: signal.Signals) -> None:
        with running("--source", "simulated") as agent:
            status, stderr = agent.end(number)

        assert status == 0
        assert "SIMULATED" in stderr
        assert "Traceback" not in stderr


class TestKernelSettings:
    """What an agent sets up in the kernel is undone; here the kernel is a folder."""

    @staticmethod
    def settings(root: Path) -> tuple[str, str, list[str]]:
        tracing = root / "sys/kernel/tracing"
        switch = (tracing / "function_profile_enabled").read_text().splitlines()[-1]
        instances = sorted(path.name for path in (tracing / "instances").iterdir())
        return switch, (tracing / "set_ftrace_filter").read_text(), instances

    def test_sigterm_undoes_it(self, tmp_path: Path) -> None:
        make_sgx(tmp_path)
        with running("--source", "sgx", "--root", str(tmp_path)) as agent:
            found, during = agent.readings(), self.settings(tmp_path)
            status, _ = agent.end()

        assert (found.kind, found.is_simulated, found.source) == (
            "sgx",
            False,
            "function profile on sgx_encl_ewb, sgx_encl_eldu",
        )
        assert during[0].startswith("1")
        assert len(during[2]) == 1
        assert status == 0
        switch, held, instances = self.settings(tmp_path)
        # A folder keeps what is written; the kernel would have taken the functions out.
        assert (switch[0], instances) == ("0", [])
        assert held == f"{UNFILTERED}sgx_encl_ewb\nsgx_encl_eldu\n!sgx_encl_ewb\n!sgx_encl_eldu\n"

    def test_a_blind_one_says_why(self, tmp_path: Path) -> None:
        make_sgx(tmp_path, profile=False)
        with running("--root", str(tmp_path)) as agent:
            found = agent.readings()
            _, stderr = agent.end()

        assert found.reading is not None
        assert (found.reading.confidence, found.reading.page_ins_per_s) == ("blind", None)
        assert "BLIND" in stderr
        assert "not in this kernel" in agent.said["warning"]


class TestRefusals:
    """Bad input gives one line and a status."""

    @pytest.mark.parametrize(
        ("options", "status", "reason"),
        [
            (("--source", "magic"), 2, "--source: expected auto, sgx, cvm, simulated or emulated:NAME"),
            (("--source", "simulated", "--interval", "1h"), 2, "--interval: expected 50ms to 60s"),
            (("--source", "simulated", "--listen", "9105"), 2, "--listen: expected HOST:PORT"),
            (("--source", "simulated", "--node", "a b"), 2, "--node: expected 1 to 253"),
            (("--source", "sgx", "--server", "a"), 2, "--server: expected NAME=FOLDER"),
        ],
    )
    def test_of_input(
        self, run: Callable[..., Refusal], options: tuple[str, ...], status: int, reason: str
    ) -> None:
        result = run(*options)

        assert (result.status, result.stdout) == (status, "")
        assert result.stderr.startswith(f"s3ml: {reason}")
        assert result.stderr.count("\n") == 1

    def test_of_a_machine_without_tee_memory(self, run: Callable[..., Refusal], tmp_path: Path) -> None:
        result = run("--root", str(tmp_path))

        assert result.status == 4
        assert "no TEE memory to read here" in result.stderr

    def test_of_an_address_that_is_taken(self, run: Callable[..., Refusal], agent: Agent) -> None:
        result = run("--source", "simulated", "--listen", agent.said["url"].removeprefix("http://"))

        assert result.status == 2
        assert "--listen: cannot listen on 127.0.0.1" in result.stderr
