"""What this process holds in memory, and which of its pages a piece of work touches, from Linux's ``/proc``.

Source: proc(5), ``smaps_rollup`` and ``clear_refs``; prctl(2), PR_SET_THP_DISABLE.
"""

import ctypes
import os
from collections.abc import Callable
from pathlib import Path

from s3ml.bundle.profile import Memory
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.units import KIB

_PR_SET_THP_DISABLE = 41
# To clear_refs: forget which pages were referenced; mark pages clean, which also empties the processor's own
# list of pages (or it would go on using them unseen); take today's size for the highest so far.
_FORGET_REFERENCES, _FORGET_WRITES, _FORGET_PEAK = b"1", b"4", b"5"


def disable_huge_pages() -> None:
    """Use small pages alone in this process, as an enclave does: large ones hide what is used of them."""
    ctypes.CDLL(None).prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)


def read_memory() -> Memory:
    """Return what this process holds now.

    Raises:
        ConfigurationError: this kernel does not say.
    """
    sizes = _sizes(_read("smaps_rollup"))
    try:
        return Memory(resident_bytes=sizes["Rss"], anonymous_bytes=sizes["Anonymous"])
    except KeyError as error:
        raise ConfigurationError(f"memory: this kernel does not tell {error} in smaps_rollup") from error


def forget_peak() -> None:
    """Begin to count the peak anew, where the kernel lets us; else it goes on since the process's start."""
    _write_clear_refs(_FORGET_PEAK)


def read_peak_bytes() -> int:
    """Return the most that was resident since `forget_peak`.

    Raises:
        ConfigurationError: this kernel does not say.
    """
    try:
        return _sizes(_read("status"))["VmHWM"]
    except KeyError as error:
        raise ConfigurationError("memory: this kernel does not tell VmHWM in status") from error


def touched_bytes(work: Callable[[], object]) -> int | None:
    """Return the size of the pages of this process that `work` touches, its code and libraries included.

    Returns:
        None where the kernel cannot tell: it forbids to clear the marks, or keeps none.
    """
    if not (_write_clear_refs(_FORGET_REFERENCES) and _write_clear_refs(_FORGET_WRITES)):
        return None
    before = _sizes(_read("smaps_rollup"))
    if before.get("Referenced", 0) >= before.get("Rss", 0):
        return None
    work()
    return _sizes(_read("smaps_rollup"))["Referenced"]


def _sizes(text: str) -> dict[str, int]:
    """Return the lines of ``NAME: N kB``, in bytes."""
    sizes = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        number, _, unit = value.strip().partition(" ")
        if unit == "kB" and number.isdecimal():
            sizes[name] = int(number) * KIB
    return sizes


def _read(name: str) -> str:
    try:
        return Path(f"/proc/self/{name}").read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ConfigurationError(
            f"memory: /proc/self/{name}: {error.strerror}: profiles need Linux"
        ) from error


def _write_clear_refs(what: bytes) -> bool:
    """Write to ``clear_refs``; tell whether the kernel took it."""
    try:
        descriptor = os.open("/proc/self/clear_refs", os.O_WRONLY)
    except OSError:
        return False
    try:
        os.write(descriptor, what)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
