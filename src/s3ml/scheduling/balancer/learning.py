"""Correcting a model's curve online: what servers paged for each of their answers, at their node's headroom.

The host's word: each observation moves the curve by a bounded part, see `s3ml.scheduling.paging`.
"""

from collections.abc import Iterator
from dataclasses import replace

from s3ml.scheduling.balancer.policies.claiming import LEAST_RATE_RPS, usable
from s3ml.scheduling.balancer.policies.predicted import Predicted
from s3ml.scheduling.balancer.view import Policy, View
from s3ml.scheduling.model import Model
from s3ml.scheduling.paging import HEADROOM_LIMIT, Sample, headroom_of


def learned(policy: Policy, view: View, *, since_s: float) -> Policy:
    """Return a policy that knows what a view shows: `s3ml` with its curve corrected; pure.

    Args:
        policy: Of any kind.
        view: As for `corrected`.
        since_s: As for `corrected`.
    """
    if not isinstance(policy, Predicted) or policy.model.curve is None:
        return policy
    return replace(policy, model=corrected(policy.model, view, since_s=since_s))


def corrected(model: Model, view: View, *, since_s: float) -> Model:
    """Return a model whose curve was pulled towards what a view shows; pure.

    Args:
        model: Itself if it has no curve.
        view: Of one service, whose replicas all serve this model.
        since_s: Only readings that were taken after this count, on the view's clock: give the instant of the
            view before, so that none counts twice.
    """
    if model.curve is None:
        return model
    for sample in observed(view, since_s=since_s):
        model = model.corrected(sample)
    return model


def observed(view: View, *, since_s: float) -> Iterator[Sample]:
    """Yield for each node what its servers paged for each answer, at its headroom.

    Only what was attributed to servers that answer counts: what others on the node page is not theirs.
    """
    for name, reading in view.nodes.items():
        node = usable(reading, view.now_s)
        headroom = None if node is None else headroom_of(node)
        if node is None or headroom is None or node.taken_at_s <= since_s:
            continue
        page_ins_per_s = rate_rps = 0.0
        for replica in view.replicas:
            own = usable(replica.own, view.now_s) if replica.node == name else None
            if own is not None and own.page_ins_per_s is not None and replica.rate_rps:
                page_ins_per_s += own.page_ins_per_s
                rate_rps += replica.rate_rps
        if rate_rps >= LEAST_RATE_RPS:
            yield Sample(headroom=min(headroom, HEADROOM_LIMIT), pages=page_ins_per_s / rate_rps)
