"""The rule of a witness, pure: whether a checkpoint may be cosigned.

Source: C2SP tlog-witness v1.0.0, section "add-checkpoint".
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from s3ml.primitives.signing import VerifyKey
from s3ml.transparency.merkle import EMPTY_ROOT, ProofRejectedError, verify_consistency
from s3ml.transparency.note import NoteRejectedError
from s3ml.transparency.witness.request import AddCheckpoint


class Verdict(StrEnum):
    """What a witness says to a request."""

    COSIGN = "cosign"
    MALFORMED = "malformed"
    UNKNOWN_LOG = "unknown-log"
    UNSIGNED = "unsigned"
    STALE = "stale"
    INCONSISTENT = "inconsistent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Latest:
    """The newest head of a log that this witness cosigned.

    Args:
        size: The number of entries.
        root: The Merkle root over them.
        time: The newest time that was stated of this log, aware UTC.
    """

    size: int
    root: bytes
    time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What a witness knows of a log.

    Args:
        keys: Any of which may sign its checkpoints.
        latest: Nothing before the first cosignature.
    """

    keys: tuple[VerifyKey, ...]
    latest: Latest | None

    @property
    def known_size(self) -> int:
        """The size of the newest head, 0 before the first."""
        return self.latest.size if self.latest is not None else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A verdict, and what a person or a client needs to know of it.

    Args:
        verdict: What is said.
        detail: In words; for a log line and a reply.
        known_size: The size of the newest head that was cosigned, where the log is known.
    """

    verdict: Verdict
    detail: str = ""
    known_size: int = 0


def decide(watched: Watched | None, request: AddCheckpoint) -> Outcome:
    """Decide whether the checkpoint of `request` may be cosigned.

    1. The log is known.
    2. One of its keys signed the checkpoint, and no line of a known key fails.
    3. The old size is at most the checkpoint's.
    4. The old size is that of the newest head that was cosigned, 0 before the first.
    5. A checkpoint of size 0 has the root of the empty tree.
    6. From size 0 there is no proof; from any other size, the proof shows that the log was only appended to.
       Of equal sizes, no proof is needed and the roots are equal.

    Args:
        watched: What is known of the checkpoint's log; nothing where the log is unknown.
        request: From an untrusted peer.
    """
    checkpoint, origin = request.checkpoint, request.checkpoint.origin
    if watched is None:  # (1)
        return Outcome(verdict=Verdict.UNKNOWN_LOG, detail="no log of this origin is configured")
    try:  # (2)
        is_signed = [request.note.is_signed(origin, key) for key in watched.keys]
    except NoteRejectedError as error:
        return Outcome(verdict=Verdict.UNSIGNED, detail=f"{error}")
    if not any(is_signed):
        return Outcome(verdict=Verdict.UNSIGNED, detail="expected a signature of a known key of this log")
    if request.old_size > checkpoint.size:  # (3)
        return Outcome(
            verdict=Verdict.MALFORMED,
            detail=f"expected an old size of at most {checkpoint.size}, got {request.old_size}",
        )
    known_size = watched.known_size
    if request.old_size != known_size:  # (4)
        return Outcome(
            verdict=Verdict.STALE,
            detail=f"expected the old size {known_size}, got {request.old_size}",
            known_size=known_size,
        )
    if failure := _inconsistency(watched, request):  # (5), (6)
        return Outcome(verdict=Verdict.INCONSISTENT, detail=failure, known_size=known_size)
    return Outcome(verdict=Verdict.COSIGN, known_size=known_size)


def _inconsistency(watched: Watched, request: AddCheckpoint) -> str:
    """Return why the checkpoint does not append to what was cosigned; nothing where it does."""
    checkpoint = request.checkpoint
    if checkpoint.size == 0 and checkpoint.root != EMPTY_ROOT:
        return "expected the root of the empty tree"
    if watched.latest is None or watched.latest.size == 0:
        return "expected no proof from size 0" if request.proof else ""
    latest = watched.latest
    try:
        verify_consistency(latest.size, latest.root, checkpoint.size, checkpoint.root, request.proof)
    except ProofRejectedError as error:
        return f"{error}"
    return ""
