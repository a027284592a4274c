"""Shares as the whole numbers that a gateway takes for weights; pure."""

from collections.abc import Mapping

from s3ml.scheduling.balancer.view import Shares, View

MEAN_WEIGHT = 100
"""What a replica with a fair share gets, so that a change of a hundredth of it counts."""
LEAST_WEIGHT = 1
"""0 is refused by Envoy; 1 beside 100 is about one request in a hundred."""
WEIGHT_LIMIT = 1_000_000


def weights(view: View, shares: Shares) -> Mapping[str, int]:
    """Turn shares into a weight for each replica of the view.

    Replicas that are not ready get the mean: the gateway sends them nothing until they are, and if no
    balancer were there by then, that is what they should have.
    """
    count = max(1, len(view.ready))
    found: dict[str, int] = {}
    for replica in view.replicas:
        if replica.is_ready:
            share = shares.share.get(replica.name, 0.0)
            found[replica.name] = min(WEIGHT_LIMIT, max(LEAST_WEIGHT, round(share * count * MEAN_WEIGHT)))
        else:
            found[replica.name] = MEAN_WEIGHT
    return found
