"""Confidential machines and their hosts, on trees that are written after the kernel's documents."""

from pathlib import Path

import pytest

from s3ml.primitives.errors import UnavailableError
from s3ml.tee_memory import Confidence, Counts, Kind
from s3ml.tee_memory.cvm import (
    CvmSource,
    Guests,
    describe_cvm,
    open_cvm,
    read_guests,
    read_stalled,
)
from tests.clocks import FakeClock

# Recorded on Linux 6.1 in a virtual machine, less the lines that nothing is read of; swap added.
MEMINFO = (
    "MemTotal:         868640 kB\nMemFree:          700432 kB\nMemAvailable:     641516 kB\n"
    "SwapTotal:          4096 kB\nSwapFree:           1024 kB\nHugePages_Total:       0\n"
)
PRESSURE = (
    "some avg10=0.12 avg60=0.00 avg300=0.00 total=1589897\n"
    "full avg10=0.00 avg60=0.00 avg300=0.00 total=975077\n"
)
FILES = {
    "proc/meminfo": MEMINFO,
    "proc/vmstat": "nr_free_pages 1\npswpin 30\npswpout 40\n",
    "proc/pressure/memory": PRESSURE,
    "proc/cpuinfo": "processor\t: 0\nflags\t\t: fpu tdx_guest lm\n",
}


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


class TestGuest:
    """A confidential machine by itself."""

    def test_its_figures(self, machine: Path) -> None:
        source = open_cvm(machine, clock := FakeClock())

        assert source.count() == Counts(
            taken_at_s=clock.seconds,
            capacity_bytes=868640 * 1024,
            resident_bytes=(868640 - 641516) * 1024,
            evicted_bytes=3072 * 1024,
            page_ins=30,
            page_outs=40,
            stalled_s=1.589897,
        )
        assert (source.kind, source.name) == (Kind.CVM, "memory of a confidential machine")

    @pytest.mark.parametrize("device", ["tdx_guest", "sev-guest"])
    def test_a_device_shows_it(self, machine: Path, device: str) -> None:
        (machine / "proc/cpuinfo").unlink()
        assert describe_cvm(machine) is None
        (machine / "dev").mkdir()
        (machine / "dev" / device).touch()

        assert describe_cvm(machine) == "memory of a confidential machine"

    def test_an_ordinary_machine_is_none(self, machine: Path) -> None:
        (machine / "proc/cpuinfo").write_text("flags\t\t: fpu lm\n")

        with pytest.raises(UnavailableError, match="no confidential machine"):
            open_cvm(machine, FakeClock())


class TestHost:
    """A host of confidential machines tells how many there are."""

    def test_capacity_and_running(self, machine: Path) -> None:
        folder = machine / "sys/fs/cgroup"
        folder.mkdir(parents=True)
        (folder / "misc.capacity").write_text("sev 10\nsev_es 99\ntdx 0\n")
        (folder / "misc.current").write_text("sev 1\nsev_es 4\ntdx 7\n")

        assert read_guests(machine) == Guests(running=5, capacity=109)
        assert CvmSource(machine, "host", FakeClock()).count().guests == 5

    def test_running_is_the_children_where_the_root_has_none(self, machine: Path) -> None:
        folder = machine / "sys/fs/cgroup"
        for child, running in (("a", 2), ("b", 3)):
            (folder / child).mkdir(parents=True)
            (folder / child / "misc.current").write_text(f"tdx {running}\n")
        (folder / "misc.capacity").write_text("tdx 31\n")

        assert read_guests(machine) == Guests(running=5, capacity=31)

    def test_running_may_be_unknown(self, machine: Path) -> None:
        folder = machine / "sys/fs/cgroup/misc"
        folder.mkdir(parents=True)
        (folder / "misc.capacity").write_text("sev 15\n")
        (machine / "proc/cpuinfo").unlink()

        assert read_guests(machine) == Guests(running=None, capacity=15)
        assert describe_cvm(machine) == "memory of a host of confidential machines"

    @pytest.mark.parametrize("text", ["", "sev 0\n", "rdma 5\n", "sev max\n", "\xff"])
    def test_any_other_machine_has_none(self, machine: Path, text: str) -> None:
        folder = machine / "sys/fs/cgroup"
        folder.mkdir(parents=True)
        (folder / "misc.capacity").write_text(text)

        assert read_guests(machine) is None


class TestEveryFile:
    """Whatever is missing or malformed: a documented error, or less is known."""

    @pytest.mark.parametrize(
        "text", ["", "MemTotal: 1 kB\n", "MemAvailable: 1 kB\n", "MemTotal: x kB\n", "\x00" * 9]
    )
    def test_meminfo_is_needed(self, machine: Path, text: str) -> None:
        (machine / "proc/meminfo").write_text(text)

        with pytest.raises(UnavailableError, match="meminfo: expected"):
            open_cvm(machine, FakeClock())

    def test_meminfo_is_missing(self, machine: Path) -> None:
        (machine / "proc/meminfo").unlink()

        with pytest.raises(UnavailableError, match="meminfo"):
            open_cvm(machine, FakeClock())

    @pytest.mark.parametrize("text", [None, "", "nr_free_pages 1\n", "pswpin x\n"])
    def test_without_counts_of_swap_it_is_blind(self, machine: Path, text: str | None) -> None:
        (machine / "proc/vmstat").unlink()
        if text is not None:
            (machine / "proc/vmstat").write_text(text)
        counts = open_cvm(machine, FakeClock()).count()

        assert (counts.page_ins, counts.confidence) == (None, Confidence.BLIND)

    @pytest.mark.parametrize(
        "text",
        [None, "", "some\n", "some total=x\n", "full total=5\n", "some avg10=0.00\n", "some total=-1\n"],
    )
    def test_without_pressure_it_is_not_known(self, machine: Path, text: str | None) -> None:
        path = machine / "proc/pressure/memory"
        path.unlink()
        if text is not None:
            path.write_text(text)

        assert read_stalled(path) is None

    def test_more_available_than_there_is(self, machine: Path) -> None:
        (machine / "proc/meminfo").write_text(
            "MemTotal: 1 kB\nMemAvailable: 2 kB\nSwapTotal: 1\nSwapFree: 2\n"
        )
        counts = open_cvm(machine, FakeClock()).count()

        assert (counts.resident_bytes, counts.evicted_bytes) == (0, 0)
