"""The policy `s3ml`: a request goes where it is predicted to be answered first.

Predicted completion = (requests in flight + 1) x (compute + pages per request x cost of a page), the work of
one request being estimated as in `estimating`. Around it:

* a replica with more requests in flight than a quantile of the compared ones is left out, so that no
  estimate, wrong or forged, piles requests up;
* about 1 % of requests go to a replica drawn evenly, so that each is heard of;
* a fleet of which nothing was read and nothing measured is balanced by power of two choices.

Paging is taken *per request*, not per second: it does not fall because requests were sent elsewhere, so a
delayed reading does not make the fleet swing. Shares move a part of the way in each step.

Specified in ``docs/spec/balancer.md``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from random import Random
from typing import NamedTuple

from s3ml.scheduling.balancer.policies.claiming import usable
from s3ml.scheduling.balancer.policies.dividing import FALL, FLOOR, RISE, damped, equal, proportional
from s3ml.scheduling.balancer.policies.drawing import nobody, reasons_of, some, tries
from s3ml.scheduling.balancer.policies.estimating import Estimate, estimate, known_of
from s3ml.scheduling.balancer.policies.measuring import quantile
from s3ml.scheduling.balancer.policies.requests import least_busy
from s3ml.scheduling.balancer.view import Choice, Reason, Replica, Shares, View
from s3ml.scheduling.model import Model

COMPARED = 16
HOT_QUANTILE = 2**-0.25
EXPLORED = 0.01
UNHEARD_S = 2.0
"""Of a node that answered since nothing new is to be learned: it needs no request to explore it."""
UNHEARD_READ_S = 5.0
"""A node whose readings come tells by itself when it has room again; exploring only refutes a forgery."""
NODE_SHARE = 0.25
"""How much a request in flight at another replica of the node counts beside one at the replica itself: they
share TEE memory, the path of its pages and often cores. Little, so that it decides between like ones."""
NOISE = 1.2
"""How much slower than the fastest compared one a replica may seem without being taken for slower: as much as
means of a few answers differ by chance. Beyond it the factor is less by that."""
SHARES_NOISE = 2.5
"""In shares, up to how many times the usual work counts as that where a reading says that nothing pages, the
gateway's own count of requests in flight deciding. Usual is the lower quartile, or what the model computes if
that is more. Timings are sampled there: of a replica that is busy 40 % of the time they are known to a factor
of 1.5, and the slowest of a few is by chance 2.5 times as slow."""
SHARES_POWER = 2.0
"""How much more a faster replica gets than in proportion: at less than full load the fast ones alone
suffice."""


class _Scored(NamedTuple):
    """A replica that is compared; a tuple because each pick makes up to 16 of them."""

    replica: Replica
    score_s: float
    estimate: Estimate


@dataclass(frozen=True, slots=True)
class Predicted:
    """Predicted completion time, guarded, damped, and exploring.

    Args:
        model: The model's costs.
        compared: How many replicas are compared at most: drawn ones of a larger fleet.
        hot_quantile: Above which quantile of the requests in flight a replica is left out.
        explored: The share of requests that goes to a replica drawn evenly.
        rise: How far shares that grow move towards their target in a step.
        fall: How far those that shrink do; at least `rise`.
    """

    model: Model = field(default_factory=Model)
    name: str = "s3ml"
    compared: int = COMPARED
    hot_quantile: float = HOT_QUANTILE
    explored: float = EXPLORED
    rise: float = RISE
    fall: float = FALL

    def pick(self, view: View, draw: Random) -> Choice:
        """Choose where the answer is predicted to come first."""
        ready = view.ready
        if not ready:
            return nobody(view)
        if draw.random() < self.explored and _is_unheard(explored := draw.choice(ready), view):
            reasons = reasons_of(view, Reason.NOT_DRAWN) | {explored.name: Reason.EXPLORED}
            return Choice(replica=explored.name, reasons=reasons)
        compared = some(ready, self.compared, draw)
        scored = self._scored(view, compared)
        if not scored:
            return least_busy(view, 2, draw, reason=Reason.FELL_BACK)
        hot_above = quantile([replica.in_flight for replica in compared], self.hot_quantile)
        cold = [item for item in scored if item.replica.in_flight <= hot_above]
        lowest = min(item.score_s for item in cold)
        best = [item for item in cold if item.score_s == lowest]
        chosen = best[0] if len(best) == 1 else draw.choice(best)
        reasons = reasons_of(view, Reason.NOT_DRAWN)
        for item in scored:
            reasons[item.replica.name] = _why_not(item, chosen, hot_above)
        reasons[chosen.replica.name] = (
            Reason.CHOSEN if any(item.estimate.claimed_s is not None for item in scored) else Reason.FELL_BACK
        )
        return Choice(replica=chosen.replica.name, reasons=reasons)

    def shares(self, view: View) -> Shares:
        """Divide by how fast each is predicted to work, a part of the way in a step; equally at first."""
        ready = view.ready
        scored = self._scored(view, ready)
        if not scored:
            return equal(view, Reason.FELL_BACK)
        works_s = sorted(item.estimate.service_s for item in scored)
        usual_s = max(works_s[len(works_s) // 4], self.model.compute_s or 0.0)
        speeds = {item.replica.name: self._share_work_s(item, usual_s) for item in scored}
        fastest = min(speeds.values())
        target = proportional(
            {name: (fastest / service_s) ** SHARES_POWER for name, service_s in speeds.items()}, floor=FLOOR
        )
        share = damped(target, view.previous, rise=self.rise, fall=self.fall)
        most = max(scored, key=lambda item: share[item.replica.name])
        reasons = reasons_of(view, Reason.SLOWER)
        for item in scored:
            reasons[item.replica.name] = (
                Reason.CHOSEN
                if speeds[item.replica.name] <= fastest
                else _why_not(item, most, hot_above=item.replica.in_flight)
            )
        return Shares(share=share, reasons=reasons)

    @staticmethod
    def _share_work_s(item: _Scored, usual_s: float) -> float:
        """Return what a request takes for shares: the usual work unless it is clearly more."""
        found = item.estimate
        is_vouched_for = found.claimed_s is not None and found.claimed_s <= NOISE * usual_s
        limit_s = usual_s * (SHARES_NOISE if is_vouched_for else NOISE)
        return tries(item.replica) * (found.service_s if found.service_s > limit_s else usual_s)

    def _scored(self, view: View, compared: Sequence[Replica]) -> list[_Scored]:
        known = known_of(view, compared, self.model)
        estimates = [found for replica in compared if (found := estimate(replica, known)) is not None]
        if len(estimates) < len(compared):
            return []
        fastest_s = min((found.service_s for found in estimates), default=0.0)
        scored = []
        for replica, found in zip(compared, estimates, strict=True):
            others = known.busy[replica.node] - replica.in_flight
            waits = max(1.0, (replica.in_flight + 1) / self.model.parallel) + NODE_SHARE * others
            service_s = max(fastest_s, found.service_s / NOISE)
            scored.append(_Scored(replica, waits * service_s * tries(replica), found))
        return scored


def _is_unheard(replica: Replica, view: View) -> bool:
    """Return whether nothing newly came, nor is on its way, that tells how a replica's node does."""
    is_read = usable(view.nodes.get(replica.node), view.now_s) is not None
    limit_s = UNHEARD_READ_S if is_read else UNHEARD_S
    return not any(
        other.in_flight or view.now_s - (other.answered_at_s or -inf) < limit_s
        for other in view.replicas
        if other.node == replica.node
    )


def _why_not(item: _Scored, chosen: _Scored, hot_above: int) -> Reason:
    if item.replica.in_flight > hot_above:
        return Reason.BUSIER
    if item.estimate.is_paging:
        return Reason.PAGING
    if item.estimate.service_s > chosen.estimate.service_s:
        return Reason.SLOWER
    return Reason.BUSIER
