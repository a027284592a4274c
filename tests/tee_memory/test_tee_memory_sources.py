"""Simulated and reopened sources, and the files of kernels."""

import itertools
from pathlib import Path

import pytest

from s3ml.primitives.errors import UnavailableError
from s3ml.tee_memory import Counts, Kind, compare
from s3ml.tee_memory.kernel_files import (
    KERNEL_FILE_LIMIT_BYTES,
    is_figure,
    read_figure,
    read_figures,
    read_kernel_file,
)
from s3ml.tee_memory.reopening import ReopeningSource
from s3ml.tee_memory.simulated import SimulatedServers, SimulatedSource, demonstration
from tests.clocks import FakeClock


class TestSimulated:
    """Counts come from a model, and say so."""

    def test_they_are_the_models_at_the_instant(self) -> None:
        clock = FakeClock()
        source = SimulatedSource(lambda now_s: Counts(taken_at_s=0, page_ins=int(now_s)), clock)
        clock.advance(5)

        assert source.count() == Counts(taken_at_s=1005.0, page_ins=1005)
        assert (source.kind, source.name) == (Kind.SIMULATED, "simulated model")

    def test_servers_are_those_of_the_mapping(self) -> None:
        models = {"a": demonstration}
        servers = SimulatedServers(models, FakeClock())
        models["b"] = demonstration

        assert (servers.names(), servers.source("b").kind) == (["a", "b"], Kind.SIMULATED)

    def test_the_demonstration_never_goes_back(self) -> None:
        counts = [demonstration(second / 4) for second in range(1000)]

        assert all(
            before.page_ins <= after.page_ins  # type: ignore[operator]
            for before, after in itertools.pairwise(counts)
        )
        source = SimulatedSource(demonstration, FakeClock())
        assert all(compare(source, *pair).is_sane for pair in itertools.pairwise(counts))


class Flaky:
    """Fails when it is told to; counts its closings."""

    kind = Kind.EMULATED

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_broken = False
        self.closings = 0

    def count(self) -> Counts:
        if self.is_broken:
            raise UnavailableError(f"{self.name} is down")
        return Counts(taken_at_s=1.0)

    def close(self) -> None:
        self.closings += 1


class TestReopening:
    """What failed is closed, and opened again the next time."""

    def test_it_counts_as_the_one_within(self) -> None:
        source = ReopeningSource(Flaky("first"), lambda: Flaky("second"))

        assert (source.count(), source.kind, source.name) == (Counts(taken_at_s=1.0), Kind.EMULATED, "first")

    def test_a_failure_is_told_and_another_is_opened(self) -> None:
        first = Flaky("first")
        source = ReopeningSource(first, lambda: Flaky("second"))
        first.is_broken = True

        with pytest.raises(UnavailableError, match="first is down"):
            source.count()
        assert source.count() == Counts(taken_at_s=1.0)
        assert (first.closings, source.name) == (1, "second")

    def test_one_that_cannot_be_opened_is_tried_again(self) -> None:
        first, tries = Flaky("first"), itertools.count()

        def reopen() -> Flaky:
            if next(tries) == 0:
                raise UnavailableError("not yet")
            return Flaky("second")

        source = ReopeningSource(first, reopen)
        first.is_broken = True
        for reason in ("first is down", "not yet"):
            with pytest.raises(UnavailableError, match=reason):
                source.count()

        assert source.count() == Counts(taken_at_s=1.0)

    def test_closing_twice_closes_once(self) -> None:
        first = Flaky("first")
        source = ReopeningSource(first, lambda: first)
        source.close()
        source.close()

        assert first.closings == 1


class TestKernelFiles:
    """Figures are parsed strictly, and files are short."""

    def test_lines_of_either_form(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_text("MemTotal:  12 kB\npgfault 7\n\nnothing\nneg -1\nhuge " + "9" * 20 + "\ntext max\n")

        names = ("MemTotal", "pgfault", "nothing", "neg", "huge", "text", "missing")
        assert read_figures(path, names) == {"MemTotal": 12, "pgfault": 7}
        assert read_figures(path, ("pgfault",)) == {"pgfault": 7}

    @pytest.mark.parametrize("text", ["", "max", "-1", "1 2", "1.5", "٣", "9" * 20, "0x10"])
    def test_what_is_no_number(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "file"
        path.write_text(text)

        with pytest.raises(UnavailableError, match="expected a number"):
            read_figure(path)
        assert not is_figure(text)

    def test_a_number(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("98566144\n")

        assert read_figure(tmp_path / "file") == 98566144

    def test_what_is_missing_or_a_folder(self, tmp_path: Path) -> None:
        for path in (tmp_path / "missing", tmp_path):
            with pytest.raises(UnavailableError, match=str(path)):
                read_kernel_file(path)

    def test_what_is_too_long(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"x" * (KERNEL_FILE_LIMIT_BYTES + 1))

        with pytest.raises(UnavailableError, match="at most"):
            read_kernel_file(path)
