"""A verified fake of Linux's configfs-tsm. SIMULATED: its reports are a simulated platform's.

Source: Linux, Documentation/ABI/testing/configfs-tsm, drivers/virt/coco/tsm.c and fs/configfs/file.c: an
entry counts its writes, a report is made at the first read after a write, a read without inblob is EINVAL,
inblob is taken when its file is closed and what becomes of it is ignored, attributes that a provider has no
use for are not there.
"""

import errno
import io
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.attestation.fakes.pseudo_files import Parts, PseudoPath, Reader, Writer, WriterAtClose, failure

INBLOB_LIMIT_BYTES = 64
PRIVLEVEL_MAX = 3
READABLE = ("generation", "outblob", "provider")
READABLE_SNP = (*READABLE, "auxblob", "privlevel_floor")
WRITABLE = ("inblob",)
WRITABLE_SNP = (*WRITABLE, "privlevel")


@dataclass
class FakeEntry:
    """One request's state in the kernel."""

    inblob: bytes = b""
    privlevel: int = 0
    write_generation: int = 0
    read_generation: int = 0
    outblob: bytes | None = None
    auxblob: bytes = b""
    writes: list[str] = field(default_factory=list)

    def advance(self, attribute: str) -> None:
        self.write_generation += 1
        self.writes.append(attribute)


# Called before all that is done to an entry, with what is done and to which attribute; may raise OSError.
Interference = Callable[[str, str, FakeEntry], None]


class FakeTsm:
    """The folder ``report``.

    Args:
        provider: ``tdx_guest`` or ``sev_guest``; None where no module made itself known.
        reporting: Makes the report that carries an inblob, at a privilege level; may raise OSError.
        table: The host's table of certificates.
        floor: The lowest privilege level that may be asked for.
    """

    def __init__(
        self,
        provider: str | None,
        reporting: Callable[[bytes, int], bytes],
        *,
        table: bytes = b"",
        floor: int = 0,
    ) -> None:
        self.provider = provider
        self.reporting = reporting
        self.table = table
        self.floor = floor
        self.interfere: Interference = lambda _action, _attribute, _entry: None
        self.texts: dict[str, bytes] = {}  # what an attribute says instead of the truth
        self.entries: dict[str, FakeEntry] = {}
        self.names: list[str] = []
        self._lock = threading.RLock()

    @property
    def root(self) -> PseudoPath:
        return PseudoPath(self)

    def exists(self, path: Parts) -> bool:
        if len(path) < 2:
            return path == () or path[0] in self.entries
        return path[0] in self.entries and path[1] in (*self._readable(), *self._writable())

    def mkdir(self, path: Parts) -> None:
        (name,) = path
        with self._lock:
            if name in self.entries:
                raise failure(errno.EEXIST, path)
            if self.provider is None:
                raise failure(errno.ENXIO, path)
            entry = FakeEntry()
            self.interfere("mkdir", "", entry)
            self.entries[name] = entry
            self.names.append(name)

    def rmdir(self, path: Parts) -> None:
        with self._lock:
            entry = self._entry(path)
            self.interfere("rmdir", "", entry)
            del self.entries[path[0]]

    def reader(self, path: Parts) -> io.RawIOBase:
        entry = self._attribute(path, self._readable())
        return Reader(lambda: self._load(entry, path))

    def writer(self, path: Parts) -> io.RawIOBase:
        entry = self._attribute(path, self._writable())
        if path[1] == "inblob":
            return WriterAtClose(lambda data: self._store(entry, path, data), limit_bytes=INBLOB_LIMIT_BYTES)
        return Writer(lambda data: self._store(entry, path, data))

    def _readable(self) -> Sequence[str]:
        return READABLE_SNP if self.provider == "sev_guest" else READABLE

    def _writable(self) -> Sequence[str]:
        return WRITABLE_SNP if self.provider == "sev_guest" else WRITABLE

    def _entry(self, path: Parts) -> FakeEntry:
        try:
            return self.entries[path[0]]
        except KeyError:
            raise failure(errno.ENOENT, path) from None

    def _attribute(self, path: Parts, allowed: Sequence[str]) -> FakeEntry:
        """Find an attribute that may be used like this; what does not exist cannot be made either."""
        with self._lock:
            entry = self._entry(path)
            if path[1] not in allowed:
                raise failure(errno.EACCES, path)
            return entry

    def _store(self, entry: FakeEntry, path: Parts, data: bytes) -> None:
        with self._lock:
            self.interfere("write", path[1], entry)
            if path[1] == "inblob":
                entry.inblob = data
            else:
                level = int(data)
                if not self.floor <= level <= PRIVLEVEL_MAX:
                    raise failure(errno.EINVAL, path)
                entry.privlevel = level
            entry.advance(path[1])

    def _load(self, entry: FakeEntry, path: Parts) -> bytes:
        with self._lock:
            self.interfere("read", path[1], entry)
            if path[1] in self.texts:
                return self.texts[path[1]]
            match path[1]:
                case "generation":
                    return f"{entry.write_generation}\n".encode()
                case "provider":
                    return f"{self.provider}\n".encode()
                case "privlevel_floor":
                    return f"{self.floor}\n".encode()
                case blob:
                    return self._report(entry, path, blob)

    def _report(self, entry: FakeEntry, path: Parts, blob: str) -> bytes:
        if not entry.inblob:
            raise failure(errno.EINVAL, path)
        if entry.outblob is None or entry.read_generation != entry.write_generation:
            entry.outblob = self.reporting(entry.inblob, entry.privlevel)
            entry.auxblob = self.table
            entry.read_generation = entry.write_generation
        return entry.outblob if blob == "outblob" else entry.auxblob
