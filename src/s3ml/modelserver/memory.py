"""Giving memory back to where it came from: resident memory is what is scarce in a TEE."""

import ctypes
import os
from pathlib import Path

_STATM = Path("/proc/self/statm")


def return_free_memory() -> None:
    """Ask glibc to return what was freed; does nothing on another C library.

    Opening a model frees about as much as the model is large, in pieces that glibc would keep: with ResNet50,
    130 of 290 MB.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def resident_bytes(statm: Path = _STATM) -> int | None:
    """Return this process's resident memory, or None where the system does not tell: under Gramine it is 0.

    Args:
        statm: Linux's ``/proc/self/statm``: sizes in pages.
    """
    try:
        pages = int(statm.read_bytes().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") or None
