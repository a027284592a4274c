"""Folders and files of the pseudo-file systems through which a TEE speaks.

Where they lie is said by the composition root, so that a verified fake can stand in for each. It is never a
setting of the host: whoever chooses where the TEE is found chooses the sealing key.
"""

from typing import IO, Literal, Protocol

from s3ml.primitives.errors import UnavailableError


class Directory(Protocol):
    """A folder or a file in it; `pathlib.Path` is one. What it raises is `OSError`."""

    def __truediv__(self, name: str, /) -> "Directory":
        """Return the entry called `name`."""
        ...

    def exists(self) -> bool:
        """Say whether there is such a folder or file."""
        ...

    def mkdir(self) -> None:
        """Make this folder, which must not exist."""
        ...

    def rmdir(self) -> None:
        """Remove this folder."""
        ...

    def open(self, mode: Literal["rb", "wb"]) -> IO[bytes]:
        """Open this file."""
        ...


def read_bounded(file: Directory, *, limit_bytes: int, what: str) -> bytes:
    """Read a whole file, in as many parts as it comes.

    Args:
        file: What to read.
        limit_bytes: The greatest size.
        what: What messages shall call it.

    Raises:
        OSError: it cannot be read.
        UnavailableError: it is larger.
    """
    with file.open("rb") as stream:
        data = stream.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise UnavailableError(f"{what}: expected at most {limit_bytes} bytes, got more")
    return data


def write_whole(file: Directory, data: bytes) -> None:
    """Write `data` into an existing file by one call of the system: pseudo-files take each call as a value.

    Args:
        file: What to write to.
        data: At most 4 KiB, which no buffer parts.

    Raises:
        OSError: it cannot be written.
    """
    with file.open("wb") as stream:
        stream.write(data)
