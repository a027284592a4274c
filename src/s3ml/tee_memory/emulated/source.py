"""What an emulated EPC counts, as a source of readings: EMULATED, and never a figure of an enclave's."""

import os
from collections.abc import Callable
from pathlib import Path

from s3ml.primitives.errors import UnavailableError
from s3ml.tee_memory.reading import PAGE_BYTES, Confidence, Counts, Kind

_READ_BYTES = 8192
_NO_LIMIT_BYTES = 1 << 60


class EmulatedSource:
    """Counts the paging of a node, or of one server of it; two system calls a count.

    Pages brought back are the group's major faults. The kernel does not count evictions by group: what was
    brought back and what is out still were evicted, so the differences of both are added up; a page that was
    freed while it was out between two counts is missed.

    Args:
        path: The group's folder.
        name: What is read, for people.
        monotonic_s: The clock.

    Raises:
        UnavailableError: the group is not there.
    """

    def __init__(self, path: Path, *, name: str, monotonic_s: Callable[[], float]) -> None:
        self._name = name
        self._monotonic_s = monotonic_s
        self._files: list[int] = []
        self._before: tuple[int, int] | None = None
        self._page_outs = 0
        try:
            for file in ("memory.stat", "memory.usage_in_bytes"):
                self._files.append(os.open(path / file, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            self.close()
            raise UnavailableError(f"{name}: {error.strerror}") from error

    @property
    def kind(self) -> Kind:
        """What the memory is: emulated."""
        return Kind.EMULATED

    @property
    def name(self) -> str:
        """What is read, for people."""
        return self._name

    def count(self) -> Counts:
        """Read the counts as they stand.

        Raises:
            UnavailableError: the node is down, or this source is closed.
        """
        try:
            stat, usage = (os.pread(file, _READ_BYTES, 0) for file in self._files)
        except (OSError, ValueError) as error:
            raise UnavailableError(f"{self._name}: it is down") from error
        taken_at_s = self._monotonic_s()
        figures = parse_stat(stat)
        page_ins, out_bytes = figures["total_pgmajfault"], figures["total_swap"]
        pages_out = out_bytes // PAGE_BYTES
        if self._before is None:
            self._page_outs = page_ins + pages_out
        else:
            self._page_outs += max(0, page_ins - self._before[0] + pages_out - self._before[1])
        self._before = (page_ins, pages_out)
        limit_bytes = figures["hierarchical_memory_limit"]
        return Counts(
            taken_at_s=taken_at_s,
            capacity_bytes=limit_bytes if limit_bytes < _NO_LIMIT_BYTES else None,
            resident_bytes=int(usage),
            evicted_bytes=out_bytes,
            page_ins=page_ins,
            page_outs=self._page_outs,
            confidence=Confidence.COUNTED,
        )

    def close(self) -> None:
        """Close its files; closing twice is harmless."""
        while self._files:
            os.close(self._files.pop())


def parse_stat(data: bytes) -> dict[str, int]:
    """Return the figures of a ``memory.stat`` of cgroup version 1.

    Raises:
        UnavailableError: those that are needed are not in it.
    """
    figures = {}
    for line in data.decode(errors="replace").splitlines():
        name, _, value = line.partition(" ")
        if value.isdecimal():
            figures[name] = int(value)
    needed = ("total_pgmajfault", "total_swap", "hierarchical_memory_limit")
    if missing := [name for name in needed if name not in figures]:
        raise UnavailableError(f"memory.stat: expected {', '.join(missing)}")
    return figures
