"""Which TEE memory a machine has: what is asked for, or the first that is there."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from s3ml.primitives.errors import ConfigurationError, UnavailableError
from s3ml.tee_memory import Confidence, Kind, Sampler
from s3ml.tee_memory.emulated.group import PARENT
from s3ml.tee_memory.finding import Found, Wishes, find
from s3ml.tee_memory.sgx import epc_bytes
from tests.clocks import FakeClock
from tests.tee_memory.tracefs_world import KALLSYMS_DEBIAN, make_tracefs, untouched

GIB = 2**30


def make_sgx(root: Path, *, profile: bool = True) -> Path:
    """Make the files of a machine with SGX, as its kernel's documents have them; no kernel behind them."""
    for node, size in enumerate((GIB, 2 * GIB)):
        folder = root / f"sys/devices/system/node/node{node}/x86"
        folder.mkdir(parents=True)
        (folder / "sgx_total_bytes").write_text(f"{size}\n")
    make_tracefs(root / "sys/kernel/tracing", kprobes=False, profile=profile)
    (root / "proc").mkdir()
    (root / "proc/kallsyms").write_text(KALLSYMS_DEBIAN)
    return root


def make_cvm(root: Path) -> Path:
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/meminfo").write_text("MemTotal: 2 kB\nMemAvailable: 1 kB\n")
    (root / "dev").mkdir()
    (root / "dev/tdx_guest").touch()
    return root


def tokens() -> Callable[[], str]:
    numbers = itertools.count()
    return lambda: f"t{next(numbers)}"


def look(root: Path, source: str, **more: object) -> Found:
    return find(Wishes(source=source, root=root, **more), FakeClock(), token=tokens())  # type: ignore[arg-type]


class TestSgx:
    """The EPC of a machine."""

    @pytest.mark.parametrize("word", ["sgx", "auto"])
    def test_it_is_found_and_counted(self, tmp_path: Path, word: str) -> None:
        found = look(make_sgx(tmp_path), word)
        counts = found.source.count()
        found.source.close()

        assert (counts.capacity_bytes, counts.page_ins, counts.confidence) == (
            3 * GIB,
            0,
            Confidence.INFERRED,
        )
        assert (found.source.kind, found.warning) == (Kind.SGX, None)

    def test_where_nothing_can_be_counted_it_is_blind_and_says_why(self, tmp_path: Path) -> None:
        found = look(make_sgx(tmp_path, profile=False), "sgx")
        counts = found.source.count()

        assert (counts.page_ins, counts.confidence) == (None, Confidence.BLIND)
        assert found.source.name == "EPC size alone"
        assert "not in this kernel" in str(found.warning)

    @pytest.mark.parametrize("missing", ["proc/kallsyms", "sys/kernel/tracing/current_tracer"])
    def test_a_file_that_is_missing_blinds_it(self, tmp_path: Path, missing: str) -> None:
        (make_sgx(tmp_path) / missing).unlink()

        assert look(tmp_path, "sgx").source.count().confidence is Confidence.BLIND
        assert untouched(tmp_path / "sys/kernel/tracing")

    def test_without_tracefs_it_is_blind(self, tmp_path: Path) -> None:
        (make_sgx(tmp_path) / "sys/kernel/tracing").rename(tmp_path / "elsewhere")

        assert "mount -t tracefs" in str(look(tmp_path, "sgx").warning)

    def test_servers_are_groups(self, tmp_path: Path) -> None:
        folder = tmp_path / "groups/pod"
        folder.mkdir(parents=True)
        (folder / "memory.stat").write_text("shmem 4096\npgfault 1\npgmajfault 0\n")
        found = look(make_sgx(tmp_path), "sgx", named={"a": folder}, parents=(tmp_path / "groups",))

        assert sorted(found.servers.names()) == ["a", "pod"]
        assert found.servers.source("a").count().confidence is Confidence.INFERRED

    def test_a_blind_nodes_paging_is_that_of_its_servers(self, tmp_path: Path) -> None:
        folder = tmp_path / "pod"
        folder.mkdir()
        stat, clock = folder / "memory.stat", FakeClock()
        wishes = Wishes(source="sgx", root=make_sgx(tmp_path, profile=False), named={"a": folder})
        found = find(wishes, clock, token=tokens())
        sampler = Sampler("n1", found.source, clock, interval_s=1.0, servers=found.servers)
        for faults in (100, 350):
            stat.write_text(f"shmem 8192\npgfault {faults}\npgmajfault 0\n")
            clock.advance(1.0)
            sampler.sample()
        reading = sampler.newest.reading

        assert reading is not None
        assert (reading.page_ins_per_s, reading.evicted_bytes) == (250, 8192)
        assert reading.confidence is Confidence.INFERRED

    def test_a_machine_without_one(self, tmp_path: Path) -> None:
        with pytest.raises(UnavailableError, match="no EPC"):
            look(tmp_path, "sgx")

    @pytest.mark.parametrize("text", ["", "lots", "-5"])
    def test_a_size_that_is_none(self, tmp_path: Path, text: str) -> None:
        (make_sgx(tmp_path) / "sys/devices/system/node/node1/x86/sgx_total_bytes").write_text(text)

        with pytest.raises(UnavailableError, match="expected a number"):
            epc_bytes(tmp_path)

    def test_sizes_of_zero_are_none(self, tmp_path: Path) -> None:
        for path in make_sgx(tmp_path).glob("sys/devices/system/node/*/x86/sgx_total_bytes"):
            path.write_text("0\n")

        with pytest.raises(UnavailableError, match="no EPC"):
            look(tmp_path, "sgx")


