"""A node's share of this machine's processors, so that a node that pages takes nothing from the others.

Nodes of a cluster have processors of their own; the emulated ones lie on one machine. A cgroup bounds what
the processes of each may use in every 10 ms, and puts all that is measured before whatever else the machine
does. Root, and the processor controller of cgroup version 1.
"""

import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

CONTROLLER = Path("/sys/fs/cgroup/cpu")
_PERIOD_US = 10_000
_DEADLINE_S = 10.0
# The most there is; processes that are in no group weigh 1024 by session.
_WEIGHT = 262_144


class ProcessorShare:
    """A bound on the processor time of a group of processes; a context manager that takes it away.

    Args:
        name: Of the group, unique on this machine.
        cores: How many processors' worth of time it has; a fraction is allowed, None does not bound it.
        controller: Where the controller's hierarchy is mounted.
    """

    def __init__(self, name: str, cores: float | None, controller: Path = CONTROLLER) -> None:
        self._path = controller / name
        self._cores = cores

    def __enter__(self) -> Self:
        self._path.mkdir(exist_ok=True)
        (self._path / "cpu.cfs_period_us").write_text(str(_PERIOD_US), encoding="ascii")
        quota_us = -1 if self._cores is None else round(self._cores * _PERIOD_US)
        (self._path / "cpu.cfs_quota_us").write_text(str(quota_us), encoding="ascii")
        (self._path / "cpu.shares").write_text(str(_WEIGHT), encoding="ascii")
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

    def enter(self, pid: int | None = None) -> None:
        """Move a process into the group, this one by default."""
        (self._path / "cgroup.procs").write_text(str(pid or os.getpid()), encoding="ascii")

    def throttled_s(self) -> float:
        """Return for how long processes of the group had to wait for their next share, summed."""
        for line in (self._path / "cpu.stat").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(" ")
            if name == "throttled_time":
                return int(value) / 1e9
        return 0.0
