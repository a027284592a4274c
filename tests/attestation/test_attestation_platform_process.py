"""The platform as a process of its own: it starts, says so, and takes everything with it when it ends."""

import base64
import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import s3ml
from s3ml.apps.processes.platform import READY, main
from s3ml.attestation import AppraisalPolicy, Tee, parse_evidence, verify_evidence
from s3ml.attestation.policy import Alternative
from s3ml.attestation.simulated.admin import PlatformAdmin
from s3ml.attestation.simulated.image import ImageSource, measure
from s3ml.attestation.simulated.instances import die_with_parent
from s3ml.attestation.simulated.platform import run_platform
from s3ml.primitives.clock import SystemClock
from s3ml.primitives.errors import ConfigurationError

DEADLINE_S = 300.0
COMMAND = (sys.executable, "-m", "s3ml.apps.processes.platform", "--die-with-parent", "--state")
ENCLAVE = """\
import base64, json, os, socket, sys

from s3ml.attestation import encode_evidence
from s3ml.attestation.simulated.attester import SimulatedAttester


def main() -> int:
    attester = SimulatedAttester(os.environ["S3ML_SIMULATED_PLATFORM"])
    evidence = encode_evidence(attester.quote(bytes(range(64))))
    said = {
        "evidence": base64.b64encode(evidence).decode(),
        "sealing_key_bytes": len(attester.sealing_key()),
        "environment": sorted(os.environ),
        "path": sys.path,
        "modules": [m.__file__ for m in list(sys.modules.values()) if getattr(m, "__file__", None)],
    }
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(os.environ["S3ML_CONTROL"])
        control.sendall(json.dumps(said).encode() + b"\\n")
        control.recv(1)
    return 0
"""


