"""What a machine has and lacks for an emulated EPC, on recorded trees; nothing here needs root."""

import errno
import os
from pathlib import Path

import pytest

from s3ml.primitives.errors import ConfigurationError, UnavailableError
from s3ml.tee_memory.emulated import host as host_module
from s3ml.tee_memory.emulated.host import Host, check_host, find_lacks, list_devices
from s3ml.tee_memory.emulated.swap import add_device, chosen_algorithm, plan_swap, stop_swap, swap_devices

MOUNTS_V1 = """\
22 27 0:21 / /proc rw,nosuid - proc proc rw
33 31 0:30 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:7 - cgroup cgroup rw,memory
42 31 0:39 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
MOUNTS_V2 = "25 20 0:23 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"
SWAPS = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
GROUP_FILES = (
    "cgroup.event_control",
    "memory.limit_in_bytes",
    "memory.oom_control",
    "memory.stat",
    "memory.swappiness",
)


def write(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def device(
    root: Path, number: int, *, size: str = "0", algorithms: str = "[lzo-rle] lzo lz4", state: str = "0"
) -> None:
    for name, text in (("disksize", size), ("comp_algorithm", algorithms), ("initstate", state)):
        write(root, f"sys/block/zram{number}/{name}", f"{text}\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine that has everything."""
    write(tmp_path, "proc/self/mountinfo", MOUNTS_V1)
    write(tmp_path, "proc/swaps", SWAPS)
    write(tmp_path, "proc/meminfo", "MemTotal:       24731712 kB\nMemFree:        1 kB\n")
    write(tmp_path, "proc/sys/vm/page-cluster", "3\n")
    write(tmp_path, "proc/sys/kernel/random/boot_id", "0b5e\n")
    for name in GROUP_FILES:
        write(tmp_path, f"sys/fs/cgroup/memory/{name}", "")
    device(tmp_path, 0)
    return tmp_path


def lacks(root: Path, *, is_root: bool = True, absent: str = "") -> tuple[str, ...]:
    return find_lacks(
        Host(root=root),
        is_root=is_root,
        find_program=lambda name: None if name == absent else f"/sbin/{name}",
    )


