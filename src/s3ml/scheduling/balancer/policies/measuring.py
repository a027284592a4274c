"""What a balancer measured itself of a replica: how long an answer takes there; and the quantile of a few."""

from collections.abc import Sequence
from math import floor

from s3ml.scheduling.balancer.view import Replica


def measured_service_s(replica: Replica) -> float | None:
    """Return how long a replica works for one answer, without the wait behind others; None before the first.

    Where only latency was measured, Little's law tells how many were there in the mean, and so how much of it
    was waiting.
    """
    if replica.service_s is not None:
        return replica.service_s
    if replica.latency_s is None:
        return None
    in_mean = (replica.rate_rps or 0.0) * replica.latency_s
    return replica.latency_s / max(1.0, in_mean)


def quantile(values: Sequence[int], share: float) -> int:
    """Return the value below which about `share` of the values lie; by nearest rank, downwards.

    Args:
        values: At least one.
        share: From 0 to 1.
    """
    return sorted(values)[floor(share * (len(values) - 1))]
