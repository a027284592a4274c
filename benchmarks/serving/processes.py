"""Processor time and memory of a server: of all its processes, whoever of them started whom."""

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_MEMORY_FIELDS = {"Rss": "rss_mb", "Pss": "pss_mb", "Anonymous": "anonymous_mb"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a tree of processes has used.

    Attributes:
        user_s: Processor time outside the kernel.
        system_s: Processor time inside it.
    """

    user_s: float
    system_s: float


def tree(root: int) -> list[int]:
    """Return `root` and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children.get(pid, [])
    return found


def usage(pids: list[int]) -> Usage:
    """Return the processor time of `pids`, and of their children that have ended."""
    user = system = 0
    for pid in pids:
        if fields := _stat(pid):
            user += int(fields[11]) + int(fields[13])
            system += int(fields[12]) + int(fields[14])
    return Usage(user_s=user / _TICKS_PER_S, system_s=system / _TICKS_PER_S)


def memory(pids: list[int]) -> dict[str, float]:
    """Return the memory of `pids`, summed, in MB: resident, proportional and anonymous.

    A page that two of them share counts twice as resident, once as proportional.
    """
    totals = dict.fromkeys(_MEMORY_FIELDS.values(), 0.0)
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            name, _, rest = line.partition(":")
            if name in _MEMORY_FIELDS:
                totals[_MEMORY_FIELDS[name]] += int(rest.split()[0]) * 1024 / 1e6
    return {name: round(value, 1) for name, value in totals.items()}


def pin(pids: list[int], core: int) -> None:
    """Keep every thread of `pids`, and what they start from now on, on `core`."""
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            os.sched_setaffinity(int(task.name), {core})


def prefer(pids: list[int], nice: int) -> None:
    """Weigh the sessions of `pids` against other sessions, by a nice value of -20 to 19.

    Where Linux groups processes by session, the nice value of a process counts within its session only.
    """
    for pid in pids:
        try:
            Path(f"/proc/{pid}/autogroup").write_text(str(nice), encoding="ascii")
        except OSError as error:
            raise SystemExit(f"serving: --nice {nice}: not allowed here: {error.strerror}") from error


def threads(pids: list[int]) -> int:
    """Return how many threads `pids` have together."""
    return sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in pids)


def cores(pids: list[int]) -> set[int]:
    """Return the cores that any thread of `pids` may run on."""
    found: set[int] = set()
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found |= os.sched_getaffinity(int(task.name))
    return found


def _stat(pid: int) -> list[str]:
    """Return the fields of a process from its state on; none when it has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return []
