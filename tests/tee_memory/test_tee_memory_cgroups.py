"""Memory figures of groups, of both versions; servers that are groups."""

from pathlib import Path

import pytest

from s3ml.primitives.errors import UnavailableError
from s3ml.tee_memory import Confidence, Counts, Kind
from s3ml.tee_memory.cgroups import CgroupServers, Group
from s3ml.tee_memory.cvm import GroupSource
from s3ml.tee_memory.sgx import PodSource
from s3ml.tee_memory.sgx.pod import FaultBaseline
from tests.clocks import FakeClock

# Recorded on Linux 6.1 in a virtual machine, less the lines that nothing is read of; figures changed.
STAT_V2 = "anon 4096\nfile 8192\nkernel 4096\nshmem 65536\npgfault 96\npgmajfault 3\nthp_fault_alloc 0\n"
# Written after Documentation/admin-guide/cgroup-v1/memory.rst and compared with Linux 6.18.
STAT_V1 = (
    "cache 1\nshmem 3\nswap 4\npgfault 5\npgmajfault 6\nhierarchical_memory_limit 9223372036854771712\n"
    "total_cache 10\ntotal_shmem 65536\ntotal_swap 8192\ntotal_pgfault 96\ntotal_pgmajfault 3\n"
)


def make_v2(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "memory.stat").write_text(STAT_V2)
    (folder / "memory.current").write_text("24576\n")
    (folder / "memory.max").write_text("max\n")
    (folder / "memory.swap.current").write_text("8192\n")
    (folder / "memory.pressure").write_text(
        "some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\nfull avg10=0.00 total=0\n"
    )
    return folder


