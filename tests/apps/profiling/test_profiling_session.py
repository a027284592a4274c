"""A profile is made of points, each from a process of its own; what cannot be measured is said in it."""

import platform
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from s3ml.apps.profiling import session
from s3ml.apps.profiling.machine import available_cores, describe_machine
from s3ml.apps.profiling.process import MeasurementError
from s3ml.apps.profiling.session import Step, Wishes, doubling, measure_profile
from s3ml.bundle.profile import Library, Profile, check_profile_of, encode_profile, parse_profile
from s3ml.primitives.errors import ConfigurationError
from tests.bundle.profiles import point
from tests.modelserver.conftest import build, linear, value

NOW = datetime(2026, 11, 23, 8, 0, 0, 123, tzinfo=UTC)


def measure(wishes: Wishes, steps: list[Step] | None = None) -> Profile:
    told: list[Step] = [] if steps is None else steps
    return measure_profile(wishes, progress=told.append, now=lambda: NOW)


def write(folder: Path, data: bytes) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(data)
    return path


def sequence() -> bytes:
    """``y = x @ w`` of rows of any number of steps."""
    weights = numpy_helper.from_array(np.ones((3, 2), dtype=np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    inputs = [value("x", TensorProto.FLOAT, "n", "t", 3)]
    outputs = [value("y", TensorProto.FLOAT, "n", "t", 2)]
    data: bytes = build(nodes, inputs, outputs, [weights]).SerializeToString()
    return data


def of_two_rows_at_most() -> bytes:
    """A model that says it takes any rows, and cannot take more than two."""
    most = numpy_helper.from_array(np.array([2, 3], dtype=np.int64), "most")
    nodes = [
        helper.make_node("Shape", ["x"], ["sizes"]),
        helper.make_node("Min", ["sizes", "most"], ["fewer"]),
        helper.make_node("Reshape", ["x", "fewer"], ["y"]),
    ]
    sides = [value("x", TensorProto.FLOAT, "n", 3)], [value("y", TensorProto.FLOAT, "m", 3)]
    data: bytes = build(nodes, *sides, [most]).SerializeToString()
    return data


class TestMeasuring:
    """Real processes on small models."""

    def test_every_point_is_measured_and_the_document_holds(self, tmp_path: Path) -> None:
        path, steps = write(tmp_path, linear()), list[Step]()
        profile = measure(Wishes(source=path, max_batch=3, threads=(1,), duration_s=0.02), steps)

        assert [(p.threads, p.batch) for p in profile.points] == [(1, 1), (1, 2), (1, 3)]
        assert [(step.batch, step.number, step.total) for step in steps] == [(1, 1, 3), (2, 2, 3), (3, 3, 3)]
        assert profile.skipped == ()
        assert parse_profile(encode_profile(profile)) == profile
        assert profile.measured_at == NOW.replace(microsecond=0)
        assert profile.model.inputs[0].shape == (1, 3)
        assert profile.model.is_batched
        assert profile.loading.process.resident_bytes <= profile.loading.peak_bytes
        check_profile_of(profile, session.list_files(path))

    def test_what_a_model_cannot_do_is_skipped(self, tmp_path: Path) -> None:
        path = write(tmp_path, of_two_rows_at_most())
        profile = measure(Wishes(source=path, max_batch=8, threads=(1,), duration_s=0.01))

        assert [p.batch for p in profile.points] == [1, 2]
        assert [(s.threads, s.batch) for s in profile.skipped] == [(1, 4)]
        assert "cannot be evaluated" in profile.skipped[0].reason

    def test_samples_are_fed(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "rows.npz", x=np.ones((2, 5, 3), dtype=np.float32))
        wishes = Wishes(
            source=write(tmp_path, sequence()),
            max_batch=1,
            threads=(1,),
            duration_s=0.01,
            samples=tmp_path / "rows.npz",
        )
        profile = measure(wishes)
        assert profile.settings.inputs == "samples"
        assert profile.model.inputs[0].shape == (1, 5, 3)

    def test_a_whole_shape_is_one_run(self, tmp_path: Path) -> None:
        """With one batch alone, the first dimension is the given one."""
        wishes = Wishes(
            source=write(tmp_path, sequence()),
            max_batch=1,
            threads=(1,),
            duration_s=0.01,
            shapes={"x": (7, 5, 3)},
        )
        profile = measure(wishes)
        assert profile.model.inputs[0].shape == (7, 5, 3)
        assert not profile.model.is_batched


class TestRefusals:
    """One line, before anything was measured."""

    def test_a_variable_size_is_asked_for(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match=r"--shape x=1,\?,3"):
            measure(Wishes(source=write(tmp_path, sequence()), threads=(1,), duration_s=0.01))

    def test_no_model_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match=r"none\.onnx"):
            measure(Wishes(source=tmp_path / "none.onnx", threads=(1,)))

    def test_a_model_that_does_not_open_is_said(self, tmp_path: Path) -> None:
        nodes = [helper.make_node("NoSuchOperator", ["x"], ["y"])]
        sides = [value("x", TensorProto.FLOAT, 1)], [value("y", TensorProto.FLOAT, 1)]
        path = write(tmp_path, build(nodes, *sides, []).SerializeToString())
        with pytest.raises(MeasurementError, match="ONNX Runtime cannot open it"):
            measure(Wishes(source=path, threads=(1,)))

    def test_a_shape_and_samples_are_one_too_many(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "rows.npz", x=np.ones((2, 5, 3), dtype=np.float32))
        wishes = Wishes(
            source=write(tmp_path, sequence()),
            threads=(1,),
            shapes={"x": (1, 5, 3)},
            samples=tmp_path / "rows.npz",
        )
        with pytest.raises(ConfigurationError, match="expected --shape or --samples, got both"):
            measure(wishes)

    @pytest.mark.parametrize("threads", [(0,), (2, 1), (1, 1), (100_000,)])
    def test_threads_are_rising_and_no_more_than_cores(
        self, tmp_path: Path, threads: tuple[int, ...]
    ) -> None:
        with pytest.raises(ConfigurationError, match=f"--threads: expected 1 to {available_cores()}"):
            measure(Wishes(source=tmp_path, threads=threads))

    @pytest.mark.parametrize("batch", [0, 1025])
    def test_batches_have_a_limit(self, tmp_path: Path, batch: int) -> None:
        with pytest.raises(ConfigurationError, match="--max-batch: expected 1 to 1024"):
            measure(Wishes(source=tmp_path, max_batch=batch))

    def test_a_first_point_that_fails_ends_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise MeasurementError("too little memory")

        monkeypatch.setattr(session, "_measure_point", refuse)
        with pytest.raises(MeasurementError, match="too little memory"):
            measure(Wishes(source=write(tmp_path, linear()), threads=(1,)))


class TestPatience:
    """What a model server would not answer in time is not measured."""

    def test_batches_stop_growing_before_its_deadline(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = session._measure_point

        def slow(*arguments: object, threads: int, batch: int) -> object:
            loaded, _ = real(*arguments, threads=threads, batch=batch)  # type: ignore[arg-type]
            return loaded, point(threads, batch, p50_ms=8000 * batch)

        monkeypatch.setattr(session, "_measure_point", slow)
        profile = measure(
            Wishes(source=write(tmp_path, linear()), max_batch=8, threads=(1,), duration_s=0.01)
        )
        assert [p.batch for p in profile.points] == [1, 2]
        assert profile.skipped[0].reason == "a run of twice the size would take longer than 30 s"


class TestPlan:
    """1, 2, 4 and so on."""

    @pytest.mark.parametrize(
        ("limit", "sizes"),
        [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (8, (1, 2, 4, 8)), (12, (1, 2, 4, 8, 12))],
    )
    def test_sizes_double_up_to_the_limit(self, limit: int, sizes: tuple[int, ...]) -> None:
        assert doubling(limit) == sizes


class TestMachine:
    """Figures say where they come from."""

    def test_it_is_described(self) -> None:
        found = describe_machine([Library(name="a", version="1")], load_before=0.256)
        assert found.processor
        assert found.cores >= 1
        assert found.memory_bytes > 1 << 28
        assert found.load_average[0] == 0.26
        assert found.libraries[0].name == "a"

    def test_what_the_kernel_does_not_say_is_unknown(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object, **__: object) -> str:
            raise OSError

        monkeypatch.setattr(Path, "read_text", refuse)
        monkeypatch.setattr(platform, "freedesktop_os_release", refuse)
        monkeypatch.setattr(platform, "machine", lambda: "")
        found = describe_machine([], load_before=0)
        assert found.processor == "unknown"
        assert found.system == "Linux"
