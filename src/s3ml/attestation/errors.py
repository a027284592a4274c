"""What can be wrong with evidence: it cannot be read, or it does not prove what is asked of it."""

from collections.abc import Iterable
from dataclasses import dataclass

from s3ml.primitives.errors import UntrustedPeerError


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """One failed check: the claim it is about, what was expected and what was got."""

    claim: str
    expected: str
    got: str

    def __str__(self) -> str:
        return f"{self.claim}: expected {self.expected}, got {self.got}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One numbered step of verification, for people to read: whether it holds, and why."""

    number: int
    title: str
    detail: str
    holds: bool = True


class EvidenceMalformedError(UntrustedPeerError):
    """Evidence that cannot be parsed; nothing in it was considered."""


class EvidenceRejectedError(UntrustedPeerError):
    """Evidence that was read and does not prove what was asked.

    Args:
        mismatches: Every check that failed, at least one.
        steps: Every step of the verification with its outcome; none where it ended at the first.
    """

    def __init__(self, mismatches: Iterable[Mismatch], steps: Iterable[Step] = ()) -> None:
        self.mismatches = tuple(mismatches)
        self.steps = tuple(steps)
        super().__init__("evidence rejected: " + "; ".join(str(mismatch) for mismatch in self.mismatches))
