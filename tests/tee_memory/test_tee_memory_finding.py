"""Which TEE memory a machine has: what is asked for, or the first that is there."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from s3ml.primitives.errors import ConfigurationError, UnavailableError
from s3ml.tee_memory import Confidence, Kind
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
