"""What the kernel says of memory, and what durations say, held to work whose cost is known."""

import gc
import mmap
import os
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from s3ml.apps.profiling import memory, timing
from s3ml.apps.profiling.memory import forget_peak, read_memory, read_peak_bytes, touched_bytes
from s3ml.apps.profiling.timing import RUNS_LIMIT, time_runs, warm_up
from s3ml.primitives.errors import ConfigurationError

PAGE_BYTES = mmap.PAGESIZE
PAGES = 4000


@pytest.fixture
def pages() -> mmap.mmap:
    """Memory of which every page is resident."""
    mapped = mmap.mmap(-1, PAGES * PAGE_BYTES)
    mapped.madvise(mmap.MADV_NOHUGEPAGE)
    for place in range(PAGES):
        mapped[place * PAGE_BYTES] = 1
    return mapped


@dataclass
class Clocks:
    """Stands for the module `time`, where only work takes any."""

    elapsed_s: float = 0.0
    computed_s: float = 0.0

    def work(self, duration_s: float, *, computing_s: float = 0.0) -> None:
        self.elapsed_s += duration_s
        self.computed_s += computing_s

    def perf_counter(self) -> float:
        return self.elapsed_s

    def process_time(self) -> float:
        return self.computed_s


class TestMemory:
    """Pages that are there are counted, and no others."""

    def test_what_is_taken_is_resident_and_anonymous(self) -> None:
        gc.collect()
        before = read_memory()
        taken = bytearray(os.urandom(32 << 20))
        after = read_memory()
        assert after.resident_bytes - before.resident_bytes > len(taken) * 0.9
        assert after.anonymous_bytes - before.anonymous_bytes > len(taken) * 0.9

    def test_a_peak_stays_when_its_memory_is_gone(self) -> None:
        forget_peak()
        before = read_memory().resident_bytes
        taken = mmap.mmap(-1, 64 << 20)
        taken.write(b"\1" * (64 << 20))
        taken.close()
        assert read_peak_bytes() > before + (50 << 20)

    def test_touched_pages_are_counted(self, pages: mmap.mmap) -> None:
        """Each of them; other pages that the interpreter touches meanwhile come on top."""

        def work(count: int) -> None:
            for place in range(count):
                _ = pages[place * PAGE_BYTES]

        found = [touched_bytes(partial(work, count)) for count in (0, PAGES // 2, PAGES)]
        if None in found:
            pytest.skip("this kernel does not tell which pages are referenced")
        none, half, all_of_them = (size or 0 for size in found)
        assert half > none
        assert half >= 0.9 * PAGES // 2 * PAGE_BYTES
        assert all_of_them >= 0.9 * PAGES * PAGE_BYTES
        assert none < read_memory().resident_bytes - 0.9 * PAGES * PAGE_BYTES

    def test_without_the_marks_nothing_is_claimed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(memory, "_write_clear_refs", lambda _: False)
        assert touched_bytes(lambda: None) is None

    def test_marks_that_do_not_go_away_are_not_believed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(memory, "_read", lambda _: "Rss: 10 kB\nReferenced: 10 kB\n")
        assert touched_bytes(lambda: None) is None

    def test_another_kernel_is_said_plainly(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(memory, "_read", lambda _: "Name: python\n")
        with pytest.raises(ConfigurationError, match="'Rss'"):
            read_memory()
        with pytest.raises(ConfigurationError, match="VmHWM"):
            read_peak_bytes()

    def test_another_system_is_said_plainly(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def read_text(path: Path, **_: str) -> str:
            raise FileNotFoundError(2, "No such file or directory", str(path))

        monkeypatch.setattr(Path, "read_text", read_text)
        with pytest.raises(ConfigurationError, match="profiles need Linux"):
            read_memory()

    def test_a_forbidden_file_is_no_fault(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> int:
            raise PermissionError

        monkeypatch.setattr(os, "open", refuse)
        assert touched_bytes(lambda: None) is None

    def test_a_mark_that_the_kernel_does_not_know_is_no_fault(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(memory, "_FORGET_REFERENCES", b"99")
        assert touched_bytes(lambda: None) is None


class TestTiming:
    """Durations of the same work."""

    @pytest.fixture
    def clocks(self, monkeypatch: pytest.MonkeyPatch) -> Clocks:
        clocks = Clocks()
        monkeypatch.setattr(timing, "time", clocks)
        return clocks

    def test_processor_time_is_apart_from_waiting(self, clocks: Clocks) -> None:
        timed = time_runs(lambda: clocks.work(0.25, computing_s=0.125), duration_s=2.0)
        assert timed.runs == 8
        assert timed.p50_s == 0.25
        assert timed.elapsed_s == 2.0
        assert timed.compute_s == 0.125

    def test_five_runs_take_longer_where_they_have_to(self, clocks: Clocks) -> None:
        timed = time_runs(lambda: clocks.work(0.5), duration_s=2.0)
        assert timed.runs == 5
        assert timed.elapsed_s == 2.5

    def test_but_not_four_times_as_long(self, clocks: Clocks) -> None:
        timed = time_runs(lambda: clocks.work(3.0), duration_s=2.0)
        assert timed.runs == 3

    def test_waiting_takes_time(self) -> None:
        timed = time_runs(lambda: time.sleep(0.01), duration_s=0.05)
        assert timed.p50_s >= 0.01
        assert timed.elapsed_s >= 0.05

    def test_slow_work_is_not_run_five_times(self) -> None:
        timed = time_runs(lambda: time.sleep(0.05), duration_s=0.01)
        assert timed.runs == 1
        assert timed.p50_s == timed.p99_s >= 0.05

    def test_fast_work_ends_with_enough_of_it(self) -> None:
        timed = time_runs(lambda: None, duration_s=60)
        assert timed.runs == RUNS_LIMIT
        assert 0 <= timed.p50_s <= timed.p99_s

    def test_fresh_pages_are_told(self) -> None:
        def work() -> None:
            with mmap.mmap(-1, 100 * PAGE_BYTES) as fresh:
                fresh.madvise(mmap.MADV_NOHUGEPAGE)
                fresh.write(b"\1" * len(fresh))

        assert time_runs(work, duration_s=0.05).minor_faults >= 100

    def test_warming_up_runs_once_at_least(self) -> None:
        runs: list[int] = []
        warm_up(lambda: runs.append(1), duration_s=0)
        assert runs
