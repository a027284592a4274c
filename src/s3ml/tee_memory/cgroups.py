"""Groups of processes, each with memory figures of its own: to whom a node's paging is attributed.

Both versions of control groups are read: version 2 from its one tree, version 1 from the tree of its memory
controller.

Source: Linux, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from s3ml.primitives.errors import UnavailableError
from s3ml.tee_memory.kernel_files import is_figure, read_figures, read_kernel_file
from s3ml.tee_memory.reading import Source
from s3ml.tee_memory.readings import NAME_PATTERN

_NAME = re.compile(NAME_PATTERN)
_UNLIMITED_BYTES = 1 << 60
_STAT = frozenset(
    prefix + name for prefix in ("", "total_") for name in ("shmem", "pgfault", "pgmajfault", "swap")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a group's memory figures say; None is what its version does not tell.

    Args:
        shmem_bytes: Memory in shared files, among them what an SGX driver keeps evicted pages in.
        faults: Page faults since the group began.
        major_faults: Those that had to wait for a device.
        used_bytes: Memory that is charged to the group.
        limit_bytes: The most that may be; None without a limit.
        swapped_bytes: Memory that is out in swap.
    """

    shmem_bytes: int
    faults: int
    major_faults: int
    used_bytes: int | None = None
    limit_bytes: int | None = None
    swapped_bytes: int | None = None


class Group:
    """Reads a group's memory figures, of whichever version.

    Args:
        folder: The group's.
    """

    __slots__ = ("_is_second", "_limit", "_stat", "_swap", "_used")

    def __init__(self, folder: Path) -> None:
        self._is_second = (folder / "memory.current").exists()
        self._stat = str(folder / "memory.stat")
        self._used = str(folder / ("memory.current" if self._is_second else "memory.usage_in_bytes"))
        self._limit = str(folder / ("memory.max" if self._is_second else "memory.limit_in_bytes"))
        self._swap = str(folder / "memory.swap.current")

    def read_stat(self) -> Usage:
        """Return what one file tells, which is enough for an EPC.

        Raises:
            UnavailableError: the group is gone, or its ``memory.stat`` lacks what both versions have.
        """
        figures = read_figures(self._stat, _STAT)

        def take(name: str) -> int | None:
            # Version 1 has the figures of the group alone beside those with its children.
            return figures.get(f"total_{name}", figures.get(name))

        shmem, faults, major = take("shmem"), take("pgfault"), take("pgmajfault")
        if shmem is None or faults is None or major is None:
            raise UnavailableError(f"{self._stat}: expected shmem, pgfault and pgmajfault")
        return Usage(
            shmem_bytes=shmem,
            faults=faults,
            major_faults=major,
            swapped_bytes=None if self._is_second else take("swap"),
        )

    def read(self) -> Usage:
        """Return all of its figures.

        Raises:
            UnavailableError: as `read_stat`.
        """
        usage = self.read_stat()
        limit = _optional(self._limit)
        return replace(
            usage,
            used_bytes=_optional(self._used),
            limit_bytes=limit if limit is not None and limit < _UNLIMITED_BYTES else None,
            swapped_bytes=_optional(self._swap) if self._is_second else usage.swapped_bytes,
        )


class CgroupServers:
    """Servers that are groups of processes; there while their folders are.

    Args:
        named: Folders by the servers' names.
        parents: Folders of which every child is a server by the child's name; other names are left out.
        open_source: Opens what counts a group's paging: the server's name, its folder.
    """

    def __init__(
        self,
        named: Mapping[str, Path],
        parents: Sequence[Path],
        open_source: Callable[[str, Path], Source],
    ) -> None:
        self._named = dict(named)
        self._parents = tuple(parents)
        self._open = open_source

    def names(self) -> list[str]:
        """Return the servers that there are now.

        Raises:
            UnavailableError: a folder of servers cannot be listed.
        """
        return list(self._folders())

    def source(self, name: str) -> Source:
        """Return what counts one of them.

        Raises:
            UnavailableError: it is gone.
        """
        folder = self._folders().get(name)
        if folder is None:
            raise UnavailableError(f"server {name}: its group is gone")
        return self._open(name, folder)

    def _folders(self) -> dict[str, Path]:
        found = {}
        for parent in self._parents:
            try:
                with os.scandir(parent) as entries:
                    children = [entry.name for entry in entries if entry.is_dir()]
            except OSError as error:
                raise UnavailableError(f"{parent}: {error.strerror}") from error
            found.update({name: parent / name for name in children if _NAME.match(name)})
        found.update({name: folder for name, folder in self._named.items() if folder.is_dir()})
        return found


def _optional(path: str) -> int | None:
    """Return a file's number; None where there is none, as in ``max``."""
    try:
        text = read_kernel_file(path).strip()
    except UnavailableError:
        return None
    return int(text) if is_figure(text) else None
