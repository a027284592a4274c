"""The machine as the emulation sees it: where its files are, and what of it is missing.

Everything lies below one root, so that detection is tested on recorded trees. Nothing here changes anything.

Source: cgroups(7) and Documentation/admin-guide/cgroup-v1/memory.rst (version 1, the memory controller);
Documentation/admin-guide/blockdev/zram.rst.
"""

import contextlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from s3ml.primitives.errors import ConfigurationError, UnavailableError
from s3ml.primitives.units import KIB

_GROUP_FILES = (
    "cgroup.event_control",
    "memory.limit_in_bytes",
    "memory.oom_control",
    "memory.stat",
    "memory.swappiness",
)
PROGRAMS = ("mkswap", "swapon", "swapoff")
PROGRAM_PATH = "/usr/sbin:/sbin:/usr/bin:/bin"
_CAP_SYS_ADMIN = 21


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Where the kernel's files are.

    Args:
        root: Above ``proc``, ``sys`` and ``dev``; another one in tests.
    """

    root: Path = Path("/")

    def read(self, path: str) -> str:
        """Return a file of the kernel's as text, without the line's end.

        Raises:
            UnavailableError: it cannot be read.
        """
        try:
            return (self.root / path).read_text(encoding="utf-8", errors="replace").strip()
        except OSError as error:
            raise UnavailableError(f"emulated EPC: /{path}: {error.strerror}") from error

    def write(self, path: str, value: object) -> None:
        """Write a setting of the kernel's, in one call, as the kernel wants it.

        Raises:
            UnavailableError: the kernel refuses.
        """
        try:
            write_setting(self.root / path, value)
        except OSError as error:
            raise UnavailableError(
                f"emulated EPC: /{path}: {error.strerror}, while {str(value)!r} was written"
            ) from error

    @property
    def boot_id(self) -> str:
        """Which run of the kernel this is: settings of an earlier one are gone."""
        return self.read("proc/sys/kernel/random/boot_id")

    @property
    def memory_bytes(self) -> int:
        """The machine's memory.

        Raises:
            UnavailableError: the kernel does not tell.
        """
        for line in self.read("proc/meminfo").splitlines():
            name, _, value = line.partition(":")
            if name == "MemTotal" and (number := value.strip().removesuffix(" kB")).isdecimal():
                return int(number) * KIB
        raise UnavailableError("emulated EPC: /proc/meminfo: expected a line MemTotal")

    def controller(self) -> Path | None:
        """Return where version 1 of the memory controller is mounted, or nothing where it is not.

        Raises:
            UnavailableError: the kernel does not list its mounts.
        """
        for line in self.read("proc/self/mountinfo").splitlines():
            mount, _, kind = line.partition(" - ")
            fields, sort = mount.split(), kind.split()
            if len(fields) > 4 and len(sort) > 2 and sort[0] == "cgroup" and "memory" in sort[2].split(","):  # noqa: PLR2004 - fields of mountinfo
                return self.root / fields[4].lstrip("/")
        return None


def write_setting(path: Path, value: object) -> None:
    """Write `value` in one call.

    Raises:
        OSError: the kernel refuses; ``EBUSY`` where it may not later.
    """
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, str(value).encode())
    finally:
        os.close(descriptor)


def find_lacks(
    host: Host,
    *,
    is_root: bool,
    find_program: Callable[[str], str | None] = lambda name: shutil.which(name, path=PROGRAM_PATH),
) -> tuple[str, ...]:
    """Return what this machine lacks for an emulated EPC, in a few words each; nothing where it can.

    Args:
        host: The machine.
        is_root: Whether this process is root's.
        find_program: Where a program is, or None.
    """
    lacks = []
    if not is_root:
        lacks.append("root")
    elif not _may_administer(host):
        lacks.append("the capability CAP_SYS_ADMIN")
    controller = host.controller()
    if controller is None:
        lacks.append("the memory controller of cgroup version 1")
    elif absent := [name for name in _GROUP_FILES if not _is_there(controller, name)]:
        lacks.append(f"{', '.join(absent)} in {controller}")
    elif not os.access(controller, os.W_OK):
        lacks.append(f"a {controller} that can be written")
    hot_add, devices = host.root / "sys/class/zram-control/hot_add", list_devices(host)
    if not (devices or hot_add.exists()):
        lacks.append("zram in the kernel")
    elif is_root and devices and not os.access(_settings_of(host, devices[0]), os.W_OK):
        lacks.append("zram whose settings can be written")
    lacks.extend(name for name in PROGRAMS if find_program(name) is None)
    return tuple(lacks)


def check_host(host: Host) -> None:
    """Check that this process can emulate an EPC on this machine.

    Raises:
        ConfigurationError: it cannot; all that is missing is named in one line.
    """
    if lacks := find_lacks(host, is_root=os.geteuid() == 0):
        raise ConfigurationError(f"emulated EPC: this machine lacks {'; '.join(lacks)}")


def list_devices(host: Host) -> tuple[int, ...]:
    """Return the numbers of the zram devices that there are."""
    names = (path.name.removeprefix("zram") for path in (host.root / "sys/block").glob("zram*"))
    return tuple(sorted(int(name) for name in names if name.isdecimal()))


def _may_administer(host: Host) -> bool:
    """Tell whether this process may swap; yes where the kernel does not say."""
    with contextlib.suppress(UnavailableError):
        for line in host.read("proc/self/status").splitlines():
            if line.startswith("CapEff:"):
                return bool(int(line.partition(":")[2], 16) >> _CAP_SYS_ADMIN & 1)
    return True


def _settings_of(host: Host, device: int) -> Path:
    return host.root / f"sys/block/zram{device}/disksize"


def _is_there(controller: Path, name: str) -> bool:
    """Tell whether groups have a file; the controller's own folder lacks what its groups have."""
    if name in ("memory.oom_control", "memory.swappiness", "memory.limit_in_bytes"):
        return (controller / name).exists() or any(controller.glob(f"*/{name}"))
    return (controller / name).exists()
