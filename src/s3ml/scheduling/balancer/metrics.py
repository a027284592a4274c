"""A balancer's metrics: what was decided and why, for each replica; shares, ages of readings, its own cost.

Labels are bounded: services, replicas and nodes are those of the membership, and those that left it go;
reasons and outcomes are enumerations. Counting is a few dictionary look-ups, for it happens at each pick.

Source: Prometheus text exposition format 0.0.4.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, disable_created_metrics
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from s3ml.scheduling.balancer.status import MS_PER_S, BalancerStatus, ServiceStatus
from s3ml.scheduling.balancer.view import Reason

MEDIA_TYPE = CONTENT_TYPE_LATEST
_SECONDS_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25)


class Step(StrEnum):
    """How a step ended."""

    WRITTEN = "written"
    UNCHANGED = "unchanged"
    GATEWAY_LOST = "gateway-lost"


class Pick(StrEnum):
    """How a pick ended."""

    CHOSEN = "chosen"
    NONE_READY = "none-ready"
    REFUSED = "refused"
    """The question was none that a picker answers."""


class BalancerMetrics(Collector):
    """The samples of one balancer.

    Args:
        status: Tells how things stand.
    """

    def __init__(self, status: Callable[[], BalancerStatus]) -> None:
        # When a counter began tells nobody anything here.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._status = status
        self._reasons: Counter[tuple[str, str, Reason]] = Counter()
        self._steps: Counter[Step] = Counter()
        self._picks: Counter[Pick] = Counter()
        self._agent_failures: Counter[str] = Counter()
        self._registry = CollectorRegistry()
        self._step_seconds = Histogram(
            "s3ml_balancer_step_seconds",
            "How long steps took, the gateway's answer included.",
            buckets=_SECONDS_BUCKETS,
            registry=self._registry,
        )
        self._pick_seconds = Histogram(
            "s3ml_balancer_pick_seconds",
            "How long it took to choose where one request goes.",
            buckets=_SECONDS_BUCKETS,
            registry=self._registry,
        )
        self._registry.register(self)

    def count_reasons(self, service: str, reasons: Mapping[str, Reason]) -> None:
        """Count a decision: why each replica was or was not chosen."""
        counted = self._reasons
        for replica, reason in reasons.items():
            counted[service, replica, reason] += 1

    def count_step(self, step: Step, took_s: float) -> None:
        """Count a step."""
        self._steps[step] += 1
        self._step_seconds.observe(took_s)

    def count_pick(self, pick: Pick, took_s: float) -> None:
        """Count a pick."""
        self._picks[pick] += 1
        self._pick_seconds.observe(took_s)

    def count_agent_failure(self, node: str) -> None:
        """Count a question that an agent did not answer."""
        self._agent_failures[node] += 1

    def forget(self, *, replicas: Mapping[str, Iterable[str]], nodes: Iterable[str]) -> None:
        """Drop the samples of all services, replicas and nodes but these."""
        kept = {(service, name) for service, names in replicas.items() for name in names}
        for key in [key for key in self._reasons if key[:2] not in kept]:
            del self._reasons[key]
        for node in self._agent_failures.keys() - set(nodes):
            del self._agent_failures[node]

    def render(self) -> bytes:
        """Return the samples as they stand."""
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        """Name nothing ahead: all samples are collected."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield the samples that are not histograms."""
        status = self._status()
        yield from self._counters()
        policy = GaugeMetricFamily(
            "s3ml_balancer_policy", "1 for the policy that decides.", labels=["policy"]
        )
        for name in status.policies:
            policy.add_metric([name], float(name == status.policy))
        yield policy
        yield GaugeMetricFamily(
            "s3ml_balancer_gateway_up",
            "Whether the gateway answers.",
            value=float(not status.is_gateway_lost),
        )
        yield from _of_services(status.services)
        yield from _of_nodes(status)

    def _counters(self) -> Iterator[Metric]:
        reasons = CounterMetricFamily(
            "s3ml_balancer_decisions",
            "Steps and picks, by why the replica was or was not chosen.",
            labels=["service", "replica", "reason"],
        )
        for (service, replica, reason), count in self._reasons.items():
            reasons.add_metric([service, replica, str(reason)], count)
        yield reasons
        steps = CounterMetricFamily("s3ml_balancer_steps", "Steps, by how they ended.", labels=["outcome"])
        for step in Step:
            steps.add_metric([str(step)], self._steps[step])
        yield steps
        picks = CounterMetricFamily("s3ml_balancer_picks", "Picks, by how they ended.", labels=["outcome"])
        for pick in Pick:
            picks.add_metric([str(pick)], self._picks[pick])
        yield picks
        failures = CounterMetricFamily(
            "s3ml_balancer_agent_failures", "Questions that a node's agent did not answer.", labels=["node"]
        )
        for node, count in self._agent_failures.items():
            failures.add_metric([node], count)
        yield failures


def _of_services(services: Iterable[ServiceStatus]) -> Iterator[Metric]:
    labels = ["service", "replica", "node"]
    ready = GaugeMetricFamily(
        "s3ml_balancer_replica_ready", "Whether it may be sent requests.", labels=labels
    )
    share = GaugeMetricFamily("s3ml_balancer_replica_share", "Of the requests, 0 to 1.", labels=labels)
    weight = GaugeMetricFamily("s3ml_balancer_replica_weight", "What the gateway was told.", labels=labels)
    in_flight = GaugeMetricFamily(
        "s3ml_balancer_replica_in_flight", "Requests without answer.", labels=labels
    )
    latency = GaugeMetricFamily(
        "s3ml_balancer_replica_latency_seconds", "What its newest answers took in the mean.", labels=labels
    )
    fallback = GaugeMetricFamily(
        "s3ml_balancer_fallback", "Whether the policy does without its readings.", labels=["service"]
    )
    for service in services:
        fallback.add_metric([service.service], float(service.is_fallback))
        for replica in service.replicas:
            key = [service.service, replica.name, replica.node]
            ready.add_metric(key, float(replica.is_ready))
            share.add_metric(key, replica.share)
            weight.add_metric(key, replica.weight)
            in_flight.add_metric(key, replica.in_flight)
            if replica.latency_ms is not None:
                latency.add_metric(key, replica.latency_ms / MS_PER_S)
    yield from (ready, share, weight, in_flight, latency, fallback)


def _of_nodes(status: BalancerStatus) -> Iterator[Metric]:
    labels = ["node", "kind"]
    age = GaugeMetricFamily("s3ml_balancer_reading_age_seconds", "Age of a node's reading.", labels=labels)
    page_ins = GaugeMetricFamily(
        "s3ml_balancer_node_page_ins_per_second",
        "Pages brought back, as the node's agent says.",
        labels=labels,
    )
    for node in status.nodes:
        key = [node.node, node.kind or "none"]
        if node.age_s is not None:
            age.add_metric(key, node.age_s)
        if node.page_ins_per_s is not None:
            page_ins.add_metric(key, node.page_ins_per_s)
    yield from (age, page_ins)
