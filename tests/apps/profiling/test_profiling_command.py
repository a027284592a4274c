"""`s3ml profile` as somebody types it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from s3ml.apps.cli import profile as profile_command
from s3ml.apps.cli.profile import parse_duration
from s3ml.apps.cli.root import run
from s3ml.bundle import Resources
from s3ml.bundle.profile import Settings, Suggestion, encode_profile, read_profile
from s3ml.primitives.errors import ConfigurationError
from tests.bundle.profiles import point, profile
from tests.modelserver.conftest import linear

DEADLINE_S = 300.0
ALONE = Suggestion(batching=None, resources=Resources(memory_bytes=1, threads=1), memory_margin=0.1)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with a model in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "linear.onnx").write_bytes(linear())
    return tmp_path


class TestCommand:
    """It measures, writes, shows and draws."""

    def test_a_model_is_profiled(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        words = ["--max-batch", "2", "--threads", "1", "--duration", "20ms", "--plot", "p.svg"]
        assert run(["profile", "linear.onnx", *words]) == 0
        said = capsys.readouterr()
        assert "OUTSIDE A TEE" in said.err
        assert "max_size" in said.out or "gains too little" in said.out
        assert "linear.profile.json: written" in said.out
        written = read_profile(folder / "linear.profile.json")
        assert [p.batch for p in written.points] == [1, 2]
        assert (folder / "p.svg").exists()

    def test_scripts_get_the_document(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (folder / "p.json").write_bytes(encode_profile(profile()))
        assert run(["profile", "p.json", "--json", "-o", "again.json"]) == 0
        said = capsys.readouterr()
        assert json.loads(said.out)["model"]["name"] == "resnet50.onnx"
        assert read_profile(folder / "again.json") == profile()

    def test_a_written_profile_is_shown_again(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (folder / "p.json").write_bytes(encode_profile(profile()))
        assert run(["profile", "p.json", "--plot", "p.png"]) == 0
        said = capsys.readouterr().out
        assert "max_size 2, max_delay_us 100" in said
        assert "skipped: threads 2, batch 8 and more: too little memory" in said
        assert (folder / "p.png").exists()

    def test_what_is_unknown_or_missed_is_said(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        settings = Settings(duration_s=2, inputs="random", p99_objective_s=0.001)
        shown = profile(points=(point(working_set_bytes=None),), suggestion=ALONE, settings=settings)
        (folder / "p.json").write_bytes(encode_profile(shown))
        assert run(["profile", "p.json"]) == 0
        said = capsys.readouterr().out
        assert "unknown" in said
        assert "missed: no point has p99 within 1 ms" in said
        assert "none: joining requests gains too little" in said
        assert "BUSY" not in said

    def test_a_busy_machine_is_said(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (folder / "p.json").write_bytes(
            encode_profile(profile(points=(point(compute_s=0.004),), suggestion=ALONE))
        )
        assert run(["profile", "p.json"]) == 0
        assert "BUSY  other processes took 60% of the time at least" in capsys.readouterr().out

    def test_without_the_extra_the_profile_is_written(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def refuse(*_: object) -> None:
            raise ConfigurationError("plot: matplotlib is not installed")

        monkeypatch.setattr(profile_command, "draw_profile", refuse)
        words = ["--max-batch", "1", "--threads", "1", "--duration", "10ms", "--plot", "p.svg"]
        assert run(["profile", "linear.onnx", *words]) == 2
        assert "s3ml: plot: matplotlib is not installed" in capsys.readouterr().err
        read_profile(folder / "linear.profile.json")


class TestErrors:
    """One line that says what to do, and status 2."""

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["none.onnx"], "none.onnx: expected a regular file, got nothing readable"),
            (["none.json"], "none.json: expected a regular file, got nothing readable"),
            (["linear.onnx", "--plot", "p.pdf"], "--plot: expected a file that ends in .svg or .png"),
            (["linear.onnx", "--threads", "a"], "--threads: expected numbers such as 1,2, got 'a'"),
            (["linear.onnx", "--threads", "0"], "--threads: expected 1 to"),
            (["linear.onnx", "--duration", "soon"], "--duration: expected a time such as 2s or 500ms"),
            (["linear.onnx", "--p99", "0s"], "--p99: expected a time such as 2s or 500ms"),
            (["linear.onnx", "--shape", "x"], "--shape: expected NAME=1,3,224,224"),
            (["linear.onnx", "--shape", "x=1,3", "--shape", "x=1,3"], "--shape: expected each input once"),
            (["linear.onnx", "--shape", "y=1,3"], "the model takes x, not y"),
            (["linear.onnx", "--shape", "x=1,4"], "x: expected the shape [-1, 3]"),
            (["linear.onnx", "--samples", "none.npz"], "samples none.npz: No such file"),
            (["broken.json"], "broken.json: profile: "),
            (["linear.onnx", "--max-batch", "2000"], "--max-batch"),
        ],
    )
    def test_it_is_said_in_one_line(
        self, folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
    ) -> None:
        (folder / "broken.json").write_bytes(b"{}")
        assert run(["profile", *words]) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("s3ml: ")]
        assert len(lines) == 1
        assert said in lines[0]
        assert list(folder.glob("*.profile.json")) == []


class TestDuration:
    """2s, 500ms, 250us, 2."""

    @pytest.mark.parametrize(
        ("text", "seconds"), [("2s", 2), ("500ms", 0.5), ("250us", 0.00025), ("2", 2), (" 1 S", 1)]
    )
    def test_it_is_parsed(self, text: str, seconds: float) -> None:
        assert parse_duration("--duration", text) == pytest.approx(seconds)

    @pytest.mark.parametrize("text", ["", "s", "-1s", "0", "nan", "inf", "3601s", "1m"])
    def test_others_are_rejected(self, text: str) -> None:
        with pytest.raises(ConfigurationError, match="expected a time such as"):
            parse_duration("--duration", text)


class TestInterruption:
    """An interrupt ends it, writes nothing, and leaves no process."""

    def test_it_ends_at_once(self, folder: Path) -> None:
        words = ["profile", "linear.onnx", "--threads", "1", "--duration", "600s"]
        # Tests that run in the background of a shell ignore interrupts, and so would their children.
        heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
        command = [sys.executable, "-c", f"{heed}; from s3ml.apps.cli import main; main()", *words]
        with subprocess.Popen(command, stderr=subprocess.PIPE, cwd=folder) as started:
            children = wait_for_child(started.pid)
            started.send_signal(signal.SIGINT)
            _, said = started.communicate(timeout=DEADLINE_S)
        assert started.returncode == 130
        assert said.decode().splitlines()[-1] == "s3ml: interrupted"
        wait_until_gone(children)
        assert list(folder.glob("*.profile.json")) == []


def wait_until_gone(pids: list[int]) -> None:
    """Wait until none of these processes exists: one that was just being started ends by itself."""
    end = time.monotonic() + DEADLINE_S
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < end
        os.sched_yield()


def wait_for_child(pid: int) -> list[int]:
    """Wait until a process has children, and return them."""
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        if children:
            return [int(child) for child in children]
        os.sched_yield()
    raise AssertionError("it started no process")
