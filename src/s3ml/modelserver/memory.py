"""How much memory models may take, and giving it back: resident memory is what is scarce in a TEE.

The budget is a promise to the host, kept by arithmetic: a model holds what its owner's profile says, or an
estimate from its size, from before it is decrypted until the last request on it has been answered.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from s3ml.modelserver.models import ModelKey
from s3ml.primitives.errors import UnavailableError
from s3ml.primitives.units import KIB, MIB

# While a model is opened there are its plaintext and the runtime's copy; then the copy and its activations.
_COPIES_AT_OPENING = 2
_ACTIVATIONS_BYTES = 16 * MIB
# Parameters of glibc's mallopt(3): from which size a piece is a mapping of its own, which goes when it is
# freed, and how much may lie free at the end of the heap. Weights are to be apart; bodies of requests are
# not, for each of their pages would be taken anew.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_APART_BYTES, _APART_WHILE_OPENING_BYTES = 4 * MIB, 256 * KIB
_STATM = Path("/proc/self/statm")


class MemoryBudgetError(UnavailableError):
    """A model does not fit into what is left of the budget."""


def estimate_bytes(plaintext_bytes: int) -> int:
    """Return what a model without a profile is taken to need."""
    return _COPIES_AT_OPENING * plaintext_bytes + _ACTIVATIONS_BYTES


class MemoryBudget:
    """What models hold of a fixed number of bytes; for any thread.

    Args:
        capacity_bytes: For all of them.
    """

    __slots__ = ("_held", "_lock", "capacity_bytes")

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self._held: list[tuple[ModelKey, int]] = []
        self._lock = Lock()

    @property
    def held_bytes(self) -> int:
        """What is held."""
        with self._lock:
            return sum(size for _, size in self._held)

    def check(self, key: ModelKey, size_bytes: int) -> None:
        """Find out whether a model would fit.

        Raises:
            MemoryBudgetError: it would not; says who holds what.
        """
        with self._lock:
            self._check(key, size_bytes)

    def take(self, key: ModelKey, size_bytes: int) -> None:
        """Hold memory for a model.

        Raises:
            MemoryBudgetError: it does not fit; says who holds what.
        """
        with self._lock:
            self._check(key, size_bytes)
            self._held.append((key, size_bytes))

    def give(self, key: ModelKey, size_bytes: int) -> None:
        """Give back what was taken."""
        with self._lock:
            self._held.remove((key, size_bytes))

    def _check(self, key: ModelKey, size_bytes: int) -> None:
        free_bytes = self.capacity_bytes - sum(size for _, size in self._held)
        if size_bytes <= free_bytes:
            return
        held = ", ".join(f"{name} {version}: {_mib(size)}" for (name, version), size in self._held)
        raise MemoryBudgetError(
            f"model {key[0]} {key[1]}: needs {_mib(size_bytes)}, {_mib(free_bytes)} of "
            f"{_mib(self.capacity_bytes)} are free{f' ({held})' if held else ''}: "
            "unload another model, or raise S3ML_MODEL_MEMORY_BYTES"
        )


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / MIB:.1f} MiB"


@contextmanager
def large_pieces_apart() -> Iterator[None]:
    """Have what models are made of lie apart, so that it goes back when it is freed; for opening a model.

    In a heap, what stays holds fast what was freed around it: of four ResNet50s that ran and were unloaded,
    510 of 730 MB stayed until they were asked for, and 25 do so; 390 MB were taken while one was opened, and
    336 are so. Does nothing with another C library than glibc.
    """
    configure = getattr(ctypes.CDLL(None), "mallopt", None)
    if configure is None:
        yield
        return
    configure(_MMAP_THRESHOLD, _APART_WHILE_OPENING_BYTES)
    configure(_TRIM_THRESHOLD, _APART_WHILE_OPENING_BYTES)
    try:
        yield
    finally:
        configure(_MMAP_THRESHOLD, _APART_BYTES)
        configure(_TRIM_THRESHOLD, 2 * _APART_BYTES)


def return_free_memory() -> None:
    """Ask glibc to return what was freed; does nothing on another C library.

    What is left of a model that was opened or let go of: pieces too small to lie apart, between others.
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
