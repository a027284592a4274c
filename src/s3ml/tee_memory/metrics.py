"""A sampler's counts in Prometheus' text format, made anew at each scrape.

Counts, not rates: whoever scrapes divides by the span of its choice. Labels are bounded: one node and kind in
each process, at most 256 servers. `kind` is on every sample, so that no panel hides that it is simulated.

Source: Prometheus text exposition format 0.0.4; docs/spec/tee-memory.md.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from s3ml.tee_memory.reading import Counts, Reading
from s3ml.tee_memory.sampler import Sample, Sampler

METRICS_TYPE = CONTENT_TYPE_LATEST

_GAUGES: Final[Mapping[str, str]] = {
    "capacity_bytes": "TEE memory that there is.",
    "resident_bytes": "TEE memory in use.",
    "evicted_bytes": "What would be in TEE memory if there were room.",
    "guests": "Confidential machines that there are on this host.",
    "guests_capacity": "Confidential machines that there can be on this host.",
}
_COUNTERS: Final[Mapping[str, tuple[str, str]]] = {
    "page_ins": ("page_ins", "Pages brought back into TEE memory."),
    "page_outs": ("page_outs", "Pages evicted from TEE memory."),
    "stalled_s": ("stalled_seconds", "Time in which somebody waited for memory."),
}


class AgentMetrics:
    """The samples of one node agent.

    Args:
        sampler: What it tells of.
    """

    def __init__(self, sampler: Sampler) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Collector(sampler))
        ProcessCollector(registry=self._registry)

    def render(self) -> bytes:
        """Return the samples as they stand."""
        return generate_latest(self._registry)


class _Collector:
    """Makes families of samples out of what a sampler knows."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self._own = (sampler.node, str(sampler.source.kind))

    def collect(self) -> Iterable[Metric]:
        """Return every family."""
        sampler = self._sampler
        servers = sampler.attributed
        yield self._info()
        yield from _families("s3ml_tee_memory", ("node", "kind"), {self._own: sampler.newest})
        yield from _families(
            "s3ml_tee_memory_server",
            ("node", "kind", "server"),
            {(*self._own, name): sample for name, sample in servers.items()},
        )
        age = GaugeMetricFamily(
            "s3ml_tee_memory_reading_age_seconds",
            "Age of the node's newest reading.",
            labels=("node", "kind"),
        )
        age_s = sampler.age_s()
        if age_s is not None:
            age.add_metric(self._own, age_s)
        yield age
        taken = CounterMetricFamily(
            "s3ml_tee_memory_samples", "Attempts to read.", labels=("node", "kind", "outcome")
        )
        taken.add_metric((*self._own, "taken"), sampler.sample_count)
        taken.add_metric((*self._own, "failed"), sampler.failure_count)
        yield taken

    def _info(self) -> Metric:
        sampler = self._sampler
        reading = sampler.newest.reading
        confidence = "none" if reading is None else str(reading.confidence)
        info = GaugeMetricFamily(
            "s3ml_tee_memory_info",
            "What is read: the kind simulated is computed and emulated pages for real without any TEE.",
            labels=("node", "kind", "source", "confidence"),
        )
        info.add_metric((*self._own, sampler.source.name, confidence), 1)
        return info


def _families(
    prefix: str, labels: tuple[str, ...], samples: Mapping[tuple[str, ...], Sample]
) -> Iterable[Metric]:
    """Return one family for each figure that somebody counts."""
    for figure, text in _GAUGES.items():
        gauge = GaugeMetricFamily(f"{prefix}_{figure}", text, labels=labels)
        for values, sample in samples.items():
            if (amount := _figure(sample.reading, figure)) is not None:
                gauge.add_metric(values, amount)
        if gauge.samples:
            yield gauge
    for figure, (name, text) in _COUNTERS.items():
        counter = CounterMetricFamily(f"{prefix}_{name}", text, labels=labels)
        for values, sample in samples.items():
            if (amount := _figure(sample.counts, figure)) is not None:
                counter.add_metric(values, amount)
        if counter.samples:
            yield counter


def _figure(told: Counts | Reading | None, figure: str) -> float | None:
    found: float | None = None if told is None else getattr(told, figure)
    return found
