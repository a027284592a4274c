"""The S3ML paper's class of policies: replicas weigh less the more their node pages, up to a limit.

The limit is learned offline from paging rates and latencies (`s3ml.scheduling.paging.learn_limit`). Kept as
the baseline that the policy `s3ml` is compared with.

Source: J. Ma et al., "S3ML: A Secure Serving System for Machine Learning Inference", arXiv 2010.06212.
"""

from dataclasses import dataclass
from random import Random

from s3ml.scheduling.balancer.policies.dividing import equal, proportional
from s3ml.scheduling.balancer.policies.drawing import by_share, nobody, reasons_of
from s3ml.scheduling.balancer.view import Choice, Reason, Shares, View

DEFAULT_LIMIT_PER_S = 10_000.0
"""Where none was learned: at 22 µs a page, a fifth of one core's time goes into bringing pages back."""
STALE_S = 10.0


@dataclass(frozen=True, slots=True)
class Paper:
    """Weight by paging rate, exclude above a limit.

    Args:
        limit_per_s: Above how many pages brought back in a second a node gets nothing, unless all do so.
    """

    name: str = "s3ml-paper"
    limit_per_s: float = DEFAULT_LIMIT_PER_S

    def pick(self, view: View, draw: Random) -> Choice:  # noqa: ARG002 - nothing is drawn
        """Choose whose turn it is by the shares."""
        ready = view.ready
        if not ready:
            return nobody(view)
        divided = self.shares(view)
        chosen = by_share(ready, divided.share, view.turn).name
        fell_back = divided.reasons[chosen] is Reason.FELL_BACK
        reasons = {name: _why_not(reason) for name, reason in divided.reasons.items()}
        reasons[chosen] = Reason.FELL_BACK if fell_back else Reason.CHOSEN
        return Choice(replica=chosen, reasons=reasons)

    def shares(self, view: View) -> Shares:
        """Divide by paging rate; equally where no node's rate is known.

        A replica whose node has no reading weighs as those whose nodes have one do in the mean.
        """
        rates = {replica.name: _rate(view, replica.node) for replica in view.ready}
        known = [rate for rate in rates.values() if rate is not None]
        if not known:
            return equal(view, Reason.FELL_BACK)
        mean = sum(known) / len(known)
        filled = {name: mean if rate is None else rate for name, rate in rates.items()}
        calm = {name for name, rate in filled.items() if rate <= self.limit_per_s} or set(filled)
        scale = max(self.limit_per_s, 1.0)
        weights = {name: 1 / (1 + rate / scale) if name in calm else 0.0 for name, rate in filled.items()}
        reasons = reasons_of(view, Reason.PAGING)
        reasons.update(dict.fromkeys(calm, Reason.CHOSEN))
        return Shares(share=proportional(weights, floor=1e-6), reasons=reasons)


def _why_not(reason: Reason) -> Reason:
    return reason if reason in {Reason.PAGING, Reason.NOT_READY} else Reason.NOT_DRAWN


def _rate(view: View, node: str) -> float | None:
    reading = view.nodes.get(node)
    if reading is None or not reading.is_sane or reading.age_s(view.now_s) > STALE_S:
        return None
    return reading.page_ins_per_s
