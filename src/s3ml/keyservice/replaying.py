"""Read the stored log, and check it against everything that the host cannot make.

The chain, the rules of writing, owners' signatures, the checkpoint's signature, the witnesses' quorum: none
of it needs a secret, so that a replica without keys, or an auditor, reads as a serving replica does. What is
read shows integrity, never freshness: an older state that was whole once passes, unless this reader has seen
a newer one.

Blocking; the caller keeps others out.

Source: docs/spec/log.md, section "Reading".
"""

from collections.abc import Sequence
from dataclasses import dataclass

from s3ml.keyservice.authority import Authority
from s3ml.keyservice.documents import ReleasesEntry
from s3ml.keyservice.errors import ConflictError, HaltedError
from s3ml.keyservice.log import Chain, LogTamperedError, Written
from s3ml.keyservice.state import State, apply
from s3ml.keyservice.storage import Committed, Head, Storage
from s3ml.primitives.clock import RatchetClock
from s3ml.primitives.encoding import tagged_sha256
from s3ml.primitives.errors import S3MLError, UnavailableError
from s3ml.transparency.checkpoint import open_checkpoint
from s3ml.transparency.cosignature import quorum_instant, require_quorum
from s3ml.transparency.merkle import EMPTY_ROOT, Tree
from s3ml.transparency.note import NoteRejectedError

