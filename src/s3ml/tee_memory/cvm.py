"""Confidential virtual machines (TDX, SEV-SNP): their memory is not paged by the host as an EPC is.

What shows is pressure: how long somebody waited for memory, what is in use, and what the machine's own swap
moves. A host of such machines has one more limit: how many of them its processors tell apart.

Source: Linux, Documentation/accounting/psi.rst, filesystems/proc.rst, admin-guide/cgroup-v2.rst (misc).
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from s3ml.primitives.clock import Clock
from s3ml.primitives.errors import UnavailableError
from s3ml.primitives.units import KIB, US_PER_S
from s3ml.tee_memory.cgroups import Group
from s3ml.tee_memory.kernel_files import is_figure, read_figures, read_kernel_file
from s3ml.tee_memory.reading import Confidence, Counts, Kind

_GUEST_DEVICES = ("dev/tdx_guest", "dev/sev-guest")
_GUEST_FLAGS = frozenset({"tdx_guest", "sev_snp"})
_GUEST_RESOURCES = ("tdx", "sev", "sev_es")
_MEMORY = ("MemTotal", "MemAvailable", "SwapTotal", "SwapFree")
_SWAP = ("pswpin", "pswpout")
_MISC_ROOT = "sys/fs/cgroup"
_CPU_BYTES = 16 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Guests:
    """The confidential machines of a host.

    Args:
        running: That there are now; None where the host does not tell.
        capacity: That there can be: each needs a key of the processor's own.
    """

    running: int | None
    capacity: int


class CvmSource:
    """Counts the memory pressure of a confidential machine, or of a host of such machines.

    Args:
        root: Where the machine's files begin.
        name: What is read, for people.
        clock: Monotonic.
    """

    def __init__(self, root: Path, name: str, clock: Clock) -> None:
        self._memory, self._swap, self._pressure = (
            str(root / place) for place in ("proc/meminfo", "proc/vmstat", "proc/pressure/memory")
        )
        self._guests_root = None if read_guests(root) is None else root
        self._name = name
        self._clock = clock

    @property
    def kind(self) -> Kind:
        """CVM."""
        return Kind.CVM

    @property
    def name(self) -> str:
        """What is read, for people."""
        return self._name

    def count(self) -> Counts:
        """Read the machine's figures.

        Raises:
            UnavailableError: ``/proc/meminfo`` cannot be read, or lacks what every kernel has.
        """
        memory = read_figures(self._memory, _MEMORY)
        missing = [name for name in _MEMORY[:2] if name not in memory]
        if missing:
            raise UnavailableError(f"{self._memory}: expected {', '.join(missing)}")
        swap = _figures(self._swap, _SWAP)
        total = memory["MemTotal"]
        guests = None if self._guests_root is None else read_guests(self._guests_root)
        return Counts(
            taken_at_s=self._clock.monotonic_s(),
            capacity_bytes=total * KIB,
            resident_bytes=max(0, total - memory["MemAvailable"]) * KIB,
            evicted_bytes=max(0, memory.get("SwapTotal", 0) - memory.get("SwapFree", 0)) * KIB,
            page_ins=swap.get("pswpin"),
            page_outs=swap.get("pswpout"),
            stalled_s=read_stalled(self._pressure),
            confidence=Confidence.COUNTED if "pswpin" in swap else Confidence.BLIND,
            guests=None if guests is None else guests.running,
            guests_capacity=None if guests is None else guests.capacity,
        )

    def close(self) -> None:
        """Do nothing: nothing was set up."""


class GroupSource:
    """Counts the memory pressure of one server in a confidential machine.

    Args:
        name: The server's.
        folder: Of its group.
        clock: Monotonic.
    """

    def __init__(self, name: str, folder: Path, clock: Clock) -> None:
        self._name = name
        self._group = Group(folder)
        self._pressure = str(folder / "memory.pressure")
        self._clock = clock

    @property
    def kind(self) -> Kind:
        """CVM."""
        return Kind.CVM

    @property
    def name(self) -> str:
        """Whose figures are read."""
        return f"memory of {self._name}"[:128]

    def count(self) -> Counts:
        """Read the group's figures; faults that waited for a device are taken for pages brought back.

        Raises:
            UnavailableError: the group is gone, or its figures cannot be read.
        """
        usage = self._group.read()
        return Counts(
            taken_at_s=self._clock.monotonic_s(),
            capacity_bytes=usage.limit_bytes,
            resident_bytes=usage.used_bytes,
            evicted_bytes=usage.swapped_bytes,
            page_ins=usage.major_faults,
            stalled_s=read_stalled(self._pressure),
            confidence=Confidence.INFERRED,
        )

    def close(self) -> None:
        """Do nothing: nothing was set up."""


def read_stalled(path: str | Path) -> float | None:
    """Return how long some process waited for memory, in seconds; None where the kernel does not tell.

    Args:
        path: A pressure file: ``some avg10=.. avg60=.. avg300=.. total=MICROSECONDS`` and a line ``full``.
    """
    try:
        text = read_kernel_file(path)
    except UnavailableError:  # Pressure is an option of kernels, and may be switched off in one.
        return None
    for line in text.splitlines():
        kind, *fields = line.split() or [""]
        totals = [field.removeprefix("total=") for field in fields if field.startswith("total=")]
        if kind == "some" and totals and is_figure(totals[0]):
            return int(totals[0]) / US_PER_S
    return None


def read_guests(root: Path) -> Guests | None:
    """Return how many confidential machines a host has; None on any other machine.

    ``misc.capacity`` is in the root group alone; ``misc.current`` there since Linux 6.11, else only below.

    Args:
        root: Where the machine's files begin.
    """
    for place in (_MISC_ROOT, f"{_MISC_ROOT}/misc", f"{_MISC_ROOT}/unified"):
        folder = root / place
        capacities = _figures(folder / "misc.capacity", _GUEST_RESOURCES)
        present = [name for name in _GUEST_RESOURCES if capacities.get(name)]
        if present:
            return Guests(
                running=_running(folder, present), capacity=sum(capacities[name] for name in present)
            )
    return None


def describe_cvm(root: Path) -> str | None:
    """Return what of confidential machines a machine is, for people; None if nothing shows that it is one.

    It is the machine's own word, no evidence: attestation is what proves a TEE.

    Args:
        root: Where the machine's files begin.
    """
    devices = [device for device in _GUEST_DEVICES if (root / device).exists()]
    if devices or _cpu_flags(root) & _GUEST_FLAGS:
        return "memory of a confidential machine"
    return "memory of a host of confidential machines" if read_guests(root) is not None else None


def open_cvm(root: Path, clock: Clock) -> CvmSource:
    """Open the memory of a confidential machine, or of a host of such machines.

    Args:
        root: Where the machine's files begin.
        clock: Monotonic.

    Raises:
        UnavailableError: nothing shows that it is one, or its memory cannot be read.
    """
    name = describe_cvm(root)
    if name is None:
        raise UnavailableError(
            "no confidential machine: no /dev/tdx_guest, /dev/sev-guest, nor guests in misc.capacity"
        )
    source = CvmSource(root, name, clock)
    source.count()
    return source


def _running(folder: Path, resources: list[str]) -> int | None:
    """Return the machines that there are: the root group's figure, or else its children's sum."""
    files = [folder / "misc.current"]
    if not files[0].exists():
        files = sorted(folder.glob("*/misc.current"))
    used = [
        figures[name]
        for path in files
        for name in resources
        if name in (figures := _figures(path, resources))
    ]
    return sum(used) if used else None


def _figures(path: str | Path, names: Collection[str]) -> dict[str, int]:
    """Return the figures of a file that not every kernel has."""
    try:
        return read_figures(path, names)
    except UnavailableError:
        return {}


def _cpu_flags(root: Path) -> frozenset[str]:
    """Return the flags of the first processor: of many, the file is long."""
    try:
        with (root / "proc/cpuinfo").open("rb") as file:
            text = file.read(_CPU_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return frozenset()
    line = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return frozenset(line.partition(":")[2].split())
