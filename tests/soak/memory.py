"""How much memory each process holds over time, and whether any of them is left behind."""

import asyncio
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from s3ml.primitives.units import MIB
from tests.soak.world import World

SAMPLE_S = 1.0
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# A process is judged once it has warmed up, and has been watched for a while after that.
WARM_UP_SHARE, WARM_UP_S, WATCHED_S = 0.3, 60.0, 120.0
FLAT_SHARE, FLAT_BYTES = 0.10, 12 * MIB


@dataclass(slots=True)
class Life:
    """One process: its samples, each seconds since the beginning and resident bytes."""

    samples: list[tuple[float, int]] = field(default_factory=list)

    def growth(self) -> tuple[float, float, float] | None:
        """Return seconds, bytes per second and mean bytes after the warm-up; none of a short life."""
        first_s, last_s = self.samples[0][0], self.samples[-1][0]
        warm_s = first_s + max(WARM_UP_S, WARM_UP_SHARE * (last_s - first_s))
        kept = np.array([sample for sample in self.samples if sample[0] >= warm_s], float)
        if last_s - warm_s < WATCHED_S:
            return None
        slope, _ = np.polyfit(kept[:, 0], kept[:, 1], 1)
        return last_s - warm_s, float(slope), float(kept[:, 1].mean())

    def is_flat(self) -> bool | None:
        """Whether it grew by less than a tenth and 12 MiB after its warm-up; none of a short life."""
        found = self.growth()
        if found is None:
            return None
        seconds, slope, mean = found
        return seconds * slope < FLAT_SHARE * mean + FLAT_BYTES


class Watch:
    """Watches the processes of a world, and this one.

    Args:
        world: Whose processes.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._began_s = time.monotonic()
        self._starts: dict[int, str] = {}
        self.lives: dict[str, Life] = {}

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            self.sample()
            await asyncio.sleep(SAMPLE_S)

    def sample(self) -> None:
        """Take one sample of each process."""
        at_s = time.monotonic() - self._began_s
        for name, pid in self._processes().items():
            resident = resident_bytes(pid)
            if resident is not None:
                self._starts.setdefault(pid, started(pid) or "")
                self.lives.setdefault(name, Life()).samples.append((at_s, resident))

    def left_behind(self, *, within_s: float = 60.0) -> list[int]:
        """Return which of the processes that were seen still run after so many seconds; this one does."""
        until_s = time.monotonic() + within_s
        while True:
            alive = [pid for pid, start in self._starts.items() if start and started(pid) == start]
            others = [pid for pid in alive if pid != os.getpid()]
            if not others or time.monotonic() > until_s:
                return others
            time.sleep(0.1)

    def _processes(self) -> dict[str, int]:
        cluster = self._world.cluster
        found = {one.name: one.pid for one in (*cluster.key_services, *cluster.replicas)}
        gateway, platform = cluster._gateway, cluster._platform._process
        if gateway is not None and gateway._process is not None:
            found["gateway"] = gateway._process.pid
        if platform is not None:
            found["platform"] = platform.pid
        return {**found, "load": os.getpid()}


def resident_bytes(pid: int) -> int | None:
    """Return how much memory a process holds, or nothing if there is none."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES or None
    except (OSError, IndexError):
        return None


def started(pid: int) -> str | None:
    """Return when a process was started, by which its id is told from a later one; none of an ended one."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]
