"""The EPC of an SGX machine: how large it is, and the pages that its driver moves out and in.

Where the kernel lets nothing be counted, the source is blind: it knows the size alone, and says so.

Source: Linux, arch/x86/kernel/cpu/sgx/main.c (sgx_total_bytes_show).
"""

from collections.abc import Callable
from pathlib import Path

from s3ml.primitives.clock import Clock
from s3ml.primitives.errors import UnavailableError
from s3ml.tee_memory.kernel_files import read_figure
from s3ml.tee_memory.reading import Confidence, Counts, Kind
from s3ml.tee_memory.sgx.counting import PagingCounter, open_counter, read_symbols
from s3ml.tee_memory.sgx.tracefs import Tracefs

_SIZES = "sys/devices/system/node"


class SgxSource:
    """Counts the paging of a machine's EPC.

    Args:
        capacity_bytes: Of the EPC, over all nodes of the machine's memory.
        counter: Counts pages; None where nothing can be counted. Closed with this.
        clock: Monotonic.
    """

    def __init__(self, capacity_bytes: int, counter: PagingCounter | None, clock: Clock) -> None:
        self._capacity_bytes = capacity_bytes
        self._counter = counter
        self._clock = clock

    @property
    def kind(self) -> Kind:
        """SGX."""
        return Kind.SGX

    @property
    def name(self) -> str:
        """By what pages are counted."""
        return "EPC size alone" if self._counter is None else self._counter.name

    def count(self) -> Counts:
        """Read the counts.

        Raises:
            UnavailableError: they cannot be read now.
        """
        if self._counter is None:
            return Counts(
                taken_at_s=self._clock.monotonic_s(),
                capacity_bytes=self._capacity_bytes,
                confidence=Confidence.BLIND,
            )
        paging = self._counter.read()
        return Counts(
            taken_at_s=self._clock.monotonic_s(),
            capacity_bytes=self._capacity_bytes,
            page_ins=paging.page_ins,
            page_outs=paging.page_outs,
            confidence=self._counter.confidence,
        )

    def close(self) -> None:
        """Undo what was set up in the kernel."""
        if self._counter is not None:
            self._counter.close()


def epc_bytes(root: Path) -> int:
    """Return the size of a machine's EPC; 0 where it has none.

    Args:
        root: Where the machine's files begin.

    Raises:
        UnavailableError: a size is there and cannot be read.
    """
    return sum(read_figure(path) for path in sorted((root / _SIZES).glob("node[0-9]*/x86/sgx_total_bytes")))


def open_sgx(root: Path, clock: Clock, token: Callable[[], str]) -> tuple[SgxSource, str | None]:
    """Open the EPC of a machine.

    Args:
        root: Where the machine's files begin.
        clock: Monotonic.
        token: Gives names for what is set up in the kernel.

    Returns:
        The source, to be closed; and why it is blind, where it is.

    Raises:
        UnavailableError: the machine has no EPC.
    """
    capacity_bytes = epc_bytes(root)
    if not capacity_bytes:
        raise UnavailableError(f"no EPC: no size above 0 in {root / _SIZES}/node*/x86/sgx_total_bytes")
    try:
        counter = open_counter(Tracefs.locate(root), read_symbols(root / "proc/kallsyms"), token)
    except UnavailableError as error:
        return SgxSource(capacity_bytes, None, clock), str(error)
    return SgxSource(capacity_bytes, counter, clock), None
