"""A node's EPC as a memory cgroup with a hard limit, and its servers as groups in it.

Source: Documentation/admin-guide/cgroup-v1/memory.rst, sections 2 to 5 and 10 (limits, swappiness, OOM
control).
"""

import contextlib
import errno
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from s3ml.primitives.errors import ConfigurationError, UnavailableError
from s3ml.primitives.names import check_name
from s3ml.primitives.units import MIB
from s3ml.tee_memory.emulated.host import write_setting
from s3ml.tee_memory.reading import PAGE_BYTES

PARENT = "s3ml-epc"
SWAPPINESS = 100
NO_LIMIT = -1
LEAST_BYTES = 4 * MIB
MOST_BYTES = 1 << 50
_POLL_S = 0.02
_ENOUGH_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A memory cgroup.

    Args:
        path: Its folder.
    """

    path: Path

    def create(self) -> None:
        """Make the group; nothing where it is.

        Raises:
            UnavailableError: the kernel refuses.
        """
        try:
            self.path.mkdir()
        except FileExistsError:
            return
        except OSError as error:
            raise _refusal(self.path, error) from error
        try:
            write_setting(self.path / "memory.swappiness", SWAPPINESS)
        except OSError as error:
            raise _refusal(self.path, error) from error

    def forbid_killing(self) -> None:
        """Have processes wait for memory where the kernel would kill one: somebody must relieve them.

        Raises:
            UnavailableError: the kernel refuses.
        """
        try:
            write_setting(self.path / "memory.oom_control", 1)
        except OSError as error:
            raise _refusal(self.path, error) from error

    def server(self, name: str) -> "Group":
        """Return the group of a server; it may not be there.

        Raises:
            ConfigurationError: the name is none.
        """
        return Group(path=self.path / check_name(name, what="server"))

    def servers(self) -> tuple[str, ...]:
        """Return the names of its servers, in alphabetical order; none where it is gone."""
        try:
            return tuple(sorted(entry.name for entry in os.scandir(self.path) if entry.is_dir()))
        except OSError:
            return ()

    @property
    def is_there(self) -> bool:
        """Whether the group exists."""
        return self.path.is_dir()

    def limit_bytes(self) -> int:
        """Return the limit in force.

        Raises:
            UnavailableError: the group is gone.
        """
        try:
            return int((self.path / "memory.limit_in_bytes").read_text())
        except (OSError, ValueError) as error:
            raise _refusal(self.path, error) from error

    def set_limit(self, limit_bytes: int) -> None:
        """Set the limit, and wait while the kernel makes room for it.

        Args:
            limit_bytes: A multiple of a page; `NO_LIMIT` for none.

        Raises:
            UnavailableError: the group is gone, or no room could be made in half a minute.
        """
        end = time.monotonic() + _ENOUGH_S
        while not self.try_limit(limit_bytes):
            if time.monotonic() > end:
                raise UnavailableError(
                    f"emulated EPC: {self.path}: its pages could not be evicted down to {limit_bytes} bytes"
                )
            time.sleep(_POLL_S)

    def try_limit(self, limit_bytes: int) -> bool:
        """Set the limit, and tell whether the kernel could make room for it.

        Raises:
            UnavailableError: the group is gone.
        """
        try:
            write_setting(self.path / "memory.limit_in_bytes", limit_bytes)
        except OSError as error:
            if error.errno in (errno.EBUSY, errno.EINTR, errno.ENOMEM):
                return False
            raise _refusal(self.path, error) from error
        return True

    def enter(self) -> None:
        """Move this process into the group.

        Raises:
            UnavailableError: the group is gone.
        """
        try:
            write_setting(self.path / "cgroup.procs", os.getpid())
        except OSError as error:
            raise _refusal(self.path, error) from error

    def members(self) -> tuple[int, ...]:
        """Return the processes in it and in its servers."""
        found: set[int] = set()
        for path in (self.path, *(self.path / name for name in self.servers())):
            with contextlib.suppress(OSError):
                found.update(map(int, (path / "cgroup.procs").read_text().split()))
        return tuple(sorted(found))

    def end_members(self, *, grace_s: float) -> None:
        """End the processes in it: asked first, killed after `grace_s`.

        Raises:
            UnavailableError: some did not end in half a minute.
        """
        asked: set[int] = set()
        begin = time.monotonic()
        while members := self.members():
            waited_s = time.monotonic() - begin
            for pid in members:
                if waited_s >= grace_s:
                    _signal(pid, signal.SIGKILL)
                elif pid not in asked:
                    asked.add(pid)
                    _signal(pid, signal.SIGTERM)
            if waited_s > grace_s + _ENOUGH_S:
                raise UnavailableError(f"emulated EPC: {self.path}: processes {members} do not end")
            time.sleep(_POLL_S)

    def remove(self) -> None:
        """Remove the group and its servers; nothing where it is gone.

        Raises:
            UnavailableError: processes are in it.
        """
        for name in self.servers():
            Group(path=self.path / name).remove()
        end = time.monotonic() + _ENOUGH_S
        while True:
            try:
                self.path.rmdir()
            except FileNotFoundError:
                return
            except OSError as error:
                if error.errno != errno.EBUSY or time.monotonic() > end:
                    raise _refusal(self.path, error) from error
                time.sleep(_POLL_S)
            else:
                return


def check_size(size_bytes: int) -> int:
    """Return `size_bytes` when an EPC can have it: whole pages, 4 MiB at least.

    Raises:
        ConfigurationError: it cannot.
    """
    if not LEAST_BYTES <= size_bytes <= MOST_BYTES or size_bytes % PAGE_BYTES:
        raise ConfigurationError(
            f"emulated EPC: expected 4 MiB at least, in pages of {PAGE_BYTES} bytes, got {size_bytes}"
        )
    return size_bytes


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _refusal(path: Path, error: OSError | ValueError) -> UnavailableError:
    said = error.strerror if isinstance(error, OSError) else str(error)
    return UnavailableError(f"emulated EPC: {path}: {said}")
