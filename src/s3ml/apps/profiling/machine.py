"""The machine that figures come from, as its kernel describes it."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path

from s3ml.bundle.profile import Library, Machine

_UNKNOWN = "unknown"


def describe_machine(libraries: Sequence[Library], *, load_before: float) -> Machine:
    """Describe this machine.

    Args:
        libraries: What took part in the measurement.
        load_before: The load average over one minute before it.
    """
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    return Machine(
        processor=_processor(),
        cores=available_cores(),
        memory_bytes=page_bytes * os.sysconf("SC_PHYS_PAGES"),
        page_bytes=page_bytes,
        kernel=platform.release() or _UNKNOWN,
        system=_system(),
        python=platform.python_version(),
        libraries=tuple(libraries),
        load_average=(round(load_before, 2), round(load_average(), 2)),
    )


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def load_average() -> float:
    """Return how many processes wanted a core over the last minute."""
    return os.getloadavg()[0]


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return next(filter(None, names), platform.machine() or _UNKNOWN)


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system() or _UNKNOWN
