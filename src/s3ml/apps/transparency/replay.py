"""Check a log by the very code that the key service reads it back with, in numbered steps.

Offline: nothing is trusted but the id of the deployment, which is the hash of the log's first entry.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from s3ml.apps.transparency.sources import LogSource
from s3ml.keyservice.authority import Authority
from s3ml.keyservice.documents import LogEntry
from s3ml.keyservice.genesis import identify_genesis
from s3ml.keyservice.log import Chain, Written, deployment_id, parse_entry
from s3ml.keyservice.state import State, apply
from s3ml.primitives.errors import S3MLError, UntrustedPeerError
from s3ml.transparency.checkpoint import Checkpoint, parse_checkpoint
from s3ml.transparency.cosignature import QuorumMissingError, require_quorum
from s3ml.transparency.note import Note, NoteRejectedError

GENESIS, CHAIN, RULES, ROOT, SIGNATURE, QUORUM = range(1, 7)
TITLES: Mapping[int, str] = {
    GENESIS: "The log begins with the genesis of this deployment, signed by enough of its owners",
    CHAIN: "Every entry continues the one before it",
    RULES: "Every entry follows by the rules of writing; all signatures in it hold",
    ROOT: "There are as many entries as the checkpoint names, with the root that it names",
    SIGNATURE: "The deployment's key signed the checkpoint",
    QUORUM: "The witnesses that govern cosigned it",
}


class LogRejectedError(UntrustedPeerError):
    """A log fails a check.

    Args:
        step: The number of the step that failed.
        why: What was expected and what was got.
    """

    def __init__(self, step: int, why: str) -> None:
        super().__init__(f"log: step {step} fails: {why}")
        self.step = step


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedHead:
    """A head of a log of which every step held.

    Args:
        note: The checkpoint's note.
        size: The number of entries.
        root: Their Merkle root.
        cosigned: Which witnesses cosigned it, and when they say they did.
        authority: What governs at it.
    """

    note: str
    size: int
    root: bytes
    cosigned: Mapping[str, datetime]
    authority: Authority


class Replay:
    """A log as far as it was read and found good.

    Args:
        deployment: The pinned id, 64 hexadecimal digits.

    Attributes:
        kinds: How many entries of each kind were read.
    """

    def __init__(self, deployment: str) -> None:
        self._deployment = deployment
        self._chain = Chain()
        self._state = State()
        self.kinds: Counter[str] = Counter()

    @property
    def size(self) -> int:
        """The number of entries read."""
        return self._chain.size

    def root(self, size: int) -> bytes:
        """Return the Merkle root of the first `size` entries."""
        return self._chain.tree.root(size)

    def read(self, data: bytes) -> LogEntry:
        """Take the next entry, of which steps 1 to 3 hold.

        Args:
            data: Its bytes, from anybody.

        Raises:
            LogRejectedError: one of them fails.
        """
        index = self.size
        try:
            place = parse_entry(data).index
        except S3MLError as error:
            raise LogRejectedError(CHAIN, f"entry {index}: cannot be read: {error}") from error
        if place != index:
            why = "entries are missing or moved" if place > index else "an entry is repeated or moved"
            raise LogRejectedError(CHAIN, f"expected entry {index}, got entry {place}: {why}")
        if index == 0:
            self._identify(data)
        try:
            entry = self._chain.append(data)
        except S3MLError as error:
            raise LogRejectedError(CHAIN, f"{error}: one of the two was changed or replaced") from error
        try:
            self._state = apply(self._state, Written(data=data, entry=entry))
        except S3MLError as error:
            raise LogRejectedError(RULES, f"entry {index}: {error}") from error
        self.kinds[str(entry.body.__struct_config__.tag)] += 1
        return entry

    def verify_head(self, note: str) -> VerifiedHead:
        """Return the head that `note` names, where it is that of everything read, and steps 4 to 6 hold.

        Raises:
            LogRejectedError: one of them fails.
        """
        if self._state.authority is None:
            raise LogRejectedError(GENESIS, "expected a genesis entry, got an empty log")
        authority, size = self._state.authority, self.size
        checkpoint, parsed = self._named(note, authority)
        if checkpoint.size != size:
            why = (
                "entries are missing at the end" if checkpoint.size > size else "there are more than it names"
            )
            raise LogRejectedError(ROOT, f"number of entries: expected {checkpoint.size}, got {size}: {why}")
        if checkpoint.root != self.root(size):
            raise LogRejectedError(
                ROOT, f"root of {size} entries: expected {checkpoint.root.hex()}, got {self.root(size).hex()}"
            )
        try:
            is_signed = parsed.is_signed(checkpoint.origin, authority.checkpoint_key)
            if not is_signed:
                raise LogRejectedError(SIGNATURE, "checkpoint: expected a signature of the deployment's key")
        except NoteRejectedError as error:
            raise LogRejectedError(SIGNATURE, f"{error}") from error
        try:
            cosigned = require_quorum(note, authority.witnesses, authority.quorum)
        except QuorumMissingError as error:
            raise LogRejectedError(QUORUM, f"{error}") from error
        return VerifiedHead(
            note=note, size=size, root=checkpoint.root, cosigned=cosigned, authority=authority
        )

    def _identify(self, data: bytes) -> None:
        found = deployment_id(data)
        if found != self._deployment:
            raise LogRejectedError(
                GENESIS,
                f"deployment: expected {self._deployment}, got {found}: another log, or another genesis",
            )
        try:
            identify_genesis(data)
        except S3MLError as error:
            raise LogRejectedError(GENESIS, f"genesis: {error}") from error

    def _named(self, note: str, authority: Authority) -> tuple[Checkpoint, Note]:
        try:
            parsed = Note.parse(note)
            checkpoint = parse_checkpoint(parsed.text)
        except NoteRejectedError as error:
            raise LogRejectedError(SIGNATURE, f"{error}") from error
        origin = authority.genesis.origin
        if checkpoint.origin != origin:
            raise LogRejectedError(
                SIGNATURE, f"checkpoint: expected one of {origin}, got one of {checkpoint.origin[:100]}"
            )
        return checkpoint, parsed


def size_of(note: str) -> int:
    """Return the number of entries that `note` names; nothing of it is verified.

    Raises:
        LogRejectedError: it is no checkpoint.
    """
    try:
        return parse_checkpoint(Note.parse(note).text).size
    except NoteRejectedError as error:
        raise LogRejectedError(SIGNATURE, f"{error}") from error


def audit(source: LogSource, deployment: str) -> tuple[VerifiedHead, Replay]:
    """Check a whole log, steps 1 to 6.

    Args:
        source: The log, from anybody.
        deployment: The pinned id.

    Raises:
        LogRejectedError: a step fails.
        ConfigurationError: the source is a file that cannot be read.
        UnavailableError: the source does not answer.
    """
    replay, note = Replay(deployment), source.checkpoint()
    for data in source.entries(0, size_of(note)):
        replay.read(data)
    return replay.verify_head(note), replay


def steps_of(head: VerifiedHead, kinds: Mapping[str, int]) -> list[tuple[int, str, str]]:
    """Return number, title and finding of every step of a log that held them all."""
    genesis, authority = head.authority.genesis, head.authority
    owners = ", ".join(owner.name for owner in genesis.proposal.owners)
    counted = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    if authority.quorum:
        names = ", ".join(f"{name} at {at.isoformat()}" for name, at in head.cosigned.items())
        cosigned = f"{len(head.cosigned)} of {len(authority.witnesses)}, expected {authority.quorum}: {names}"
    else:
        cosigned = "the deployment names no witnesses: NOT FORK-PROTECTED"
    findings = {
        GENESIS: f"{genesis.deployment}; {genesis.proposal.threshold} of {owners}",
        CHAIN: f"{head.size} entries",
        RULES: counted,
        ROOT: head.root.hex(),
        SIGNATURE: f"{authority.checkpoint_key}",
        QUORUM: cosigned,
    }
    return [(number, TITLES[number], findings[number]) for number in TITLES]
