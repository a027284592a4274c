"""Shares as the whole numbers that a gateway takes: positive, small, and bounded in sum."""

from collections.abc import Mapping

WEIGHT_LIMIT = 1024
"""The largest weight: shares are kept to a thousandth of the largest one. Envoy bounds their sum by 2**32 -
1, so this allows four million replicas."""


def weights_of(share: Mapping[str, float]) -> dict[str, int]:
    """Return for each share a weight from 1 to 1024, the largest share having 1024; pure.

    A gateway rejects weight 0, so what is less than about a thousandth of the largest share is raised to
    that.

    Args:
        share: Positive, or 0.
    """
    most = max(share.values(), default=0.0)
    if most <= 0:
        return dict.fromkeys(share, 1)
    return {name: max(1, round(part / most * WEIGHT_LIMIT)) for name, part in share.items()}
