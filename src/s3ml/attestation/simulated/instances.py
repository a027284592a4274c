"""Enclave processes as children of the platform: started, recognised, stopped, reaped.

A process is recognised by its id, which is sound because the platform is its parent: an id is not given
to another process before the parent has reaped it, and reaping and forgetting are one step here. Before a new
process may run, every connection that is already waiting is judged by those who were alive until then,
so that an id that was used before proves nothing.
"""

import asyncio
import ctypes
import errno
import os
import signal
import stat
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

from s3ml.attestation.simulated.image import Image
from s3ml.attestation.simulated.launch import Role
from s3ml.primitives.errors import ConfigurationError

_PR_SET_PDEATHSIG = 1
_PR_SET_THP_DISABLE = 41
_LIBC = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int, signal_number: signal.Signals = signal.SIGKILL) -> None:
    """Make the kernel send this process `signal_number` when the thread that started it ends.

    Args:
        parent: The process that started this one, as it was known before.
        signal_number: What is sent.

    Raises:
        OSError: The kernel refuses, or the parent ended already.
    """
    if _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        raise OSError(errno.ESRCH, "the parent ended before this process could be tied to it")


def _prepare(parent: int, memory_group: Path | None) -> None:
    """Tie a child to `parent`, and put it into its memory group, before the image runs."""
    die_with_parent(parent)
    if memory_group is not None:
        if _LIBC.prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_THP_DISABLE)")
        (memory_group / "cgroup.procs").write_bytes(b"%d" % os.getpid())


@dataclass(slots=True, kw_only=True, eq=False)
class Instance:
    """One enclave process; `exit_status` is negative for a signal, and None while it runs."""

    name: str
    role: Role
    measurement: str
    process: subprocess.Popen[bytes]
    exit_status: int | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def pid(self) -> int:
        """The process id, valid for recognition only while `exit_status` is None."""
        return self.process.pid


class Instances:
    """The children of this process.

    Args:
        limit: How many are kept in the account; the oldest that ended are forgotten first.
    """

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._by_name: dict[str, Instance] = {}
        self._started = 0

    def all(self) -> tuple[Instance, ...]:
        """Return every instance in the account, in the order of their start."""
        return tuple(self._by_name.values())

    def named(self, name: str) -> Instance:
        """Return the instance of that name.

        Raises:
            ConfigurationError: There is none.
        """
        try:
            return self._by_name[name]
        except KeyError:
            raise ConfigurationError(
                f"instance: expected one that was launched here, got {name[:80]!r}"
            ) from None

    def alive(self, pid: int) -> Instance | None:
        """Return the child with that process id that was not reaped yet."""
        return next((i for i in self._by_name.values() if i.pid == pid and i.exit_status is None), None)

    def start(
        self,
        image: Image,
        role: Role,
        settings: Mapping[str, str],
        log: Path,
        *,
        before_it_runs: Callable[[], None],
        memory_group: Path | None = None,
    ) -> Instance:
        """Start a process from `image`, in a session of its own, that cannot outlive this one.

        Args:
            image: A built image.
            role: What the image is for.
            settings: The whole environment, besides what the image's launch configuration adds.
            log: Where its output is appended.
            before_it_runs: Called when the process exists and waits, and is not recognised yet.
            memory_group: The memory control group that it enters first; None leaves it in the platform's.

        Raises:
            ConfigurationError: `log` cannot be written, the image does not start, or too many are running.
        """
        self._make_room()
        try:
            with _open_log(log) as output:
                process = subprocess.Popen(  # noqa: S603 (a measured image)
                    image.argv,
                    env={**settings, **dict(image.environment)},
                    cwd=image.root,
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    preexec_fn=partial(_prepare, os.getpid(), memory_group),  # noqa: PLW1509 (a few system calls, before the image runs)
                )
        except (OSError, subprocess.SubprocessError) as error:
            raise ConfigurationError(f"{role}: cannot be launched with the log {log}: {error}") from error
        try:
            before_it_runs()
        except BaseException:
            process.kill()
            process.communicate()
            raise
        self._started += 1
        instance = Instance(
            name=f"{role}-{self._started}", role=role, measurement=image.measurement, process=process
        )
        self._by_name[instance.name] = instance
        if process.stdin is not None:  # pragma: no branch (it is a pipe)
            process.stdin.close()
        return instance

    def reap(self) -> tuple[Instance, ...]:
        """Take note of every child that ended, with all that it started, and return those."""
        ended = []
        for instance in self._by_name.values():
            if instance.exit_status is None and _has_ended(instance.pid):
                _signal_group(instance.pid, signal.SIGKILL)
                instance.exit_status = instance.process.wait()
                instance.ended.set()
                ended.append(instance)
        return tuple(ended)

    async def stop(self, instance: Instance, *, grace_s: float) -> int:
        """End `instance` with SIGTERM, and with SIGKILL after `grace_s`; return its exit status."""
        if instance.exit_status is None:
            _signal_group(instance.pid, signal.SIGTERM)
            try:
                async with asyncio.timeout(grace_s):
                    await instance.ended.wait()
            except TimeoutError:
                _signal_group(instance.pid, signal.SIGKILL)
            await instance.ended.wait()
        return instance.process.returncode

    async def stop_all(self, *, grace_s: float) -> None:
        """End every instance at once."""
        async with asyncio.TaskGroup() as group:
            for instance in self.all():
                group.create_task(self.stop(instance, grace_s=grace_s))

    def _make_room(self) -> None:
        for name, instance in list(self._by_name.items()):
            if len(self._by_name) < self._limit:
                return
            if instance.exit_status is not None:
                del self._by_name[name]
        if len(self._by_name) >= self._limit:
            raise ConfigurationError(f"instances: expected at most {self._limit} at a time; stop one first")


def _open_log(path: Path) -> BinaryIO:
    """Open a regular file for appending; nothing that could block or be something else."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    log = os.fdopen(descriptor, "ab", buffering=0)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        log.close()
        raise OSError(errno.EINVAL, "expected a regular file")
    return log


def _has_ended(pid: int) -> bool:
    """Say whether the child ended, and leave it unreaped: its id stays taken."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _signal_group(pid: int, signal_number: signal.Signals) -> None:
    """Signal the session that the unreaped child `pid` leads."""
    os.killpg(pid, signal_number)