class TestOthers:
    """Confidential machines, and what is asked for by name."""

    @pytest.mark.parametrize("word", ["cvm", "auto"])
    def test_a_confidential_machine_is_found(self, tmp_path: Path, word: str) -> None:
        assert look(make_cvm(tmp_path), word).source.kind is Kind.CVM

    def test_an_epc_comes_first(self, tmp_path: Path) -> None:
        found = look(make_cvm(make_sgx(tmp_path)), "auto")
        found.source.close()

        assert found.source.kind is Kind.SGX

    def test_servers_of_a_confidential_machine_are_groups(self, tmp_path: Path) -> None:
        folder = tmp_path / "pod"
        folder.mkdir()
        (folder / "memory.stat").write_text("shmem 4096\npgfault 1\npgmajfault 9\n")
        found = look(make_cvm(tmp_path), "cvm", named={"a": folder})

        assert found.servers.source("a").count().page_ins == 9

    def test_nothing_is_simulated_unasked(self, tmp_path: Path) -> None:
        with pytest.raises(UnavailableError, match=r"no EPC: .*; no confidential machine: .*simulated"):
            look(tmp_path, "auto")

    def test_a_simulated_one(self, tmp_path: Path) -> None:
        found = look(tmp_path, "simulated")

        assert (found.source.kind, list(found.servers.names())) == (Kind.SIMULATED, ["demonstration"])
        assert found.servers.source("demonstration").count().page_ins is not None

    @pytest.mark.parametrize("word", ["", "Sgx", "emulated", "tdx", "x" * 500])
    def test_a_word_that_is_none(self, tmp_path: Path, word: str) -> None:
        with pytest.raises(
            ConfigurationError, match="--source: expected auto, sgx, cvm, simulated or emulated"
        ):
            look(tmp_path, word)

    @pytest.mark.parametrize("name", ["", "A", "a/b", "../x"])
    def test_an_emulated_node_has_a_name(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(ConfigurationError, match="node: expected"):
            look(tmp_path, f"emulated:{name}")

    @pytest.mark.parametrize("word", ["simulated", "emulated:n1"])
    def test_groups_are_for_real_ones(self, tmp_path: Path, word: str) -> None:
        with pytest.raises(ConfigurationError, match="--server: expected with --source sgx or cvm"):
            look(tmp_path, word, named={"a": tmp_path})


def make_group(folder: Path, page_ins: int) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "memory.usage_in_bytes").write_text("8192\n")
    (folder / "memory.stat").write_text(
        f"total_pgmajfault {page_ins}\ntotal_swap 4096\nhierarchical_memory_limit 16777216\n"
    )


class TestEmulated:
    """A node of `s3ml epc-emulate`, by its name; here its groups are folders."""

    @pytest.fixture
    def node(self, tmp_path: Path) -> Path:
        (tmp_path / "proc/self").mkdir(parents=True)
        mounted = "30 24 0:26 / /memory rw - cgroup cgroup rw,memory\n"
        (tmp_path / "proc/self/mountinfo").write_text(mounted)
        folder = tmp_path / "memory" / PARENT / "n1"
        folder.mkdir(parents=True)
        make_group(folder, 7)
        make_group(folder / "a", 3)
        return folder

    def sampler(self, root: Path) -> Sampler:
        clock = FakeClock()
        found = find(Wishes(source="emulated:n1", root=root), clock)
        return Sampler("vm", found.source, clock, interval_s=1.0, servers=found.servers)

    def test_it_and_its_servers_are_counted(self, tmp_path: Path, node: Path) -> None:
        sampler = self.sampler(tmp_path)
        sampler.sample()
        counts, attributed = sampler.newest.counts, sampler.attributed["a"].counts
        readings = sampler.readings()
        sampler.close()

        assert counts is not None
        assert attributed is not None
        assert (counts.page_ins, attributed.page_ins) == (7, 3)
        assert (readings.kind, readings.is_emulated, readings.error) == (Kind.EMULATED, True, None)

    def test_one_that_is_not_up(self, tmp_path: Path, node: Path) -> None:
        with pytest.raises(ConfigurationError, match="n2 is not up"):
            look(tmp_path, "emulated:n2")

    def test_one_that_goes_down_grows_old_and_comes_back(self, tmp_path: Path, node: Path) -> None:
        sampler = self.sampler(tmp_path)
        sampler.sample()
        sampler.source.close()  # as if the kernel had taken its files away
        node.rename(tmp_path / "down")
        sampler.sample()
        failed = sampler.error
        (tmp_path / "down").rename(node)
        sampler.sample()
        sampler.close()

        assert "n1 is not up" in str(failed)
        assert (sampler.error, sampler.sample_count) == (None, 2)