class TestLacks:
    """All that is missing is named, each in a few words."""

    def test_a_machine_that_has_everything_lacks_nothing(self, root: Path) -> None:
        assert lacks(root) == ()

    def test_root_is_needed(self, root: Path) -> None:
        assert lacks(root, is_root=False) == ("root",)

    def test_version_2_alone_will_not_do(self, root: Path) -> None:
        write(root, "proc/self/mountinfo", MOUNTS_V2)
        assert lacks(root) == ("the memory controller of cgroup version 1",)

    def test_files_of_groups_are_looked_for(self, root: Path) -> None:
        (root / "sys/fs/cgroup/memory/memory.oom_control").unlink()
        assert lacks(root) == (f"memory.oom_control in {root}/sys/fs/cgroup/memory",)

    def test_a_controller_whose_groups_alone_have_them_will_do(self, root: Path) -> None:
        (root / "sys/fs/cgroup/memory/memory.oom_control").unlink()
        write(root, "sys/fs/cgroup/memory/system/memory.oom_control", "")
        assert lacks(root) == ()

    def test_zram_is_needed(self, root: Path) -> None:
        for file in (root / "sys/block/zram0").iterdir():
            file.unlink()
        (root / "sys/block/zram0").rmdir()
        assert lacks(root) == ("zram in the kernel",)
        write(root, "sys/class/zram-control/hot_add", "0\n")
        assert lacks(root) == ()

    @pytest.mark.parametrize(
        ("line", "told"),
        [
            ("CapEff:\t000001ffffffffff", ()),
            ("CapEff:\t00000000a80425fb", ("the capability CAP_SYS_ADMIN",)),
            ("Name:\tpython", ()),
        ],
    )
    def test_a_root_that_may_not_swap_is_told(self, root: Path, line: str, told: tuple[str, ...]) -> None:
        write(root, "proc/self/status", f"{line}\n")
        assert lacks(root) == told

    def test_settings_that_cannot_be_written_are_told(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "access", lambda path, _mode: Path(path).name != "disksize")
        assert lacks(root) == ("zram whose settings can be written",)
        monkeypatch.setattr(os, "access", lambda path, _mode: Path(path).name == "disksize")
        assert lacks(root) == (f"a {root}/sys/fs/cgroup/memory that can be written",)

    def test_programs_are_needed(self, root: Path) -> None:
        assert lacks(root, absent="swapon") == ("swapon",)

    def test_all_of_it_is_one_line(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(host_module, "find_lacks", lambda *_, **__: ("root", "swapon"))
        with pytest.raises(ConfigurationError) as refused:
            check_host(Host(root=root))
        assert str(refused.value) == "emulated EPC: this machine lacks root; swapon"

    def test_a_machine_without_proc_is_unavailable(self, tmp_path: Path) -> None:
        with pytest.raises(UnavailableError, match="/proc/self/mountinfo: No such file"):
            lacks(tmp_path)


class TestFiles:
    """What the kernel says is read as it is."""

    def test_the_controller_is_where_it_is_mounted(self, root: Path) -> None:
        assert Host(root=root).controller() == root / "sys/fs/cgroup/memory"

    def test_memory_is_in_bytes(self, root: Path) -> None:
        assert Host(root=root).memory_bytes == 24731712 * 1024

    @pytest.mark.parametrize("text", ["", "MemFree: 1 kB\n", "MemTotal: much\n"])
    def test_memory_that_is_not_told_is_unavailable(self, root: Path, text: str) -> None:
        write(root, "proc/meminfo", text)
        with pytest.raises(UnavailableError, match="expected a line MemTotal"):
            _ = Host(root=root).memory_bytes

    def test_a_refused_setting_says_which_and_what(self, root: Path) -> None:
        with pytest.raises(UnavailableError, match=r"/proc/sys/vm/none: .*, while '0' was written"):
            Host(root=root).write("proc/sys/vm/none", 0)

    def test_devices_are_numbers(self, root: Path) -> None:
        device(root, 11)
        write(root, "sys/block/zramx/disksize", "0")
        assert list_devices(Host(root=root)) == (0, 11)

    def test_the_algorithm_is_the_marked_one(self, root: Path) -> None:
        assert chosen_algorithm(Host(root=root), 0) == "lzo-rle"
        device(root, 0, algorithms="lzo lz4")
        assert chosen_algorithm(Host(root=root), 0) is None

    def test_swap_is_told_by_file(self, root: Path) -> None:
        write(root, "proc/swaps", f"{SWAPS}/dev/zram0 partition\t8\t0\t32767\n/dev/vdb partition\t8\t0\t-2\n")
        assert swap_devices(Host(root=root)) == ("/dev/zram0", "/dev/vdb")


class TestPlan:
    """A device that nobody uses, or one more."""

    def test_a_free_device_is_taken_and_how_it_was_noted(self, root: Path) -> None:
        device(root, 0, size="4096")
        device(root, 1)
        plan = plan_swap(Host(root=root))
        assert (plan.device, plan.is_added, plan.algorithm_before, plan.devices_before) == (
            1,
            False,
            "lzo-rle",
            (0, 1),
        )

    def test_where_none_is_free_one_is_added(self, root: Path) -> None:
        device(root, 0, size="4096", state="1")
        write(root, "sys/class/zram-control/hot_add", "3\n")
        plan = plan_swap(Host(root=root))
        assert (plan.device, plan.is_added) == (None, True)
        device(root, 3)
        added = add_device(Host(root=root), plan)
        assert (added.device, added.algorithm_before, added.devices_before) == (3, "lzo-rle", (0,))

    def test_what_was_never_begun_restores_page_cluster_alone(self, root: Path) -> None:
        host = Host(root=root)
        plan = plan_swap(host)
        write(root, "proc/sys/vm/page-cluster", "0")
        stop_swap(host, plan, page_cluster_before=3)
        assert host.read("proc/sys/vm/page-cluster") == "3"
        assert host.read("sys/block/zram0/comp_algorithm") == "[lzo-rle] lzo lz4"

    def test_a_device_that_was_set_up_is_reset(self, root: Path) -> None:
        host = Host(root=root)
        plan = plan_swap(host)
        device(root, 0, size="4096", algorithms="lzo-rle lzo [lz4]", state="1")
        write(root, "sys/block/zram0/reset", "")
        stop_swap(host, plan, page_cluster_before=3)
        assert host.read("sys/block/zram0/reset") == "1"
        assert host.read("sys/block/zram0/comp_algorithm").startswith("lzo-rle")

    def test_a_device_that_was_added_is_removed_even_if_nobody_noted_it(self, root: Path) -> None:
        host = Host(root=root)
        device(root, 0, size="4096", state="1")
        plan = plan_swap(host)
        device(root, 1)
        write(root, "sys/class/zram-control/hot_remove", "")
        stop_swap(host, plan, page_cluster_before=3)
        assert host.read("sys/class/zram-control/hot_remove") == "1"

    def test_a_device_of_somebody_else_s_is_left_alone(self, root: Path) -> None:
        host = Host(root=root)
        device(root, 0, size="4096", state="1")
        plan = plan_swap(host)
        device(root, 1, size="8192", state="1")
        write(root, "sys/class/zram-control/hot_remove", "")
        stop_swap(host, plan, page_cluster_before=3)
        assert host.read("sys/class/zram-control/hot_remove") == ""


def test_a_setting_is_written_in_one_call(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel takes each write for a whole setting."""
    written: list[bytes] = []

    def refuse(_descriptor: int, data: bytes) -> int:
        written.append(data)
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(UnavailableError, match="Device or resource busy, while '12345678'"):
        Host(root=root).write("proc/sys/vm/page-cluster", 12345678)
    monkeypatch.undo()
    assert written == [b"12345678"]
