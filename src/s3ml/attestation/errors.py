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


class EvidenceMalformedError(UntrustedPeerError):
    """Evidence that cannot be parsed; nothing in it was considered."""


class EvidenceRejectedError(UntrustedPeerError):
    """Evidence that was read and does not prove what was asked.

    Args:
        mismatches: Every check that failed, at least one.
    """

    def __init__(self, mismatches: Iterable[Mismatch]) -> None:
        self.mismatches = tuple(mismatches)
        super().__init__("evidence rejected: " + "; ".join(str(mismatch) for mismatch in self.mismatches))