# Entries, and audit records, of one read; storage returns fewer where they are many bytes.
_BATCH = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What holds at one head of the log.

    Args:
        state: What the log says.
        size: Its size.
        root: Its Merkle root.
        checkpoint: The signed note over both, with cosignatures where it is committed; empty before genesis.
        tree: The log's tree, which may have grown since: ask it for `size`.
    """

    state: State
    size: int
    root: bytes
    checkpoint: str
    tree: Tree

    @classmethod
    def empty(cls, tree: Tree) -> "View":
        """Return what holds before genesis."""
        return cls(state=State(), size=0, root=EMPTY_ROOT, checkpoint="", tree=tree)

    @property
    def authority(self) -> Authority:
        """What governs the deployment.

        Raises:
            NotFoundError: there is none yet.
        """
        return self.state.governing


def prove_history(view: View, known_size: int | None) -> tuple[bytes, ...]:
    """Return the proof that the log of `view` extends the one that somebody has seen before.

    Raises:
        ConflictError: they have seen a longer one.
    """
    if known_size is None:
        return ()
    if known_size > view.size:
        raise ConflictError(
            f"log: expected at most {view.size} entries to be known, got {known_size}: "
            "this key service serves an older log than you have seen"
        )
    return view.tree.consistency(known_size, view.size)


def audit_digest(records: Sequence[bytes]) -> str:
    """Return the digest that commits a batch of the audit stream."""
    return tagged_sha256("S3ML audit batch v1", *records).hex()


def check_head(note: str, *, size: int, root: bytes, authority: Authority) -> None:
    """Check that the deployment's checkpoint key signed this head.

    Raises:
        LogTamperedError: it did not, or signed another one.
    """
    try:
        signed = open_checkpoint(note, origin=authority.genesis.origin, key=authority.checkpoint_key)
    except NoteRejectedError as error:
        raise LogTamperedError(f"stored log: {error}") from error
    if (signed.size, signed.root) != (size, root):
        raise LogTamperedError("stored log: is not the one that its checkpoint signs")


def _is_same_head(note: str, other: str) -> bool:
    """Tell whether two notes have the same text, whoever signed them."""
    return note.partition("\n\n")[0] == other.partition("\n\n")[0]


class Reader:
    """The log as far as it was read: what is committed, and what is stored after that.

    Args:
        storage: Untrusted.
        clock: Held in check by the times of entries and of witnesses.

    Attributes:
        chain: Everything that was read, committed or not.
        view: The newest committed head; never goes back.
        stored: The newest stored head, as `view` where nothing is stored after it.
        unstored: The committed head, where the store has lost it and holds the entries.
    """

    def __init__(self, storage: Storage, clock: RatchetClock) -> None:
        self._storage = storage
        self._clock = clock
        self.chain = Chain()
        self.view = View.empty(self.chain.tree)
        self.stored = self.view
        self.unstored: Committed | None = None
        self._mark = self.chain.mark()

    @property
    def is_settled(self) -> bool:
        """Whether nothing is stored that is not committed."""
        return self.stored.size == self.view.size

    def is_unchanged(self, head: Head | None, committed: Committed | None) -> bool:
        """Tell whether what is stored is still what `view` was read from, as far as it is committed.

        What is said of heads is not verified: another answer than this makes the caller read on.
        """
        if head is None or committed is None:
            return self.view.size == 0 and head is None and self.chain.size == 0
        if committed.size != self.view.size or not _is_same_head(committed.note, self.view.checkpoint):
            return False
        return head.size > self.view.size or _is_same_head(head.checkpoint, self.view.checkpoint)

    def read_on(self) -> Head | None:
        """Read what was stored since, and take over what was committed since.

        1. The stored log is not behind what was committed here, nor another one.
        2. Every entry continues the chain, and follows from those before it by the rules of writing; the
           audit stream is what its batches commit to.
        3. The deployment's checkpoint key signed the committed head and the stored one: same size, same root.
        4. The quorum of witnesses that governs at the committed head cosigned it.

        A store that holds every entry and has lost word of what was committed is whole: see `unstored`.

        Returns:
            The stored head, which this reader has read up to; nothing where nothing is stored.

        Raises:
            HaltedError: (1) fails: the store went back, or is another one.
            LogTamperedError: (2), (3) or (4) fails.
            UnavailableError: storage does not answer.
        """
        try:
            return self._read_on()
        except BaseException:
            self.drop_uncommitted()  # What was read in part is read again, and applied, from where it holds.
            raise

    def _read_on(self) -> Head | None:
        head, committed = self._storage.heads()
        self._expect_not_behind(head, committed)  # (1)
        self.unstored = None
        if head is None:
            return None
        if self.stored.size > self.view.size and head.checkpoint != self.stored.checkpoint:
            self.drop_uncommitted()  # What was stored here and never committed may have been replaced.
        if committed is not None and committed.size > self.view.size:
            self._take_over(committed)
        if head.size > self.chain.size:
            state = self._read_entries(self.stored.state, head.size)  # (2)
            self.store(state, head.checkpoint)
        if head.size == self.view.size:
            check_head(head.checkpoint, size=head.size, root=self.view.root, authority=self.view.authority)
        if self.view.size > (committed.size if committed is not None else 0):
            self.unstored = Committed(size=self.view.size, note=self.view.checkpoint)
        return head

    def store(self, state: State, checkpoint: str) -> View:
        """Take note of a stored head up to which the chain has been extended.

        Raises:
            LogTamperedError: the checkpoint is not of this head.
        """
        size, root = self.chain.size, self.chain.tree.root()
        check_head(checkpoint, size=size, root=root, authority=state.governing)  # (3)
        self._clock.observe(self.chain.time)
        self.stored = View(state=state, size=size, root=root, checkpoint=checkpoint, tree=self.chain.tree)
        return self.stored

    def commit(self, note: str) -> View:
        """Take over the stored head, whose committed note is `note`.

        Raises:
            LogTamperedError: the note is of another head, or lacks the quorum.
        """
        authority = self.stored.state.governing
        check_head(note, size=self.stored.size, root=self.stored.root, authority=authority)
        try:
            cosigned = require_quorum(note, authority.witnesses, authority.quorum)  # (4)
        except NoteRejectedError as error:
            raise LogTamperedError(f"stored log: {error}") from error
        if (instant := quorum_instant(cosigned, authority.quorum)) is not None:
            self._clock.observe(instant)
        found = self.stored
        self.view = View(
            state=found.state, size=found.size, root=found.root, checkpoint=note, tree=found.tree
        )
        self.stored, self._mark = self.view, self.chain.mark()
        return self.view

    def drop_uncommitted(self) -> None:
        """Forget what was stored after the newest committed head."""
        self.chain.rollback(self._mark)
        self.stored = self.view

    def _take_over(self, committed: Committed) -> None:
        """Read up to the committed head, and make it the view."""
        if committed.size > self.stored.size:
            state = self._read_entries(self.stored.state, committed.size)  # (2)
            self.store(state, committed.note)
        elif committed.size < self.stored.size:
            self.drop_uncommitted()
            self._take_over(committed)
            return
        self.commit(committed.note)

    def _expect_not_behind(self, head: Head | None, committed: Committed | None) -> None:
        size, known = self.view.size, (head.size if head else 0, committed.size if committed else 0)
        if known[0] < size:
            raise HaltedError(
                f"key service: the database went back: it holds {known[1]} committed entries of {known[0]}, "
                f"and this replica has seen {size}: restore the newest database, or point this replica at it"
            )
        if known[1] > known[0]:
            raise LogTamperedError("stored log: the committed head is ahead of the stored one")

    def _read_entries(self, state: State, end: int) -> State:
        records = _Records(self._storage)
        while self.chain.size < end:
            start = self.chain.size
            found = self._storage.entries(start, min(start + _BATCH, end))
            if not found:
                raise LogTamperedError(f"stored log: number of entries: expected {end}, got {start}")
            for data in found:
                state = self._read_entry(state, data, records)
        return state

    def _read_entry(self, state: State, data: bytes, records: "_Records") -> State:
        index = self.chain.size
        try:
            entry = self.chain.append(data)
            state = apply(state, Written(data=data, entry=entry))
            if isinstance(entry.body, ReleasesEntry):
                _check_audit(entry.body, records)
        except UnavailableError:
            raise
        except S3MLError as error:
            raise LogTamperedError(f"stored log: entry {index}: {error}") from error
        return state


class _Records:
    """The audit stream, read in order and ahead: what an entry commits to is then mostly here already.

    Args:
        storage: Untrusted.
    """

    __slots__ = ("_ahead", "_start", "_storage")

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._start = 0
        self._ahead: list[bytes] = []

    def take(self, first: int, count: int) -> list[bytes]:
        """Return the records from index `first` on, `count` of them; fewer where there are fewer."""
        if first != self._start:
            self._start, self._ahead = first, []
        while (known := len(self._ahead)) < count:
            found = self._storage.audit(first + known, first + max(count, known + _BATCH))
            if not found:
                break
            self._ahead += found
        taken, self._ahead = self._ahead[:count], self._ahead[count:]
        self._start += len(taken)
        return taken


def _check_audit(entry: ReleasesEntry, records: _Records) -> None:
    found = records.take(entry.first, entry.count)
    if len(found) != entry.count or audit_digest(found) != entry.sha256:
        raise LogTamperedError("the audit records are not those that it commits to")
