"""How long a replica will work for one request, from what the balancer measured and what hosts claim.

In the logarithm of seconds, each with a variance that grows with its age. What was measured is the first that
there is of: the replica's own answers; before its first answer those of the replica on its node that answered
last, which shares the TEE memory; what the model takes alone. (While a replica has answers of its own, others
on its node say nothing about it: one is often kept in memory while the other is pushed out.)

What is claimed is compute time + pages per request x cost of a page, by readings: the host's word. It moves
what was measured by the inverse of the variances, but by no more than twice the standard deviation of what
was measured, and never by more than a factor of 4. So a reading decides where nothing newer was measured,
leads where a node has just begun to page, and can never contradict what was just measured: a host that forges
it gains that factor, and only until the next answer. A request that waits longer than all of this predicts
refutes it: work that goes on takes at least as long as it has taken.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import exp, inf, log, sqrt
from typing import NamedTuple

from s3ml.scheduling.balancer.policies.claiming import DRIFT_PER_S, LEAST_S, Node, claimed, usable
from s3ml.scheduling.balancer.policies.measuring import measured_service_s
from s3ml.scheduling.balancer.view import Replica, View
from s3ml.scheduling.model import Model

OWN_VARIANCE = 0.03
"""Of the logarithm of a mean of newest answers: about a sixth up or down."""
MATE_VARIANCE = 1.0
"""Of that of another replica on the same node: a factor of 2.7."""
PRIOR_VARIANCE = 2.0
"""Of what a model takes alone, for a node of which nothing else is known: a factor of 4."""
DEVIATIONS = 2.0
FACTOR_LIMIT = 4.0
LOG_FACTOR_LIMIT = log(FACTOR_LIMIT)


class Estimate(NamedTuple):
    """How long a replica works for one request; a tuple because each pick makes up to 16 of them.

    Attributes:
        service_s: With all that is known.
        measured_s: Without readings.
        claimed_s: By readings alone; None if none took part.
    """

    service_s: float
    measured_s: float
    claimed_s: float | None

    @property
    def is_paging(self) -> bool:
        """Whether a reading makes it slower than what was measured."""
        return self.claimed_s is not None and self.service_s > self.measured_s


@dataclass(frozen=True, slots=True)
class Known:
    """What estimates need besides a replica: taken once from a view, for all that are compared.

    Args:
        now_s: The view's.
        compute_s: What a request takes without paging: the model's, or what the fastest of those show that
            answered; None if nobody did.
        model: The model's costs.
        nodes: Of the replicas that are compared.
        busy: Requests in flight on each of these nodes.
    """

    now_s: float
    compute_s: float | None
    model: Model
    nodes: Mapping[str, Node]
    busy: Mapping[str, int]


def known_of(view: View, compared: Iterable[Replica], model: Model) -> Known:
    """Take from a view what the estimates of `compared` need; linear in the fleet."""
    names = {replica.node for replica in compared}
    rates = dict.fromkeys(names, 0.0)
    busy = dict.fromkeys(names, 0)
    newest = dict.fromkeys(names, -inf)
    mates: dict[str, Replica] = {}
    fastest_s = inf
    for replica in view.replicas:
        node = replica.node
        if node not in names:
            continue
        busy[node] += replica.in_flight
        rates[node] += replica.rate_rps or 0.0
        service_s = measured_service_s(replica)
        if service_s is None:
            continue
        fastest_s = min(fastest_s, service_s)
        answered_at_s = replica.answered_at_s or 0.0
        if answered_at_s > newest[node]:
            newest[node] = answered_at_s
            mates[node] = replica
    nodes = {
        name: Node(usable(view.nodes.get(name), view.now_s), rates[name], mates.get(name)) for name in names
    }
    compute_s = model.compute_s or (fastest_s if fastest_s < inf else None)
    return Known(view.now_s, compute_s, model, nodes, busy)


def estimate(replica: Replica, known: Known) -> Estimate | None:
    """Estimate how long a replica works for one request; None if nothing at all is known.

    Args:
        replica: One of those that `known` was taken for.
        known: By `known_of`.
    """
    if known.compute_s is None:
        return None
    node = known.nodes[replica.node]
    mean, variance = _measured(replica, node, known)
    worked_s = _worked_s(replica, known.now_s)
    measured_s = max(exp(mean), worked_s)
    claim = claimed(replica, node, known.model, compute_s=known.compute_s, now_s=known.now_s)
    if claim is None:
        return Estimate(measured_s, measured_s, claimed_s=None)
    limit = min(DEVIATIONS * sqrt(variance), LOG_FACTOR_LIMIT)
    shift = variance / (variance + claim.variance) * (log(claim.service_s) - mean)
    moved_s = exp(mean + min(max(shift, -limit), limit))
    return Estimate(max(moved_s, worked_s), measured_s, claim.service_s)


def _measured(replica: Replica, node: Node, known: Known) -> tuple[float, float]:
    """Return mean and variance of the logarithm by the first witness that there is."""
    for witness, variance in ((replica, OWN_VARIANCE), (node.mate, MATE_VARIANCE)):
        service_s = None if witness is None else measured_service_s(witness)
        if witness is None or service_s is None:
            continue
        age_s = 0.0 if witness.answered_at_s is None else max(0.0, known.now_s - witness.answered_at_s)
        return log(max(service_s, LEAST_S)), variance + DRIFT_PER_S * age_s
    return log(max(known.compute_s or LEAST_S, LEAST_S)), PRIOR_VARIANCE


def _worked_s(replica: Replica, now_s: float) -> float:
    """Return how long the replica has worked on one request at least, if it takes one after the other."""
    if not replica.in_flight:
        return 0.0
    if replica.answered_at_s is None:
        return max(0.0, replica.oldest_s)
    return max(0.0, min(replica.oldest_s, now_s - replica.answered_at_s))
