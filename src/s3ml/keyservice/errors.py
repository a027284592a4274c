"""Why the key service says no: each kind of refusal is one type, and its edge maps it to one HTTP status."""

from collections.abc import Iterable

from s3ml.keyservice.documents import Mismatch
from s3ml.primitives.errors import ConfigurationError, UnavailableError, UntrustedPeerError


class RefusedError(UntrustedPeerError):
    """Checks failed.

    Args:
        what: What was refused.
        mismatches: Every check that failed, at least one.
    """

    def __init__(self, what: str, mismatches: Iterable[Mismatch]) -> None:
        self.mismatches = tuple(mismatches)
        lines = "; ".join(f"{m.claim}: expected {m.expected}, got {m.got}" for m in self.mismatches)
        super().__init__(f"{what}: {lines}")


class NotFoundError(ConfigurationError):
    """There is no such service, entry or deployment."""


class ConflictError(ConfigurationError):
    """The request is about a state that has passed; read it anew and try again."""


class BusyError(UnavailableError):
    """Too many requests wait already."""


class HaltedError(UnavailableError):
    """What is stored is not, or no longer, the log that was committed: nothing is served from it."""


class UncommittedError(UnavailableError):
    """A change is stored, but too few witnesses have cosigned it: nothing follows from it until they do."""


class NotServingError(UnavailableError):
    """This replica has no keys, or no proof that its state is the newest."""


class GenerationMissingError(UnavailableError):
    """This replica lacks the generation key of an epoch."""


def mismatch(claim: str, *, expected: object, got: object) -> Mismatch:
    """Name one failed check."""
    return Mismatch(claim=claim, expected=f"{expected}"[:500], got=f"{got}"[:500])