@pytest.fixture
def state() -> Iterator[Path]:
    """A short path, because sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="s3ml-") as folder:
        yield Path(folder) / "state"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The package, with a main of the key service that says what it sees."""
    package = tmp_path / "s3ml"
    shutil.copytree(Path(s3ml.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "apps/processes/key_service.py").write_text(ENCLAVE)
    return package


@contextlib.contextmanager
def daemon(state: Path) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [*COMMAND, str(state)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == f"{READY}\n"
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def launched(state: Path, package: Path) -> Iterator[tuple[socket.socket, Any, str]]:
    """Launch the key service of `package`; yield its connection, what it said, and its measurement."""
    with socket.socket(socket.AF_UNIX) as control:
        control.bind(str(state / "control.sock"))
        control.listen(1)
        control.settimeout(DEADLINE_S)
        settings = {"S3ML_CONTROL": str(state / "control.sock")}
        reply = PlatformAdmin(state / "admin.sock").launch("key-service", settings, state / "log", package)
        connection, _ = control.accept()
        connection.settimeout(DEADLINE_S)
        with connection, connection.makefile("r") as said:
            yield connection, json.loads(said.readline()), reply.measurement


def has_ended(descriptor: int) -> bool:
    """Wait until the process of the pidfd `descriptor` ended."""
    readable, _, _ = select.select([descriptor], [], [], DEADLINE_S)
    return bool(readable)


@pytest.mark.integration
class TestTheWholeWay:
    """A real daemon launches a real image, whose process proves what it is."""

    def test_an_enclave_process_proves_the_measurement_of_its_image(self, state: Path, package: Path) -> None:
        with daemon(state) as process:
            with launched(state, package) as (_, said, measurement):
                image = next((state / "images").iterdir())
            process.terminate()
            assert process.wait(DEADLINE_S) == 0
            assert process.stderr is not None
            log = process.stderr.read()
        assert measurement == measure(ImageSource.installed("key-service", package))
        policy = AppraisalPolicy(
            accept=(
                Alternative(
                    tee=Tee.SIMULATED, root=(state / "root.der").read_bytes(), measurements=(measurement,)
                ),
            )
        )
        evidence = parse_evidence(base64.b64decode(said["evidence"]))
        verified = verify_evidence(evidence, policy, report_data=bytes(range(64)), now=datetime.now(UTC))
        assert (verified.measurement, verified.is_simulated) == (measurement, True)
        assert said["sealing_key_bytes"] == 32
        assert said["environment"] == ["ORT_DISABLE_TELEMETRY", "S3ML_CONTROL", "S3ML_SIMULATED_PLATFORM"]
        assert [path for path in said["path"] + said["modules"] if not path.startswith(f"{image}/")] == []
        assert said["path"][-1] == f"{image}/site"
        assert all(" SIMULATED platform " in line for line in log.splitlines())
        assert "event=launched instance=key-service-1" in log
        assert sorted(path.name for path in state.iterdir()) == [
            "control.sock",
            "lock",
            "log",
            "platform.key",
            "root.der",
            "root.pem",
        ]

    def test_nothing_outlives_a_killed_daemon(self, state: Path, package: Path) -> None:
        with daemon(state) as process, launched(state, package) as (connection, _, _):
            process.kill()
            assert connection.recv(1) == b""


class TestStarting:
    """It is ready when it says so, and says in one line why it is not."""

    def stop_at_once(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_it_ends_on_a_signal_and_leaves_its_keys_alone(self, state: Path, number: signal.Signals) -> None:
        seen: list[str] = []

        def ready() -> None:
            seen.extend(sorted(path.name for path in state.iterdir()))
            os.kill(os.getpid(), number)

        run_platform(state, clock=SystemClock(), ready=ready)
        assert seen == ["admin.sock", "images", "lock", "platform.key", "quote.sock", "root.der", "root.pem"]
        assert sorted(path.name for path in state.iterdir()) == [
            "lock",
            "platform.key",
            "root.der",
            "root.pem",
        ]

    def test_a_restart_keeps_the_root(self, state: Path) -> None:
        roots = []
        for _ in range(2):
            run_platform(state, clock=SystemClock(), ready=self.stop_at_once)
            roots.append((state / "root.pem").read_bytes())
        assert roots[0] == roots[1]

    def test_two_do_not_share_a_state(self, state: Path) -> None:
        refusals: list[str] = []

        def ready() -> None:
            try:
                run_platform(state, clock=SystemClock(), ready=self.stop_at_once)
            except ConfigurationError as error:
                refusals.append(str(error))
            self.stop_at_once()

        run_platform(state, clock=SystemClock(), ready=ready)
        assert refusals == [f"{state}: another simulated platform runs here; stop it first"]

    def test_it_says_that_it_is_ready(
        self, state: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def run(folder: Path, *, ready: Any, **_: Any) -> None:
            ready()

        monkeypatch.setattr("s3ml.apps.processes.platform.run_platform", run)
        assert main(["--state", str(state)]) == 0
        assert capsys.readouterr().out == "READY\n"

    def test_a_damaged_state_is_one_line(self, state: Path, capsys: pytest.CaptureFixture[str]) -> None:
        run_platform(state, clock=SystemClock(), ready=self.stop_at_once)
        (state / "platform.key").write_bytes(b"damage")
        assert main(["--state", str(state)]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("\n") == 1
        assert said.err.startswith(
            f"SIMULATED platform: {state}/platform.key: expected the platform's saved keys"
        )

    def test_a_state_that_is_no_folder_is_one_line(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "file").write_bytes(b"")
        assert main(["--state", str(tmp_path / "file")]) == 2
        assert capsys.readouterr().err.count("\n") == 1


class TestDyingWithTheParent:
    """What is tied to its parent does not outlive it."""

    @pytest.fixture
    def untied(self) -> Iterator[None]:
        yield
        ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)

    @pytest.mark.usefixtures("untied")
    def test_the_daemon_ties_itself_when_told(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        main(["--state", str(tmp_path / "file"), "--die-with-parent"])
        tied = ctypes.c_int()
        ctypes.CDLL(None).prctl(2, ctypes.byref(tied), 0, 0, 0)
        assert tied.value == signal.SIGTERM

    @pytest.mark.usefixtures("untied")
    def test_a_parent_that_ended_before_is_noticed(self) -> None:
        die_with_parent(os.getppid(), signal.SIGTERM)
        with pytest.raises(ProcessLookupError):
            die_with_parent(os.getpid(), signal.SIGTERM)

    def test_a_kernel_that_refuses_is_an_error(self) -> None:
        with pytest.raises(OSError, match="prctl"):
            die_with_parent(os.getppid(), 4096)  # type: ignore[arg-type]

    @pytest.mark.integration
    def test_the_daemon_ends_with_whoever_started_it(self, state: Path) -> None:
        starter = (
            "import subprocess, sys; process = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE); "
            "process.stdout.readline(); print(process.pid, flush=True); sys.stdin.read()"
        )
        with subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", starter, *COMMAND, str(state)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            descriptor = os.pidfd_open(int(process.stdout.readline()))
            process.communicate()
        try:
            assert has_ended(descriptor)
        finally:
            os.close(descriptor)
        assert not (state / "admin.sock").exists()
