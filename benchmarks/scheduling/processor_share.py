"""A node's share of this machine's processors, so that a node that pages takes nothing from the others.

Nodes of a cluster have processors of their own; the emulated ones lie on one machine. A cgroup bounds what
the processes of each may use in every 10 ms. Root, and the processor controller of cgroup version 1.
"""

import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

CONTROLLER = Path("/sys/fs/cgroup/cpu")
_PERIOD_US = 10_000
_DEADLINE_S = 10.0


class ProcessorShare:
    """A bound on the processor time of a group of processes; a context manager that takes it away.

    Args:
        name: Of the group, unique on this machine.
        cores: How many processors' worth of time it has; a fraction is allowed.
        controller: Where the controller's hierarchy is mounted.
    """

    def __init__(self, name: str, cores: float, controller: Path = CONTROLLER) -> None:
        self._path = controller / name
        self._cores = cores

    def __enter__(self) -> Self:
        self._path.mkdir(exist_ok=True)
        (self._path / "cpu.cfs_period_us").write_text(str(_PERIOD_US), encoding="ascii")
        (self._path / "cpu.cfs_quota_us").write_text(str(round(self._cores * _PERIOD_US)), encoding="ascii")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end = time.monotonic() + _DEADLINE_S
        while self._path.is_dir():
            try:
                self._path.rmdir()
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)

    def enter(self) -> None:
        """Move this process into the group."""
        (self._path / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")

    def throttled_s(self) -> float:
        """Return for how long processes of the group had to wait for their next share, summed."""
        for line in (self._path / "cpu.stat").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(" ")
            if name == "throttled_time":
                return int(value) / 1e9
        return 0.0
