"""What the emulation changed on this machine, written down before it is changed.

One file for all nodes of a machine, replaced whole, under one lock. It outlives whoever wrote it, so that a
later command restores what a killed one left. It is root's and tells no secret.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from s3ml.primitives.errors import ConfigurationError, UnavailableError
from s3ml.primitives.files import read_limited, write_atomically
from s3ml.primitives.units import KIB

STATE_FOLDER = Path("/run/s3ml-epc")
STATE_LIMIT_BYTES = 256 * KIB
NODES_LIMIT = 256
_FILE, _LOCK = "state.json", "lock"
_OTHERS_MAY_WRITE = 0o022

Number = Annotated[int, msgspec.Meta(ge=0, le=2**40)]
Size = Annotated[int, msgspec.Meta(ge=0, le=2**50)]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Swap(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The compressed memory that evicted pages go to.

    Attributes:
        device: The number of the zram device; None while one is being added.
        is_added: Whether the device is there for the emulation alone.
        algorithm_before: How it compressed.
        devices_before: The devices that there were.
    """

    device: Number | None
    is_added: bool
    algorithm_before: Text | None
    devices_before: Annotated[tuple[Number, ...], msgspec.Meta(max_length=1024)]


class Holder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The process that relieves a node; a number alone could be another process's later.

    Attributes:
        pid: Its number.
        started_ticks: When it was started, in the kernel's ticks since boot.
    """

    pid: Number
    started_ticks: Number


class Node(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A node: the size of its EPC, and who relieves it; None until it is there."""

    size_bytes: Size
    holder: Holder | None = None


class State(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that has to be restored, and the nodes that are up.

    Attributes:
        boot_id: The run of the kernel that it is about.
        page_cluster_before: ``vm.page-cluster`` as it was.
    """

    version: Literal[1] = 1
    boot_id: Text
    page_cluster_before: Number
    swap: Swap
    nodes: Annotated[dict[Text, Node], msgspec.Meta(max_length=NODES_LIMIT)]

    def with_node(self, name: str, node: Node | None) -> "State":
        """Return this state with a node put or, for None, taken away."""
        others = {other: known for other, known in self.nodes.items() if other != name}
        return msgspec.structs.replace(self, nodes=others if node is None else {**others, name: node})


def parse_state(data: bytes) -> State:
    """Parse a state.

    Raises:
        ConfigurationError: it is none of version 1.
    """
    try:
        return msgspec.json.decode(data, type=State)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(f"emulated EPC: its state: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """Where the state lies.

    Args:
        folder: Root's own; made when it is needed, and removed when it is empty.
    """

    folder: Path = STATE_FOLDER

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only one to change the machine, for as long as this lasts or the process lives.

        Raises:
            ConfigurationError: the folder cannot be used.
        """
        descriptor = self._lock()
        try:
            yield
        finally:
            if not (self.folder / _FILE).exists():
                with contextlib.suppress(OSError):  # The folder stays where anything else is in it.
                    (self.folder / _LOCK).unlink()
                    self.folder.rmdir()
            os.close(descriptor)

    def read(self) -> State | None:
        """Return the state, or nothing where nothing was changed.

        Raises:
            ConfigurationError: it cannot be read, or is none.
        """
        path = self.folder / _FILE
        try:
            if not path.exists():
                return None
            self._check_owner()
        except OSError as error:
            raise ConfigurationError(f"emulated EPC: {self.folder}: {error.strerror}") from error
        try:
            return parse_state(read_limited(path, limit_bytes=STATE_LIMIT_BYTES, what="state"))
        except ConfigurationError:
            if not path.exists():  # Taken away between the two looks.
                return None
            raise

    def write(self, state: State | None) -> None:
        """Replace the state; None takes it away, once everything is restored.

        Raises:
            ConfigurationError: it cannot be written.
            UnavailableError: it cannot be taken away.
        """
        path = self.folder / _FILE
        try:
            for partial in self.folder.glob(f".{_FILE}.*"):  # What killed commands did not finish.
                partial.unlink(missing_ok=True)
            if state is None:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise UnavailableError(f"emulated EPC: {path}: {error.strerror}") from error
        if state is not None:
            write_atomically(path, msgspec.json.encode(state), mode=0o600)

    def _lock(self) -> int:
        """Return a descriptor of the lock, held; whoever held it before may have taken the file away."""
        path = self.folder / _LOCK
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            while True:
                with contextlib.suppress(FileExistsError):
                    self.folder.mkdir(mode=0o700)
                with contextlib.suppress(FileNotFoundError):  # Taken away just now: once more.
                    self._check_owner()
                    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
                    if _is_still(path, descriptor):
                        return descriptor
                    os.close(descriptor)
        except OSError as error:
            raise ConfigurationError(f"emulated EPC: {self.folder}: {error.strerror}") from error

    def _check_owner(self) -> None:
        """Refuse a folder that others may write to: the state says what to kill and what to reset."""
        status = self.folder.stat()
        if status.st_uid != os.geteuid() or status.st_mode & _OTHERS_MAY_WRITE:
            raise ConfigurationError(
                f"emulated EPC: {self.folder}: expected a folder that only its owner, this user, can write to"
            )


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
