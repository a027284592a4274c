"""The log's entries: how one is built, read, hashed and chained.

Every entry names its index, the leaf hash before it, the deployment, and a time that never runs backwards.
The first entry is genesis; the hash of its bytes is the deployment's id.

Source: docs/spec/log.md.
"""

from dataclasses import dataclass
from datetime import datetime

from s3ml.keyservice.documents import EntryBody, GenesisEntry, LogEntry
from s3ml.keyservice.parsing import encode_document, parse_document
from s3ml.primitives.encoding import tagged_sha256
from s3ml.primitives.errors import UntrustedPeerError
from s3ml.primitives.units import MIB
from s3ml.transparency.merkle import Tree, leaf_hash

ENTRY_LIMIT_BYTES = 4 * MIB
NO_PREVIOUS = "0" * 64

Body = EntryBody


class LogTamperedError(UntrustedPeerError):
    """The stored log is not the one that this key service wrote."""


def deployment_id(genesis: bytes) -> str:
    """Return the id of the deployment whose first entry has the bytes `genesis`."""
    return tagged_sha256("S3ML deployment v1", genesis).hex()


def origin(deployment: str) -> str:
    """Return the name of the log of `deployment`, as checkpoints carry it."""
    return f"s3ml/{deployment}"


def parse_entry(data: bytes) -> LogEntry:
    """Parse a log entry, at most 4 MiB.

    Raises:
        DocumentMalformedError: malformed.
    """
    return parse_document(data, LogEntry, what="log entry", limit_bytes=ENTRY_LIMIT_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """An entry with its bytes."""

    data: bytes
    entry: LogEntry


class Chain:
    """The tree of a log, and what the next entry must carry."""

    __slots__ = ("_previous_time", "deployment", "tree")

    def __init__(self) -> None:
        self.tree = Tree()
        self.deployment = ""
        self._previous_time: datetime | None = None

    @property
    def size(self) -> int:
        """The number of entries."""
        return len(self.tree)

    @property
    def time(self) -> datetime:
        """When the newest entry was written; of a log that has one."""
        if self._previous_time is None:
            raise AssertionError("an empty log has no time")
        return self._previous_time

    def build(self, body: Body, *, time: datetime) -> Written:
        """Build the next entry; it is not appended yet."""
        entry = LogEntry(
            index=self.size, previous=self._previous(), deployment=self.deployment, time=time, body=body
        )
        return Written(data=encode_document(entry), entry=entry)

    def append(self, data: bytes) -> LogEntry:
        """Append stored bytes when they are the next entry.

        Raises:
            LogTamperedError: another index, chain, deployment, kind or time than the next entry's.
            DocumentMalformedError: malformed.
        """
        entry = parse_entry(data)
        index = self.size
        if entry.index != index or entry.previous != self._previous():
            raise LogTamperedError(f"log entry {index}: does not continue the entry before it")
        if isinstance(entry.body, GenesisEntry) != (index == 0) or entry.deployment != self.deployment:
            expected = self.deployment or "yet to be made"
            raise LogTamperedError(f"log entry {index}: expected an entry of the deployment {expected}")
        if self._previous_time is not None and entry.time < self._previous_time:
            raise LogTamperedError(f"log entry {index}: time runs backwards")
        if index == 0:
            self.deployment = deployment_id(data)
        self._previous_time = entry.time
        self.tree.append(leaf_hash(data))
        return entry

    def mark(self) -> tuple[int, datetime | None]:
        """Return where the log stands, for `rollback`."""
        return self.size, self._previous_time

    def rollback(self, mark: tuple[int, datetime | None]) -> None:
        """Forget the entries appended since `mark`: they were not stored."""
        size, self._previous_time = mark
        self.tree.truncate(size)
        if size == 0:
            self.deployment = ""

    def _previous(self) -> str:
        return self.tree.leaf(self.size - 1).hex() if self.size else NO_PREVIOUS
