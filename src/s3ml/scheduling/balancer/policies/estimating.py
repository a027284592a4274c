"""How long a replica will work for one request, from what the balancer measured and what hosts claim.

Three witnesses, in the logarithm of seconds, each with a variance that grows with its age:

1. the replica's own answers, which the balancer timed itself;
2. those of the replicas on the same node, which share its TEE memory, where they are newer;
3. the reading: compute time + pages per request x cost of a page. The host's word.

The first two (and what a model takes alone, as a weak prior) are combined by the inverse of their variances.
The reading then moves the result in the same way, but by no more than twice the result's standard deviation,
and never by more than a factor of 4. So a reading decides where nothing newer was measured, leads where a
node has just begun to page, and can never contradict what was just measured: a host that forges it gains that
factor, and only until the next answer. A request that waits longer than all of this predicts refutes it: work
that goes on takes at least as long as it has taken.

Pure, and the host's word is used for nothing but where requests go.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import exp, log, sqrt
from statistics import median_low

from s3ml.scheduling.balancer.policies.measuring import measured_service_s
from s3ml.scheduling.balancer.view import Replica, View
from s3ml.scheduling.model import Model
from s3ml.scheduling.paging import headroom_of
from s3ml.tee_memory.reading import Confidence, Reading

OWN_VARIANCE = 0.03
"""Of the logarithm of a mean of newest answers: about a sixth up or down."""
MATE_VARIANCE = 0.15
"""Of that of another replica on the same node: about two fifths."""
READING_VARIANCE = 0.25
"""Of a prediction by a reading: a factor of 1.6; a curve fits one workload, and page costs vary by twice."""
PRIOR_VARIANCE = 2.0
"""Of what a model takes alone, for a node of which nothing else is known: a factor of 4."""
DRIFT_PER_S = 0.1
"""How much variance a second of age adds: after 5 s without an answer a factor of 2 is nothing unusual."""
DEVIATIONS = 2.0
FACTOR_LIMIT = 4.0
STALE_S = 10.0
"""A reading that is older says nothing: antagonists come and go within seconds."""
ABSURD_PER_S = 1e7
"""More pages in a second than any host can bring back: about a hundred times one serial path's ceiling."""
LEAST_RATE_RPS = 1.0
"""At fewer answers in a second, paging is not divided by them: a model's curve says more."""
LEAST_S = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What the replicas of a node have in common.

    Args:
        reading: The newest one that can be used; None if there is none.
        rate_rps: Answers of its replicas in a second; 0 if they are not known.
        mate: The replica whose newest answer is the newest of the node; None before the first one.
    """

    reading: Reading | None
    rate_rps: float
    mate: Replica | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """How long a replica works for one request.

    Args:
        service_s: With all that is known.
        measured_s: Without readings; None if neither the replica nor its node's others ever answered.
        is_by_reading: Whether a reading took part.
    """

    service_s: float
    measured_s: float | None
    is_by_reading: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """What estimates need besides a replica: taken once from a view, for all that are compared.

    Args:
        now_s: The view's.
        compute_s: What a request takes without paging: the model's, or what the faster half of those show
            that answered; None if nobody did.
        model: The model's costs.
        nodes: Of the replicas that are compared.
    """

    now_s: float
    compute_s: float | None
    model: Model
    nodes: Mapping[str, Node] = field(default_factory=dict)


def usable(reading: Reading | None, now_s: float) -> Reading | None:
    """Return a reading if it can be relied on at all: present, newer than 10 s, not blind, and not absurd."""
    if reading is None or reading.confidence is Confidence.BLIND or not reading.is_sane:
        return None
    if reading.age_s(now_s) > STALE_S or (reading.page_ins_per_s or 0.0) > ABSURD_PER_S:
        return None
    return reading


def fleet_of(view: View, compared: Iterable[Replica], model: Model) -> Fleet:
    """Take from a view what the estimates of `compared` need; linear in the fleet."""
    rates: dict[str, float] = {}
    mates: dict[str, Replica | None] = {}
    for replica in compared:
        mates[replica.node] = None
        rates[replica.node] = 0.0
    services: list[float] = []
    for replica in view.replicas:
        if replica.node not in mates:
            continue
        rates[replica.node] += replica.rate_rps or 0.0
        service_s = measured_service_s(replica)
        if service_s is None:
            continue
        services.append(service_s)
        mate = mates[replica.node]
        if mate is None or _answered_at_s(replica) > _answered_at_s(mate):
            mates[replica.node] = replica
    nodes = {
        name: Node(reading=usable(view.nodes.get(name), view.now_s), rate_rps=rates[name], mate=mate)
        for name, mate in mates.items()
    }
    compute_s = model.compute_s or (median_low(services) if services else None)
    return Fleet(now_s=view.now_s, compute_s=compute_s, model=model, nodes=nodes)


def estimate(replica: Replica, fleet: Fleet) -> Estimate | None:
    """Estimate how long a replica works for one request; None if nothing at all is known.

    Args:
        replica: One of those that `fleet` was taken for.
        fleet: By `fleet_of`.
    """
    if fleet.compute_s is None:
        return None
    node = fleet.nodes[replica.node]
    mean, variance, is_measured = _measured(replica, node, fleet)
    claimed_s = claimed_service_s(replica, node, fleet)
    service = mean
    if claimed_s is not None:
        age_s = _reading_age_s(replica, node, fleet.now_s)
        weight = variance / (variance + READING_VARIANCE + DRIFT_PER_S * age_s)
        limit = min(DEVIATIONS * sqrt(variance), log(FACTOR_LIMIT))
        service += min(max(weight * (log(claimed_s) - mean), -limit), limit)
    least_s = _worked_s(replica, fleet)
    return Estimate(
        service_s=max(exp(service), least_s),
        measured_s=max(exp(mean), least_s) if is_measured else None,
        is_by_reading=claimed_s is not None,
    )


def claimed_service_s(replica: Replica, node: Node, fleet: Fleet) -> float | None:
    """Return what a request takes by what the host claims; None if it claims nothing that can be used."""
    if fleet.compute_s is None:
        return None
    pages = pages_per_request(replica, node, fleet)
    if pages is not None:
        return max(fleet.compute_s + pages * fleet.model.page_cost_s, LEAST_S)
    if node.reading is None or node.reading.pressure is None:
        return None
    # Nobody counts pages here: what is left of the time is what work gets.
    return max(fleet.compute_s / (1 - min(node.reading.pressure, 0.9)), LEAST_S)


def pages_per_request(replica: Replica, node: Node, fleet: Fleet) -> float | None:
    """Return how many pages a request brings back at a replica, by what its host claims; None if unknown.

    What was attributed to the server itself comes first. A node's paging over its answers is more than the
    truth where others page too, and a curve at the node's headroom knows nothing of who pages: the lesser
    holds.
    """
    own = usable(replica.own, fleet.now_s)
    rate_rps = replica.rate_rps or 0.0
    if own is not None and own.page_ins_per_s is not None and rate_rps >= LEAST_RATE_RPS:
        return own.page_ins_per_s / rate_rps
    reading = node.reading
    if reading is None:
        return None
    bounds: list[float] = []
    headroom = headroom_of(reading)
    if fleet.model.curve is not None and headroom is not None:
        bounds.append(fleet.model.curve.pages(headroom))
    if reading.page_ins_per_s is not None and node.rate_rps >= LEAST_RATE_RPS:
        bounds.append(reading.page_ins_per_s / node.rate_rps)
    return min(bounds, default=None)


def _measured(replica: Replica, node: Node, fleet: Fleet) -> tuple[float, float, bool]:
    """Return mean and variance of the logarithm by what was measured, and whether anything was."""
    precision = 1 / PRIOR_VARIANCE
    total = log(max(fleet.compute_s or LEAST_S, LEAST_S)) * precision
    is_measured = False
    witnesses = [(replica, OWN_VARIANCE)]
    if node.mate is not None and node.mate.name != replica.name:
        witnesses.append((node.mate, MATE_VARIANCE))
    for witness, variance in witnesses:
        service_s = measured_service_s(witness)
        if service_s is None:
            continue
        is_measured = True
        age_s = 0.0 if witness.answered_at_s is None else max(0.0, fleet.now_s - witness.answered_at_s)
        weight = 1 / (variance + DRIFT_PER_S * age_s)
        total += log(max(service_s, LEAST_S)) * weight
        precision += weight
    return total / precision, 1 / precision, is_measured


def _worked_s(replica: Replica, fleet: Fleet) -> float:
    """Return how long the replica has worked on one request at least, if it takes one after the other."""
    if not replica.in_flight:
        return 0.0
    since_answer_s = replica.oldest_s
    if replica.answered_at_s is not None:
        since_answer_s = min(since_answer_s, fleet.now_s - replica.answered_at_s)
    return max(since_answer_s, 0.0)


def _reading_age_s(replica: Replica, node: Node, now_s: float) -> float:
    reading = usable(replica.own, now_s) or node.reading
    return 0.0 if reading is None else reading.age_s(now_s)


def _answered_at_s(replica: Replica) -> float:
    return float("-inf") if replica.answered_at_s is None else replica.answered_at_s