def make_v1(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "memory.stat").write_text(STAT_V1)
    (folder / "memory.usage_in_bytes").write_text("24576\n")
    (folder / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    return folder


class TestUsage:
    """Both versions say the same."""

    def test_they_agree(self, tmp_path: Path) -> None:
        first, second = Group(make_v1(tmp_path / "v1")).read(), Group(make_v2(tmp_path / "v2")).read()

        assert first == second
        assert (first.shmem_bytes, first.faults, first.major_faults) == (65536, 96, 3)
        assert (first.used_bytes, first.limit_bytes, first.swapped_bytes) == (24576, None, 8192)

    @pytest.mark.parametrize(("make", "file"), [(make_v1, "memory.limit_in_bytes"), (make_v2, "memory.max")])
    def test_a_limit(self, tmp_path: Path, make: type, file: str) -> None:
        folder = make(tmp_path / "group")
        (folder / file).write_text("67108864\n")

        assert Group(folder).read().limit_bytes == 67108864

    @pytest.mark.parametrize("lacking", ["shmem", "pgfault", "pgmajfault"])
    def test_a_stat_without_what_is_needed(self, tmp_path: Path, lacking: str) -> None:
        folder = make_v2(tmp_path / "group")
        lines = [line for line in STAT_V2.splitlines() if not line.startswith(f"{lacking} ")]
        (folder / "memory.stat").write_text("\n".join(lines))

        with pytest.raises(UnavailableError, match="expected shmem, pgfault and pgmajfault"):
            Group(folder).read()

    @pytest.mark.parametrize(
        "data", [b"", b"\xff\xfe", b"shmem many\npgfault\n", b"shmem -1\npgfault 1\npgmajfault 1"]
    )
    def test_a_malformed_stat(self, tmp_path: Path, data: bytes) -> None:
        folder = make_v2(tmp_path / "group")
        (folder / "memory.stat").write_bytes(data)

        with pytest.raises(UnavailableError):
            Group(folder).read()

    @pytest.mark.parametrize("file", ["memory.current", "memory.max", "memory.swap.current"])
    def test_what_else_is_missing_or_malformed_is_not_known(self, tmp_path: Path, file: str) -> None:
        folder = make_v2(tmp_path / "group")
        (folder / file).write_text("what\n")
        Group(folder).read()
        (folder / file).unlink()

        assert Group(folder).read().faults == 96

    def test_a_group_that_is_gone(self, tmp_path: Path) -> None:
        with pytest.raises(UnavailableError, match="gone"):
            Group(tmp_path / "gone").read()


class TestServers:
    """Groups by name, and all groups of a folder."""

    @staticmethod
    def make(named: dict[str, Path], *parents: Path) -> CgroupServers:
        clock = FakeClock()
        return CgroupServers(named, parents, lambda name, folder: PodSource(name, folder, clock))

    def test_they_are_there_while_their_folders_are(self, tmp_path: Path) -> None:
        servers = self.make({"a": tmp_path / "pod"})
        assert servers.names() == []
        make_v2(tmp_path / "pod")

        assert servers.names() == ["a"]
        assert servers.source("a").count().evicted_bytes == 65536

    def test_children_are_servers(self, tmp_path: Path) -> None:
        for name in ("pod1", "pod2", "a name that none may have"):
            make_v2(tmp_path / name)
        (tmp_path / "memory.stat").write_text(STAT_V2)

        assert sorted(self.make({}, tmp_path).names()) == ["pod1", "pod2"]

    def test_a_name_goes_before_a_child(self, tmp_path: Path) -> None:
        make_v2(tmp_path / "children" / "a")
        make_v1(tmp_path / "own")
        (tmp_path / "own" / "memory.stat").write_text(STAT_V1.replace("total_shmem 65536", "total_shmem 7"))
        servers = self.make({"a": tmp_path / "own"}, tmp_path / "children")

        assert servers.source("a").count().evicted_bytes == 7

    def test_one_that_went(self, tmp_path: Path) -> None:
        with pytest.raises(UnavailableError, match="its group is gone"):
            self.make({"a": tmp_path / "pod"}).source("a")

    def test_a_folder_that_is_gone(self, tmp_path: Path) -> None:
        with pytest.raises(UnavailableError, match="missing"):
            self.make({}, tmp_path / "missing").names()


class TestGroupOfConfidentialMachine:
    """One server's share of a confidential machine's memory."""

    def test_version_2_has_pressure(self, tmp_path: Path) -> None:
        source = GroupSource("a", make_v2(tmp_path / "a"), clock := FakeClock())

        assert source.count() == Counts(
            taken_at_s=clock.seconds,
            resident_bytes=24576,
            evicted_bytes=8192,
            page_ins=3,
            stalled_s=1.5,
            confidence=Confidence.INFERRED,
        )
        assert (source.kind, source.name) == (Kind.CVM, "memory of a")

    def test_version_1_has_none(self, tmp_path: Path) -> None:
        assert GroupSource("a", make_v1(tmp_path / "a"), FakeClock()).count().stalled_s is None


class TestInference:
    """Faults beyond the ordinary ones are taken for page-ins, while something is evicted."""

    def test_without_eviction_there_are_no_page_ins(self) -> None:
        baseline = FaultBaseline()

        assert [baseline.observe(second, 1000 * second, 0) for second in range(3)] == [(0, 0)] * 3

    def test_ordinary_faults_are_taken_off(self) -> None:
        baseline = FaultBaseline()
        baseline.observe(0, 0, 0)
        baseline.observe(1, 100, 0)
        baseline.observe(2, 200, 4096 * 50)
        page_ins, page_outs = baseline.observe(4, 200 + 2 * 100 + 70, 4096 * 50)

        assert (page_ins, page_outs) == (70, 120)

    def test_what_is_evicted_and_not_touched_went_out_alone(self) -> None:
        baseline = FaultBaseline()
        baseline.observe(0, 10, 0)

        assert baseline.observe(1, 10, 4096 * 8) == (0, 8)

    def test_without_a_baseline_every_fault_counts(self) -> None:
        baseline = FaultBaseline()
        baseline.observe(0, 1000, 4096)

        assert baseline.observe(1, 1025, 4096) == (25, 25)

    def test_they_never_go_back(self) -> None:
        baseline = FaultBaseline()
        baseline.observe(0, 0, 0)
        baseline.observe(1, 1000, 0)
        seen = [baseline.observe(2 + step, 1000 + step, 4096 * (step % 3)) for step in range(20)]

        assert seen == sorted(seen)

    def test_the_baseline_follows_slowly(self) -> None:
        baseline = FaultBaseline()
        for second, faults in enumerate((0, 100, 600)):
            baseline.observe(second, faults, 0)
        baseline.observe(3, 600, 4096)

        # A fifth of the way from 100 to 500 a second.
        assert baseline.observe(4, 600 + 180 + 5, 4096)[0] == 5

    @pytest.mark.parametrize(("at_s", "faults"), [(1.0, 5), (0.0, 50), (-1.0, 50)])
    def test_a_count_or_a_clock_that_begins_anew_adds_nothing(self, at_s: float, faults: int) -> None:
        baseline = FaultBaseline()
        baseline.observe(0, 10, 4096)

        assert baseline.observe(at_s, faults, 4096) == (0, 0)
