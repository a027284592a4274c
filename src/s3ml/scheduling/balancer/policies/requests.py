"""Policies that count requests in flight: the least of all, and the lesser of two that are drawn.

Their shares are equal: what has requests in flight is told by the data plane itself, newer than any step.

Source: M. Mitzenmacher, "The power of two choices in randomized load balancing", 2001.
"""

from dataclasses import dataclass
from random import Random

from s3ml.scheduling.balancer.policies.dividing import equal
from s3ml.scheduling.balancer.policies.drawing import least, nobody, reasons_of, some
from s3ml.scheduling.balancer.view import Choice, Reason, Replica, Shares, View


def least_busy(view: View, among: int | None, draw: Random, *, reason: Reason = Reason.CHOSEN) -> Choice:
    """Choose the replica with the fewest requests in flight.

    Args:
        view: The fleet.
        among: How many are drawn and compared; None for all.
        draw: For that, and for ties.
        reason: What is said of the chosen one.
    """
    ready = view.ready
    if not ready:
        return nobody(view)
    compared = ready if among is None else some(ready, among, draw)
    chosen = least(compared, _in_flight, draw)
    reasons = reasons_of(view, Reason.NOT_DRAWN)
    reasons.update(
        (replica.name, Reason.BUSIER) for replica in compared if replica.in_flight > chosen.in_flight
    )
    reasons[chosen.name] = reason
    return Choice(replica=chosen.name, reasons=reasons)


def _in_flight(replica: Replica) -> float:
    return replica.in_flight


@dataclass(frozen=True, slots=True)
class LeastRequest:
    """The ready replica with the fewest requests in flight."""

    name: str = "least-request"

    def pick(self, view: View, draw: Random) -> Choice:
        """Choose the least busy of all."""
        return least_busy(view, None, draw)

    def shares(self, view: View) -> Shares:
        """Divide equally."""
        return equal(view)


@dataclass(frozen=True, slots=True)
class PowerOfTwo:
    """Of two ready replicas that are drawn, the one with fewer requests in flight."""

    name: str = "power-of-two"

    def pick(self, view: View, draw: Random) -> Choice:
        """Choose the less busy of two."""
        return least_busy(view, 2, draw)

    def shares(self, view: View) -> Shares:
        """Divide equally."""
        return equal(view)
