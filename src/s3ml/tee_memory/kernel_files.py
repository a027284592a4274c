"""Small files in which a kernel tells figures; what cannot be read is unavailable, never a crash."""

import os
from pathlib import Path

from s3ml.primitives.errors import UnavailableError
from s3ml.primitives.units import MIB

KERNEL_FILE_LIMIT_BYTES = MIB
_FIGURE_DIGITS = 19


def read_kernel_file(path: Path) -> str:
    """Return the text of a kernel's file, at most 1 MiB of it.

    Raises:
        UnavailableError: it is missing, unreadable or longer; the kernel's own reason is in the message.
    """
    try:
        with path.open("rb", buffering=0) as file:
            data = _read_all(file.fileno())
    except OSError as error:
        raise UnavailableError(f"{path}: {error.strerror}") from error
    if len(data) > KERNEL_FILE_LIMIT_BYTES:
        raise UnavailableError(f"{path}: expected at most {KERNEL_FILE_LIMIT_BYTES} bytes")
    return data.decode("utf-8", errors="replace")


def read_figure(path: Path) -> int:
    """Return the one number of a kernel's file.

    Raises:
        UnavailableError: it cannot be read, or holds something else.
    """
    return parse_figure(read_kernel_file(path).strip(), what=str(path))


def read_figures(path: Path) -> dict[str, int]:
    """Return the figures of a file of lines ``NAME NUMBER`` or ``NAME: NUMBER kB``, in the file's unit.

    Lines of another form are left out: kernels add such.

    Raises:
        UnavailableError: it cannot be read.
    """
    figures = {}
    for line in read_kernel_file(path).splitlines():
        name, *rest = line.split()[:2] or [""]
        if rest and is_figure(rest[0]):
            figures[name.removesuffix(":")] = int(rest[0])
    return figures


def parse_figure(text: str, *, what: str) -> int:
    """Return a number from a kernel.

    Raises:
        UnavailableError: it is none, negative, or has more than 19 digits.
    """
    if not is_figure(text):
        raise UnavailableError(f"{what}: expected a number, got {text[:40]!r}")
    return int(text)


def is_figure(text: str) -> bool:
    """Return whether a text is a number as kernels write counts."""
    return text.isascii() and text.isdecimal() and len(text) <= _FIGURE_DIGITS


def _read_all(descriptor: int) -> bytes:
    pieces, size = [], 0
    while size <= KERNEL_FILE_LIMIT_BYTES and (piece := os.read(descriptor, 65536)):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)
