"""What a replica counts and measures, for Prometheus; every label has a bounded set of values.

Names follow Prometheus' conventions (base units, ``_total``, ``_seconds``). No label ever holds a name from
outside: routes, outcomes, phases and states are fixed sets.

Source: Prometheus, "Metric and label naming"; text format 0.0.4.
"""

from collections.abc import Mapping

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
# From what a local commit takes to where a deadline ends it.
BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
COUNTERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "s3ml_keyservice_requests_total": ("HTTP requests by route and status.", ("route", "status")),
    "s3ml_keyservice_releases_total": ("Releases by outcome.", ("outcome",)),
    "s3ml_keyservice_trust_bundles_total": ("Trust bundles answered.", ()),
    "s3ml_keyservice_quotes_total": ("Quotes made for trust bundles.", ()),
    "s3ml_keyservice_joins_total": ("Replicas that were let in.", ()),
    "s3ml_keyservice_rates_total": ("Questions of identities by outcome.", ("subject", "outcome")),
    "s3ml_keyservice_commits_total": ("Commits of this replica by outcome.", ("outcome",)),
}
HISTOGRAMS: Mapping[str, str] = {
    "s3ml_keyservice_commit_seconds": "From a plan to a committed head, witnesses included.",
    "s3ml_keyservice_release_seconds": "From evidence to a sealed release.",
}
GAUGES: Mapping[str, tuple[str, str | None]] = {
    "s3ml_keyservice_log_size": ("Entries of the committed log.", None),
    "s3ml_keyservice_uncommitted": ("Stored entries that are not committed.", None),
    "s3ml_keyservice_audit_waiting": ("Audit records that are not committed yet.", None),
    "s3ml_keyservice_ready": ("Whether this replica serves.", None),
    "s3ml_keyservice_phase": ("1 for the phase of this replica.", "phase"),
    "s3ml_keyservice_lease_seconds": ("What is left of this replica's lease; 0 without witnesses.", None),
    "s3ml_keyservice_witnesses": ("Witnesses that cosigned the newest head.", None),
    "s3ml_keyservice_witness_quorum": ("How many have to.", None),
    "s3ml_keyservice_replicas_present": ("Replicas that proved themselves present of late.", None),
    "s3ml_keyservice_epochs": ("Living epochs by state.", "state"),
    "s3ml_keyservice_generations_held": ("Generation keys that this replica holds.", None),
    "s3ml_keyservice_generations_missing": ("Generation keys that it needs and lacks.", None),
}
Values = float | Mapping[str, float]


class Metrics:
    """The metrics of one process."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry(auto_describe=False)
        self._counters = {
            name: Counter(name, text, labels, registry=self._registry)
            for name, (text, labels) in COUNTERS.items()
        }
        self._histograms = {
            name: Histogram(name, text, registry=self._registry, buckets=BUCKETS_S)
            for name, text in HISTOGRAMS.items()
        }
        self._gauges = {
            name: Gauge(name, text, (label,) if label else (), registry=self._registry)
            for name, (text, label) in GAUGES.items()
        }

    def count(self, name: str, amount: int = 1, **labels: str) -> None:
        """Add `amount` to a counter; `labels` come from fixed sets alone."""
        counter = self._counters[name]
        (counter.labels(**labels) if labels else counter).inc(amount)

    def observe(self, name: str, seconds: float) -> None:
        """Add a duration to a histogram."""
        self._histograms[name].observe(seconds)

    def render(self, gauges: Mapping[str, Values]) -> str:
        """Return everything as text, with the present values of the gauges."""
        for name, value in gauges.items():
            gauge = self._gauges[name]
            if isinstance(value, Mapping):
                for label, number in value.items():
                    gauge.labels(label).set(number)
            else:
                gauge.set(value)
        return generate_latest(self._registry).decode()
