"""A measuring process is asked, answers or says why not, and is never left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from s3ml.apps.profiling.messages import Load, Loaded, Measure, Measured, encode_line, parse_answer
from s3ml.apps.profiling.process import CHILD, MeasurementError, MeasuringProcess
from tests.bundle.profiles import point
from tests.modelserver import litert_models
from tests.modelserver.conftest import external_model, linear

DEADLINE_S = 300.0
MEASURE = Measure(batch=4, duration_s=0.02, shapes={"x": (1, 3)}, is_batched=True, samples=None)


def write_model(folder: Path) -> Path:
    path = folder / "linear.onnx"
    path.write_bytes(linear())
    return path


def scripted(script: str) -> MeasuringProcess:
    """A process that runs a script instead of measuring."""
    return MeasuringProcess(("-I", "-c", script))


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class TestMeasurement:
    """The real process, on a real model."""

    def test_a_point_is_measured(self, tmp_path: Path) -> None:
        with MeasuringProcess() as process:
            loaded = process.load(write_model(tmp_path), threads=1, deadline_s=DEADLINE_S)
            measured = process.measure(MEASURE, deadline_s=DEADLINE_S).point

        assert [(one.name, one.datatype, one.shape) for one in loaded.inputs] == [("x", "FP32", (-1, 3))]
        assert loaded.is_batchable
        assert loaded.platform == "onnx_onnxv1"
        assert loaded.process.resident_bytes < loaded.model.resident_bytes <= loaded.peak_bytes
        assert {library.name for library in loaded.libraries} == {"s3ml", "numpy", "onnxruntime"}
        assert (measured.threads, measured.batch) == (1, 4)
        assert 0 < measured.p50_s <= measured.p99_s
        assert 0 < measured.rows_per_s <= 2 * 4 / measured.p50_s  # half of the runs took p50 at least
        assert measured.memory.anonymous_bytes < measured.memory.resident_bytes <= measured.peak_bytes
        assert (
            measured.working_set_bytes is None or measured.working_set_bytes < measured.memory.resident_bytes
        )

    def test_external_data_comes_from_the_folder(self, tmp_path: Path) -> None:
        external_model(tmp_path / "model")
        with MeasuringProcess() as process:
            assert process.load(tmp_path / "model", threads=1, deadline_s=DEADLINE_S).is_batchable

    def test_a_litert_model_is_measured_by_its_own_runtime(self, tmp_path: Path) -> None:
        path = tmp_path / "linear.tflite"
        path.write_bytes(litert_models.linear())
        with MeasuringProcess() as process:
            loaded = process.load(path, threads=1, deadline_s=DEADLINE_S)
            shapes = {one.name: (1, *one.shape[1:]) for one in loaded.inputs}
            question = Measure(batch=2, duration_s=0.02, shapes=shapes, is_batched=True, samples=None)
            measured = process.measure(question, deadline_s=DEADLINE_S).point
        assert "ai_edge_litert" in {library.name for library in loaded.libraries}
        assert loaded.is_batchable
        assert measured.batch == 2

    def test_a_missing_model_is_said(self, tmp_path: Path) -> None:
        with (
            MeasuringProcess() as process,
            pytest.raises(MeasurementError, match=r"none\.onnx: expected a regular file"),
        ):
            process.load(tmp_path / "none.onnx", threads=1, deadline_s=DEADLINE_S)

    def test_inputs_that_the_model_cannot_take_are_said(self, tmp_path: Path) -> None:
        wrong = Measure(batch=1, duration_s=0.02, shapes={"x": (1, 7)}, is_batched=True, samples=None)
        with MeasuringProcess() as process:
            process.load(write_model(tmp_path), threads=1, deadline_s=DEADLINE_S)
            with pytest.raises(MeasurementError, match="cannot be evaluated on these inputs"):
                process.measure(wrong, deadline_s=DEADLINE_S)

    def test_nothing_is_measured_before_a_model_is_loaded(self) -> None:
        with MeasuringProcess() as process, pytest.raises(MeasurementError, match="load a model first"):
            process.measure(MEASURE, deadline_s=DEADLINE_S)


class TestProtocol:
    """Answers are parsed strictly, and waited for no longer than stated."""

    def test_silence_ends_at_the_deadline(self, tmp_path: Path) -> None:
        silent = scripted("import time; time.sleep(600)")
        with silent as process, pytest.raises(MeasurementError, match="it took longer than 0 s"):
            process.load(tmp_path, threads=1, deadline_s=0.05)

    @pytest.mark.parametrize("line", ["{}", "no json", '{"type": "Load", "path": "x", "threads": 1}'])
    def test_another_answer_is_rejected(self, tmp_path: Path, line: str) -> None:
        with (
            scripted(f"input(); print({line!r}, flush=True); input()") as process,
            pytest.raises(MeasurementError, match="answered something else"),
        ):
            process.load(tmp_path, threads=1, deadline_s=DEADLINE_S)

    def test_an_answer_to_another_question_is_rejected(self, tmp_path: Path) -> None:
        answer = encode_line(Measured(point=point())).decode()
        with (
            scripted(f"input(); print({answer!r}, flush=True); input()") as process,
            pytest.raises(MeasurementError, match="expected a loaded model, got Measured"),
        ):
            process.load(tmp_path, threads=1, deadline_s=DEADLINE_S)

    def test_an_answer_without_an_end_is_rejected(self, tmp_path: Path) -> None:
        with (
            scripted("import sys\nwhile True: sys.stdout.write('x' * 65536)") as process,
            pytest.raises(MeasurementError, match="does not stop talking"),
        ):
            process.load(tmp_path, threads=1, deadline_s=DEADLINE_S)

    def test_a_process_that_fails_says_its_last_line(self, tmp_path: Path) -> None:
        with (
            scripted("input(); raise RuntimeError('the disk is gone')") as process,
            pytest.raises(MeasurementError, match="status 1: RuntimeError: the disk is gone"),
        ):
            process.load(tmp_path, threads=1, deadline_s=DEADLINE_S)

    def test_a_process_that_is_killed_is_said(self, tmp_path: Path) -> None:
        script = "import os; input(); os.kill(os.getpid(), 9)"
        with (
            scripted(script) as process,
            pytest.raises(MeasurementError, match=r"was killed \(signal 9\): too little memory\?"),
        ):
            process.load(tmp_path, threads=1, deadline_s=DEADLINE_S)

    def test_a_process_that_ended_before_the_question_is_said(self, tmp_path: Path) -> None:
        with scripted("raise SystemExit(3)") as process, pytest.raises(MeasurementError, match="status 3"):
            process.load(tmp_path, threads=1, deadline_s=DEADLINE_S)


class TestEnd:
    """No process outlives the one that started it."""

    def test_it_ends_with_the_block(self, tmp_path: Path) -> None:
        script = "import os; input(); print(os.getpid(), flush=True); input()"
        with scripted(script) as process:
            with pytest.raises(MeasurementError, match="answered something else"):
                process.load(tmp_path, threads=1, deadline_s=DEADLINE_S)
            started = process.pid
            assert is_alive(started)
        assert not is_alive(started)

    def test_it_dies_with_a_starter_that_is_killed(self, tmp_path: Path) -> None:
        """The starter prints the process's number, then waits; it is killed, and leaves nothing."""
        starter = (
            "import sys\n"
            "from pathlib import Path\n"
            "from s3ml.apps.profiling.process import MeasuringProcess\n"
            "with MeasuringProcess() as process:\n"
            f"    process.load(Path({str(write_model(tmp_path))!r}), threads=1, deadline_s=60)\n"
            "    print(process.pid, flush=True)\n"
            "    sys.stdin.read()\n"
        )
        command = [sys.executable, "-c", starter]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as started:
            assert started.stdout is not None
            pid = int(started.stdout.readline())
            assert is_alive(pid)
            started.send_signal(signal.SIGKILL)
            started.wait(timeout=DEADLINE_S)
        end = time.monotonic() + DEADLINE_S
        while is_alive(pid) and time.monotonic() < end:
            os.sched_yield()
        assert not is_alive(pid)

    def test_it_does_not_begin_without_its_starter(self) -> None:
        done = subprocess.run([sys.executable, *CHILD, "1"], input=b"", timeout=DEADLINE_S, check=False)
        assert done.returncode == (0 if os.getpid() == 1 else 1)


class TestMessages:
    """A line each, and back."""

    def test_questions_and_answers_come_back(self) -> None:
        answer = Measured(point=point())
        assert parse_answer(encode_line(answer)) == answer

    def test_a_question_is_no_answer(self) -> None:
        with pytest.raises(Exception, match="Load"):
            parse_answer(encode_line(Load(path="x", threads=1)))

    def test_all_kinds_are_told_apart(self) -> None:
        kinds = {kind.__struct_config__.tag for kind in (Load, Loaded, Measure, Measured)}
        assert len(kinds) == 4
