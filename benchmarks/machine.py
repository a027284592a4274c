"""The machine that figures come from, and what else it was doing meanwhile."""

import os
import platform
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

LIBRARIES = (
    "s3ml",
    "cryptography",
    "dcap-qvl",
    "httptools",
    "msgspec",
    "numpy",
    "onnx",
    "onnxruntime",
    "psycopg",
    "pyrage",
    "scikit-learn",
    "starlette",
    "urllib3",
    "uvicorn",
    "uvloop",
)
SIMULATED = "SIMULATED: no SGX hardware was used; nothing here measures an enclave's own costs"
_IDLE_FIELDS = (3, 4)


def describe() -> dict[str, Any]:
    """Return what is needed to read a figure: processor, kernel, Python, libraries, date, load."""
    return {
        "tee": SIMULATED,
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_mb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6),
        "kernel": platform.release(),
        "system": _distribution(),
        "python": platform.python_version(),
        "libraries": _versions(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_average_before": [round(load, 2) for load in os.getloadavg()],
    }


def pin(core: int) -> bool:
    """Keep this process on `core`, where there are at least two; tell whether it was done."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return False
    os.sched_setaffinity(0, {cores[core % len(cores)]})
    return True


def busy_s() -> float:
    """Return the processor time that the whole machine has spent since its start, over all cores."""
    fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]
    ticks = sum(int(field) for index, field in enumerate(fields) if index not in _IDLE_FIELDS)
    return ticks / os.sysconf("SC_CLK_TCK")


def process_s(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return sys.platform


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found
