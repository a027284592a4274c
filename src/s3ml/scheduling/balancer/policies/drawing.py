"""Draws that policies share: some of the ready replicas, the best, one by its share; reasons for the rest.

All are pure: the same arguments and the same state of `draw` give the same answer.
"""

from collections.abc import Callable, Mapping, Sequence
from math import floor, sqrt
from random import Random

from s3ml.scheduling.balancer.view import Choice, Reason, Replica, View

GOLDEN = (sqrt(5) - 1) / 2
ERRORS_LIMIT = 0.9


def reasons_of(view: View, otherwise: Reason) -> dict[str, Reason]:
    """Return for each replica why it gets nothing: not ready, or `otherwise`."""
    return {replica.name: otherwise if replica.is_ready else Reason.NOT_READY for replica in view.replicas}


def nobody(view: View) -> Choice:
    """Return the choice of nobody, for a fleet in which nobody is ready."""
    return Choice(replica=None, reasons=reasons_of(view, Reason.NOT_READY))


def some(ready: Sequence[Replica], count: int, draw: Random) -> Sequence[Replica]:
    """Return `count` different ones, each as likely as another; all of them if there are no more."""
    return ready if len(ready) <= count else draw.sample(ready, count)


def least(among: Sequence[Replica], score: Callable[[Replica], float], draw: Random) -> Replica:
    """Return the one with the least score; one of several with the same is drawn."""
    scores = [score(replica) for replica in among]
    lowest = min(scores)
    best = [replica for replica, got in zip(among, scores, strict=True) if got == lowest]
    return best[0] if len(best) == 1 else draw.choice(best)


def by_share(ready: Sequence[Replica], share: Mapping[str, float], turn: int) -> Replica:
    """Return whose turn it is where each has its share: as even as turns can be, without any memory.

    Multiples of the golden ratio, taken modulo 1, fall as evenly as points can that are added one by one;
    each replica has an interval as long as its share.

    Args:
        ready: At least one.
        share: Of each of them; 1 in sum.
        turn: Counts on by one.

    Source: S. Świerczkowski, "On successive settings of an arc on the circumference of a circle", 1958.
    """
    place = turn * GOLDEN - floor(turn * GOLDEN)
    for replica in ready:
        place -= share[replica.name]
        if place < 0:
            return replica
    return ready[-1]


def tries(replica: Replica) -> float:
    """Return how many tries an answer takes at a replica: errors are fast, and must not attract requests."""
    return 1 / (1 - min(max(replica.error_share, 0.0), ERRORS_LIMIT))
