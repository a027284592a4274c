"""What a proxy counts: requests by service, protocol and outcome, and until when each service is trusted.

Labels are bounded: services are those that the proxy was started for. For its own machine; nothing leaves it.

Source: Prometheus text exposition format 0.0.4.
"""

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
    generate_latest,
)

from s3ml.client.proxy.answers import Answer
from s3ml.client.proxy.keeping import TrustKeeper

MEDIA_TYPE = CONTENT_TYPE_LATEST.encode()


class ProxyMetrics:
    """The samples of one proxy.

    Args:
        keeper: Knows until when what is verified holds.
    """

    def __init__(self, keeper: TrustKeeper) -> None:
        # When a counter began tells nobody anything here.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._keeper = keeper
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "s3ml_proxy_requests",
            "Requests of local clients.",
            ("service", "protocol", "outcome"),
            registry=self._registry,
        )
        self._expiry = Gauge(
            "s3ml_proxy_trust_expiry_timestamp_seconds",
            "Until when what was verified of the service holds.",
            ("service",),
            registry=self._registry,
        )

    def count(self, answer: Answer, protocol: str) -> None:
        """Count one answer."""
        self._requests.labels(answer.service, protocol, str(answer.outcome)).inc()

    def render(self) -> bytes:
        """Return the samples as they stand."""
        for verified in self._keeper.verified:
            self._expiry.labels(verified.service).set(verified.expires_at.timestamp())
        return generate_latest(self._registry)
