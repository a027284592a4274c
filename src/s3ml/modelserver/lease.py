"""When to ask the key service again: decisions alone, without clock, network or randomness of their own."""

from dataclasses import dataclass
from enum import Enum, auto

# A third leaves room for two more attempts before the lease ends.
RENEWAL_SHARE = 1 / 3
FIRST_RETRY_S = 0.25
# Short, so that a replica which waits for its service is ready soon after owners have signed it.
LAST_RETRY_S = 2.0
REFUSED_RETRY_S = 10.0
MODEL_RETRY_S = 5.0


class Outcome(Enum):
    """How an attempt to get or renew a lease ended."""

    GRANTED = auto()
    INCOMPLETE = auto()
    UNAVAILABLE = auto()
    REFUSED = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The permission to hold keys between two monotonic instants.

    Args:
        begins_at_s: When the release was asked for: earlier than when it was granted, never later.
        lease_s: What the key service allows.
    """

    begins_at_s: float
    lease_s: float

    @property
    def ends_at_s(self) -> float:
        """When the keys must be gone."""
        return self.begins_at_s + self.lease_s


def delay_s(outcome: Outcome, *, attempt: int, lease: Lease | None, now_s: float, jitter: float) -> float:
    """Return how long to wait before the next attempt.

    Args:
        outcome: Of the last attempt.
        attempt: How many attempts in a row have failed, this one included; 0 after a success.
        lease: What is held, if anything.
        now_s: Monotonic.
        jitter: 0 to 1, drawn anew each time, so that replicas do not ask in step.
    """
    spread = 1 - 0.5 * jitter
    if outcome is Outcome.GRANTED and lease is not None:
        renew_at_s = lease.begins_at_s + lease.lease_s * RENEWAL_SHARE * spread
        return max(renew_at_s - now_s, FIRST_RETRY_S)
    if outcome is Outcome.INCOMPLETE:
        return MODEL_RETRY_S * spread
    if outcome is Outcome.REFUSED:
        return REFUSED_RETRY_S * spread
    exponential_s: float = FIRST_RETRY_S * 2.0 ** min(attempt - 1, 8)
    return min(exponential_s, LAST_RETRY_S) * spread
