"""What a group's files say becomes counts, on a recorded tree."""

from pathlib import Path

import pytest

from s3ml.primitives.errors import UnavailableError
from s3ml.tee_memory.emulated.source import EmulatedSource, parse_stat
from s3ml.tee_memory.reading import Confidence, Counts, Kind, compare

PAGE = 4096
STAT = """\
cache 4096
rss 0
swap 0
pgmajfault 0
hierarchical_memory_limit {limit}
hierarchical_memsw_limit 9223372036854771712
total_cache 4096
total_rss 8192
total_swap {swap}
total_pgpgin 267429
total_pgfault 267670
total_pgmajfault {faults}
"""


def record(
    folder: Path, *, faults: int, pages_out: int, limit: int = 64 * PAGE, usage: int = 20 * PAGE
) -> None:
    text = STAT.format(limit=limit, swap=pages_out * PAGE, faults=faults)
    (folder / "memory.stat").write_text(text, encoding="ascii")
    (folder / "memory.usage_in_bytes").write_text(f"{usage}\n", encoding="ascii")


def source_of(folder: Path) -> EmulatedSource:
    instants = iter(range(10, 100))
    return EmulatedSource(folder, name="emulated EPC node", monotonic_s=lambda: float(next(instants)))


class TestCounting:
    """Faults are pages that came back; those and what is out were evicted."""

    def test_a_recorded_group_is_counted(self, tmp_path: Path) -> None:
        record(tmp_path, faults=30, pages_out=5)
        source = source_of(tmp_path)
        assert (source.kind, source.name) == (Kind.EMULATED, "emulated EPC node")
        assert source.count() == Counts(
            taken_at_s=10,
            capacity_bytes=64 * PAGE,
            resident_bytes=20 * PAGE,
            evicted_bytes=5 * PAGE,
            page_ins=30,
            page_outs=35,
            confidence=Confidence.COUNTED,
        )
        source.close()

    def test_evictions_never_run_backwards(self, tmp_path: Path) -> None:
        """A program that ends frees what is out: nothing was evicted by that."""
        record(tmp_path, faults=30, pages_out=50)
        source = source_of(tmp_path)
        before = source.count()
        record(tmp_path, faults=31, pages_out=0)
        ended = source.count()
        record(tmp_path, faults=41, pages_out=10)
        reading = compare(source, ended, source.count())
        source.close()

        assert ended.page_outs == before.page_outs == 80
        assert (reading.page_ins_per_s, reading.page_outs_per_s) == (10, 20)

    def test_no_limit_is_no_capacity(self, tmp_path: Path) -> None:
        record(tmp_path, faults=0, pages_out=0, limit=9223372036854771712)
        source = source_of(tmp_path)
        assert source.count().capacity_bytes is None
        source.close()


class TestAbsence:
    """What is not there is unavailable, and nothing stays open."""

    def test_a_group_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(UnavailableError, match="emulated EPC node: No such file"):
            source_of(tmp_path)

    def test_a_closed_source_counts_nothing(self, tmp_path: Path) -> None:
        record(tmp_path, faults=0, pages_out=0)
        source = source_of(tmp_path)
        source.close()
        source.close()
        with pytest.raises(UnavailableError, match="emulated EPC node: it is down"):
            source.count()

    @pytest.mark.parametrize(
        ("text", "missing"),
        [
            (b"", "total_pgmajfault, total_swap, hierarchical_memory_limit"),
            (b"total_pgmajfault x\ntotal_swap 1\nhierarchical_memory_limit 1\n", "total_pgmajfault"),
            (b"\xff\ntotal_pgmajfault 1\nhierarchical_memory_limit 1\n", "total_swap"),
        ],
    )
    def test_a_kernel_that_does_not_count_swap(self, text: bytes, missing: str) -> None:
        with pytest.raises(UnavailableError, match=f"memory.stat: expected {missing}"):
            parse_stat(text)
