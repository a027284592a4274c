"""Prequal: among replicas that are not hot the one with the least latency; if all are hot, the least busy.

*Hot* is a replica with more requests in flight than a quantile of the fleet's. Latency is that of answers at
about the requests in flight there now, as the paper's servers report it. Its probes ask some servers what
this balancer knows of all, exactly and at no cost; so of at most 16 replicas all are compared, and 16 drawn
ones of more: the size of the paper's pool.

Source: B. Wydrowski et al., "Load is not what you should balance: Introducing Prequal", NSDI 2024, section 4.
"""

from dataclasses import dataclass
from random import Random

from s3ml.scheduling.balancer.policies.dividing import FALL, RISE, damped, equal, proportional
from s3ml.scheduling.balancer.policies.drawing import least, nobody, reasons_of, some, tries
from s3ml.scheduling.balancer.policies.measuring import measured_service_s, quantile
from s3ml.scheduling.balancer.view import Choice, Reason, Replica, Shares, View

HOT_QUANTILE = 2**-0.25
"""About 0.84: the paper's own choice."""
POOL = 16


def latency_s(replica: Replica) -> float:
    """Return what answers take at the requests in flight now; 0 before the first one, so that it is tried."""
    service_s = measured_service_s(replica)
    return 0.0 if service_s is None else (replica.in_flight + 1) * service_s * tries(replica)


@dataclass(frozen=True, slots=True)
class Prequal:
    """Hot and cold replicas by requests in flight; latency decides among cold ones.

    Args:
        hot_quantile: Above which quantile of the requests in flight a replica is hot.
        pool: How many replicas are compared at most.
    """

    name: str = "prequal"
    hot_quantile: float = HOT_QUANTILE
    pool: int = POOL

    def pick(self, view: View, draw: Random) -> Choice:
        """Choose the cold replica with the least latency."""
        ready = view.ready
        if not ready:
            return nobody(view)
        pool = some(ready, self.pool, draw)
        hot_above = quantile([replica.in_flight for replica in pool], self.hot_quantile)
        cold = [replica for replica in pool if replica.in_flight <= hot_above]
        chosen = least(cold, latency_s, draw)
        reasons = reasons_of(view, Reason.NOT_DRAWN)
        for replica in pool:
            reasons[replica.name] = Reason.BUSIER if replica.in_flight > hot_above else Reason.SLOWER
        reasons[chosen.name] = Reason.CHOSEN
        return Choice(replica=chosen.name, reasons=reasons)

    def shares(self, view: View) -> Shares:
        """Divide by how fast each answers, a third of the way in a step; equally until all were measured."""
        ready = view.ready
        speeds = {replica.name: 1 / latency_s(replica) for replica in ready if latency_s(replica) > 0}
        if len(speeds) < len(ready) or not ready:
            return equal(view)
        share = damped(proportional(speeds), view.previous, rise=RISE, fall=FALL)
        most = max(share.values())
        reasons = reasons_of(view, Reason.SLOWER)
        reasons.update((name, Reason.CHOSEN) for name, part in share.items() if part >= most)
        return Shares(share=share, reasons=reasons)
