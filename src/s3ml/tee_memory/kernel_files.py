"""Small files in which a kernel tells figures; what cannot be read is unavailable, never a crash."""

import os
from collections.abc import Collection
from pathlib import Path

from s3ml.primitives.errors import UnavailableError
from s3ml.primitives.units import MIB

KERNEL_FILE_LIMIT_BYTES = MIB
_FIGURE_DIGITS = 19


def read_kernel_file(path: str | Path) -> str:
    """Return the text of a kernel's file, at most 1 MiB of it.

    Raises:
        UnavailableError: it is missing, unreadable or longer; the kernel's own reason is in the message.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = _read_all(descriptor)
        finally:
            os.close(descriptor)
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


def read_figures(path: str | Path, names: Collection[str]) -> dict[str, int]:
    """Return figures of a file of lines ``NAME NUMBER`` or ``NAME: NUMBER kB``, in the file's unit.

    Args:
        path: The file.
        names: Which figures; those that the file lacks, or has in another form, are left out.

    Raises:
        UnavailableError: it cannot be read.
    """
    figures = {}
    for line in read_kernel_file(path).splitlines():
        name, _, rest = line.partition(" ")
        name = name.removesuffix(":")
        if name in names:
            text = rest.split(maxsplit=1)[0] if rest.strip() else ""
            if is_figure(text):
                figures[name] = int(text)
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
