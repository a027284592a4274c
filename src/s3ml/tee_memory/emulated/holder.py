"""The process that keeps a node's servers from waiting for ever: small, one a node, found again by its state.

The kernel would kill a process of a full group although its swap is empty: it gives up too early. So killing
is forbidden, and whoever finds no room waits. This process sees that, raises the limit by a little, which
wakes them, and sets it back at once, which evicts something else.

It ends by itself once the state names another, or the node is gone. Killed, it leaves servers waiting: the
state shows that, and bringing the node up or down heals it.

Usage: ``python -m s3ml.tee_memory.emulated.holder NODE GROUP STATE_FOLDER``; prints its process id when it is
at work.

Source: Documentation/admin-guide/cgroup-v1/memory.rst, section 10 (OOM control).
"""

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from s3ml.primitives.errors import S3MLError
from s3ml.primitives.units import KIB
from s3ml.tee_memory.emulated.group import Group
from s3ml.tee_memory.emulated.host import write_setting
from s3ml.tee_memory.emulated.state import Holder, Registry

RELIEF_BYTES = 256 * KIB
POLL_S = 0.02
_LOOK_AT_STATE_S = 0.5
_UNNAMED_S = 30.0
_SET_BACK_TRIES = 50
_READ_BYTES = 512


class Relief:
    """Watches one group and relieves it.

    Args:
        group: Whose killing is forbidden.
        size_bytes: The limit to come back to, asked anew each time.

    Raises:
        OSError: the group is gone, or the kernel gives no events of it.
    """

    def __init__(self, group: Group, *, size_bytes: Callable[[], int]) -> None:
        self._group = group
        self._size_bytes = size_bytes
        self._is_raised = False
        self._control = os.open(group.path / "memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        self._events = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        write_setting(group.path / "cgroup.event_control", f"{self._events} {self._control}")

    def wait(self, timeout_s: float) -> None:
        """Return when somebody began to wait for memory, or after `timeout_s`."""
        if select.select([self._events], [], [], timeout_s)[0]:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._events)

    def step(self) -> bool:
        """Relieve the group if somebody waits in it.

        Returns:
            Whether somebody waited.

        Raises:
            OSError: the group is gone.
            UnavailableError: the group is gone.
        """
        is_waiting = b"under_oom 1" in os.pread(self._control, _READ_BYTES, 0)
        if is_waiting:
            self._is_raised = True
            self._group.try_limit(self._size_bytes() + RELIEF_BYTES)
        if self._is_raised:
            self._is_raised = not self._set_back()
        return is_waiting

    def close(self) -> None:
        """Stop watching."""
        os.close(self._events)
        os.close(self._control)

    def _set_back(self) -> bool:
        """Set the limit to the size, the one that holds at the end of it, and tell whether the kernel did."""
        for _ in range(_SET_BACK_TRIES):
            size_bytes = self._size_bytes()
            if self._group.try_limit(size_bytes) and self._size_bytes() == size_bytes:
                return True
        return False


def main(arguments: list[str]) -> int:
    """Watch a node until it is gone; the caller's process returns once that is under way.

    Returns:
        The exit status.
    """
    name, group, folder = arguments
    registry = Registry(folder=Path(folder))
    relief = Relief(Group(path=Path(group)), size_bytes=lambda: _size_of(registry, name))
    if pid := os.fork():
        sys.stdout.write(f"{pid}\n")
        return 0
    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.chdir("/")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    with contextlib.suppress(OSError, S3MLError):
        _hold(relief, registry, name)
    return 0


def holder_of(pid: int, *, proc: Path = Path("/proc")) -> Holder | None:
    """Return a process by its number and start, or nothing where there is none that runs."""
    try:
        text = (proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *fields = text.rpartition(")")[2].split()
    return None if state in "ZX" else Holder(pid=pid, started_ticks=int(fields[18]))


def is_alive(holder: Holder | None) -> bool:
    """Tell whether a holder runs: that very process, not another with its number."""
    return holder is not None and holder_of(holder.pid) == holder


def _hold(relief: Relief, registry: Registry, name: str) -> None:
    this = holder_of(os.getpid())
    begin = looked_s = time.monotonic()
    was_named = False
    while True:
        relief.wait(POLL_S)
        relief.step()
        now_s = time.monotonic()
        if now_s - looked_s < _LOOK_AT_STATE_S:
            continue
        looked_s = now_s
        state = registry.read()
        node = None if state is None else state.nodes.get(name)
        is_named = node is not None and node.holder == this
        if not is_named and (was_named or now_s - begin > _UNNAMED_S):
            return
        was_named = is_named


def _size_of(registry: Registry, name: str) -> int:
    state = registry.read()
    if state is None or name not in state.nodes:
        raise ProcessLookupError(f"{name}: no longer in the state")
    return state.nodes[name].size_bytes


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
