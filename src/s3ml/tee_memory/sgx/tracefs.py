"""The kernel's tracing files, and who has set up what in them.

An agent claims a token: a trace instance of that name, whose folder it keeps locked. A lock ends with its
process, however that ends; so whoever starts later finds what a killed agent left, and undoes it.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from s3ml.primitives.errors import UnavailableError
from s3ml.tee_memory.kernel_files import read_kernel_file

PREFIX = "s3ml-"
_BUFFER_KB = "4"
_PLACES = ("sys/kernel/tracing", "sys/kernel/debug/tracing")


class Tracefs:
    """A mounted tracefs.

    Args:
        root: Where it is mounted.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def locate(cls, root: Path) -> "Tracefs":
        """Return the tracefs of a machine whose files begin at `root`.

        Raises:
            UnavailableError: none is mounted, or this process may not look into it.
        """
        for place in _PLACES:
            if (root / place / "instances").is_dir():
                return cls(root / place)
        raise UnavailableError(
            f"no tracefs at {root / _PLACES[0]}: mount -t tracefs nodev {root / _PLACES[0]}, as root"
        )

    def has(self, name: str) -> bool:
        """Return whether a file or folder is there."""
        return (self.root / name).exists()

    def read(self, name: str) -> str:
        """Return the text of a file.

        Raises:
            UnavailableError: it cannot be read.
        """
        return read_kernel_file(self.root / name)

    def list(self, name: str) -> list[str]:
        """Return what is in a folder, sorted.

        Raises:
            UnavailableError: it is none.
        """
        try:
            return sorted(entry.name for entry in (self.root / name).iterdir())
        except OSError as error:
            raise UnavailableError(f"{self.root / name}: {error.strerror}") from error

    def write(self, name: str, text: str) -> None:
        """Write a setting.

        Raises:
            UnavailableError: the kernel refuses.
        """
        self._put(name, text, os.O_WRONLY)

    def append(self, name: str, text: str) -> None:
        """Add one line to a list; opening it otherwise would empty it for everybody.

        Raises:
            UnavailableError: the kernel refuses.
        """
        self._put(name, text, os.O_WRONLY | os.O_APPEND)

    def make_instance(self, name: str) -> None:
        """Make a trace instance.

        Raises:
            UnavailableError: the kernel refuses.
        """
        try:
            (self.root / "instances" / name).mkdir()
        except OSError as error:
            raise UnavailableError(f"{self.root}/instances/{name}: {error.strerror}") from error

    def remove_instance(self, name: str) -> None:
        """Remove a trace instance; one that is gone is no error.

        Raises:
            UnavailableError: the kernel refuses.
        """
        try:
            with suppress(FileNotFoundError):
                (self.root / "instances" / name).rmdir()
        except OSError as error:
            raise UnavailableError(f"{self.root}/instances/{name}: {error.strerror}") from error

    def _put(self, name: str, text: str, flags: int) -> None:
        path = self.root / name
        try:
            descriptor = os.open(path, flags)
            try:
                os.write(descriptor, f"{text}\n".encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            raise UnavailableError(f"{path}: {text[:80]!r}: {error.strerror}") from error


@contextmanager
def setting_up(tracefs: Tracefs) -> Iterator[None]:
    """Keep other agents from setting up or cleaning up meanwhile.

    Raises:
        UnavailableError: one does so now; or the folder cannot be opened.
    """
    descriptor = _lock(tracefs.root / "instances")
    if descriptor is None:
        raise UnavailableError(f"{tracefs.root}: another agent is being set up: try again", retry_after_s=1.0)
    try:
        yield
    finally:
        os.close(descriptor)


class Claim:
    """A trace instance that says whose something is; call within `setting_up`.

    Args:
        tracefs: Where.
        name: Of the instance; begins with `PREFIX`.

    Raises:
        UnavailableError: the kernel refuses.
    """

    def __init__(self, tracefs: Tracefs, name: str) -> None:
        self.name = name
        self._tracefs = tracefs
        tracefs.make_instance(name)
        self._descriptor = _lock(tracefs.root / "instances" / name)
        with suppress(UnavailableError):  # A megabyte for each processor, of which nothing is used.
            tracefs.write(f"instances/{name}/buffer_size_kb", _BUFFER_KB)

    @property
    def is_held(self) -> bool:
        """Whether it has not ended."""
        return self._descriptor is not None

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Remove the instance after what is done within, and let go of it in any case.

        Where the one fails, so does the other: the instance stays, for a later agent to find.

        Raises:
            UnavailableError: the kernel refuses.
        """
        try:
            yield
            self._tracefs.remove_instance(self.name)
        finally:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None


def abandoned(tracefs: Tracefs) -> list[str]:
    """Return the names of claims whose processes have ended; call within `setting_up`.

    Raises:
        UnavailableError: the instances cannot be listed.
    """
    left = []
    for name in tracefs.list("instances"):
        if name.startswith(PREFIX):
            with suppress(UnavailableError):  # It may end just now.
                descriptor = _lock(tracefs.root / "instances" / name)
                if descriptor is not None:
                    os.close(descriptor)
                    left.append(name)
    return left


def _lock(folder: Path) -> int | None:
    """Lock a folder and return its descriptor; None where somebody else has it locked."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise UnavailableError(f"{folder}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
