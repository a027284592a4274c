"""What of an EPC's paging is one server's, by the memory figures of its group alone.

The driver keeps evicted pages in shared memory that is charged to the enclave's group (Linux 5.19 and later;
earlier kernels charge whoever was running, and do not free it when a page comes back). No counter of page-ins
exists for a group: every access to an evicted page is a page fault, so faults beyond those that the server
has without paging are taken for them. That is inference, and says so.

Source: Linux, arch/x86/kernel/cpu/sgx/encl.c (sgx_encl_alloc_backing, __sgx_encl_eldu); ADR 23.
"""

from pathlib import Path

from s3ml.primitives.clock import Clock
from s3ml.tee_memory.cgroups import Group
from s3ml.tee_memory.reading import PAGE_BYTES, Confidence, Counts, Kind

# The weight of the newest span without paging in the rate of ordinary faults.
_NEWEST_WEIGHT = 0.2


class FaultBaseline:
    """Takes ordinary faults off: learns their rate while nothing is evicted; pure."""

    def __init__(self) -> None:
        self._faults_per_s: float | None = None
        self._before: tuple[float, int, int] | None = None
        self._page_ins = 0.0
        self._page_outs = 0.0

    def observe(self, at_s: float, faults: int, evicted_bytes: int) -> tuple[int, int]:
        """Return the pages in and out that are inferred since the first observation.

        Args:
            at_s: Monotonic.
            faults: Since some beginning; one that went down begins a new one.
            evicted_bytes: What is evicted at this instant.
        """
        before, self._before = self._before, (at_s, faults, evicted_bytes)
        if before is None or faults < before[1] or at_s <= before[0]:
            return int(self._page_ins), int(self._page_outs)
        span_s, more = at_s - before[0], faults - before[1]
        if not evicted_bytes and not before[2]:
            self._learn(more / span_s)
            return int(self._page_ins), int(self._page_outs)
        page_ins = max(0.0, more - (self._faults_per_s or 0.0) * span_s)
        self._page_ins += page_ins
        # What came back and what is out still was evicted.
        self._page_outs += max(0.0, page_ins + (evicted_bytes - before[2]) / PAGE_BYTES)
        return int(self._page_ins), int(self._page_outs)

    def _learn(self, faults_per_s: float) -> None:
        known = self._faults_per_s
        newest = faults_per_s if known is None else known + _NEWEST_WEIGHT * (faults_per_s - known)
        self._faults_per_s = newest


class PodSource:
    """Infers the EPC paging of one server.

    Args:
        name: The server's.
        folder: Of its group.
        clock: Monotonic.
    """

    def __init__(self, name: str, folder: Path, clock: Clock) -> None:
        self._name = name
        self._group = Group(folder)
        self._clock = clock
        self._baseline = FaultBaseline()

    @property
    def kind(self) -> Kind:
        """SGX."""
        return Kind.SGX

    @property
    def name(self) -> str:
        """Whose figures are read."""
        return f"memory.stat of {self._name}"[:128]

    def count(self) -> Counts:
        """Read the group's figures.

        Raises:
            UnavailableError: the group is gone, or its figures cannot be read.
        """
        usage = self._group.read_stat()
        now_s = self._clock.monotonic_s()
        page_ins, page_outs = self._baseline.observe(now_s, usage.faults, usage.shmem_bytes)
        return Counts(
            taken_at_s=now_s,
            evicted_bytes=usage.shmem_bytes,
            page_ins=page_ins,
            page_outs=page_outs,
            confidence=Confidence.INFERRED,
        )

    def close(self) -> None:
        """Do nothing: nothing was set up."""
