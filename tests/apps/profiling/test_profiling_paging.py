"""What repeated requests on an emulated EPC say: points, the cost of a page; and how it is told.

The measurement itself changes the machine: it is tested with the emulation.
"""

from pathlib import Path

import pytest

from s3ml.apps.cli import profile as profile_command
from s3ml.apps.cli.root import run
from s3ml.apps.profiling.messages import Repeat, Repeated
from s3ml.apps.profiling.paging import HEADROOMS, fit_page_cost, plan_limits, summarise
from s3ml.apps.profiling.process import MeasurementError, MeasuringProcess
from s3ml.bundle.profile import encode_profile
from s3ml.primitives.errors import ConfigurationError
from tests.bundle.profiles import paging, profile
from tests.modelserver.conftest import linear

DEADLINE_S = 100.0
MS = 1_000_000


class TestPoints:
    """All copies' requests together make a point."""

    def test_it_is_what_all_requests_took(self) -> None:
        first = Repeated(runs=3, durations_ns=(1 * MS, 2 * MS, 3 * MS))
        second = Repeated(runs=1, durations_ns=(10 * MS,))
        point = summarise([first, second], pages=100, limit_bytes=900, hot_set_bytes=1000)

        assert (point.headroom, point.limit_bytes) == (0.9, 900)
        assert (point.requests, point.pages_per_request) == (4, 25)
        assert (point.mean_s, point.p50_s, point.p99_s) == pytest.approx((0.004, 0.002, 0.01))

    def test_sizes_are_pages_and_fall(self) -> None:
        limits = plan_limits(100_000_000, HEADROOMS)
        assert len(limits) == len(HEADROOMS)
        assert list(limits) == sorted(limits, reverse=True)
        assert all(limit % 4096 == 0 for limit in limits)
        assert limits[0] == pytest.approx(130_000_000, abs=4096)

    def test_sizes_that_no_node_has_are_left_out(self) -> None:
        assert len(plan_limits(5 << 20, HEADROOMS)) == 5
        assert plan_limits(1 << 20, HEADROOMS) == ()


class TestCost:
    """A page costs the latency that it added."""

    def test_it_is_the_slope(self) -> None:
        assert fit_page_cost(paging().points, compute_s=0.01) == pytest.approx(20e-6)

    def test_where_nothing_paged_it_is_unknown(self) -> None:
        assert fit_page_cost(paging().points[:1], compute_s=0.01) is None

    def test_where_pages_made_nothing_slower_it_is_unknown(self) -> None:
        assert fit_page_cost(paging().points, compute_s=1.0) is None


class TestRepeating:
    """The measuring process computes again and again, as often as it is asked."""

    def question(self, duration_s: float = 0.0) -> Repeat:
        return Repeat(duration_s=duration_s, shapes={"x": (1, 3)}, is_batched=True, samples=None)

    def test_each_run_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "linear.onnx").write_bytes(linear())
        with MeasuringProcess() as process:
            process.load(tmp_path / "linear.onnx", threads=1, deadline_s=DEADLINE_S)
            once = process.repeat(self.question(), deadline_s=DEADLINE_S)
            often = process.repeat(self.question(0.05), deadline_s=DEADLINE_S)

        assert (once.runs, len(once.durations_ns)) == (1, 1)
        assert often.runs >= len(often.durations_ns) >= 1
        assert all(duration > 0 for duration in often.durations_ns)

    def test_another_answer_is_refused(self) -> None:
        script = 'import sys; sys.stdin.readline(); print(\'{"type":"Failed","reason":"no"}\', flush=True)'
        with (
            MeasuringProcess(("-I", "-c", script)) as process,
            pytest.raises(MeasurementError, match=r"^no$"),
        ):
            process.repeat(self.question(), deadline_s=DEADLINE_S)


class TestCommand:
    """`s3ml profile` tells paging, and says that it is EMULATED."""

    def test_it_is_shown(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("p.json").write_bytes(encode_profile(profile(paging=paging())))
        assert run(["profile", "p.json"]) == 0
        said = capsys.readouterr().out
        assert "EMULATED" in said
        assert "no figure of SGX hardware" in said
        assert "40.0 MB of 2 copies" in said
        assert "20.0 µs, emulated" in said

    def test_an_unknown_cost_is_said(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("p.json").write_bytes(encode_profile(profile(paging=paging(page_cost_s=None))))
        assert run(["profile", "p.json"]) == 0
        assert "unknown: too little paged" in capsys.readouterr().out

    def test_a_profile_cannot_be_measured_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        Path("p.json").write_bytes(encode_profile(profile()))
        assert run(["profile", "p.json", "--paging"]) == 2
        assert "--paging: expected a model to measure, got the profile p.json" in capsys.readouterr().err

    def test_a_machine_that_cannot_says_so_before_anything_is_measured(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def refuse(_host: object) -> None:
            raise ConfigurationError("emulated EPC: this machine lacks root")

        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(profile_command, "check_host", refuse)
        Path("linear.onnx").write_bytes(linear())
        assert run(["profile", "linear.onnx", "--paging"]) == 2
        assert capsys.readouterr().err == "s3ml: emulated EPC: this machine lacks root\n"
        assert [path.name for path in tmp_path.iterdir()] == ["linear.onnx"]
