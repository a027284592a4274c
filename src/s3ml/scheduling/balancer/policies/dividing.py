"""Shares that policies make alike: equal or proportional, with a floor under each, and slowly changing.

Invariants: shares of ready replicas are positive and 1 in sum; those of others are not there.
"""

from collections.abc import Mapping

from s3ml.scheduling.balancer.view import Reason, Shares, View

RISE = 0.3
FALL = 0.7
"""How far shares move in a step towards their target: what is slow is left within a second at 4 steps a
second, what seems fast again is come back to in twice that. A signal that is late is so not followed to and
fro."""
NEARLY = 0.1
"""How near to its target a share is there: equal shares become equal weights, and those stay as they are."""
FLOOR = 0.01
"""About 1 % of all requests goes to all alike, so that each replica is heard of."""


def equal(view: View, reason: Reason = Reason.CHOSEN) -> Shares:
    """Return the same share for each ready replica."""
    ready = view.ready
    reasons = {item.name: reason if item.is_ready else Reason.NOT_READY for item in view.replicas}
    return Shares(share={item.name: 1 / len(ready) for item in ready}, reasons=reasons)


def proportional(weights: Mapping[str, float], *, floor: float = FLOOR) -> dict[str, float]:
    """Return shares in proportion to weights, over a floor.

    Args:
        weights: Not negative, finite; all 0 is equal shares.
        floor: The part, from 0 to 1, that all share equally.
    """
    total = sum(weights.values())
    even = 1 / len(weights) if weights else 0.0
    if total <= 0:
        return dict.fromkeys(weights, even)
    return {name: floor * even + (1 - floor) * weight / total for name, weight in weights.items()}


def damped(
    target: Mapping[str, float], previous: Mapping[str, float], *, rise: float, fall: float
) -> dict[str, float]:
    """Return shares a part of the way from those of the step before to the target; pure.

    A share that is to fall goes `fall` of the way, one that is to rise `rise` of it, and all are scaled to 1
    in sum. As `fall` is the larger, what is freed is divided in proportion. So no share falls below `1 -
    fall` of itself in a step, and none vanishes. Once all are within a tenth of their targets they are there.
    A replica that was not there before has the target's share
    at once; those that stay divide what is left as before.

    Args:
        target: 1 in sum.
        previous: Of the step before; of others than these too.
        rise: From 0 to `fall`.
        fall: Up to 1.
    """
    kept = {name: previous[name] for name in target if previous.get(name, 0.0) > 0}
    total = sum(kept.values())
    left = sum(target[name] for name in kept)
    if total <= 0:
        return dict(target)
    moved = {}
    for name, aim in target.items():
        before = kept[name] / total * left if name in kept else aim
        moved[name] = before + (rise if aim > before else fall) * (aim - before)
    scale = 1 / sum(moved.values())
    if all(abs(share * scale - target[name]) <= NEARLY * target[name] for name, share in moved.items()):
        return dict(target)
    return {name: share * scale for name, share in moved.items()}
