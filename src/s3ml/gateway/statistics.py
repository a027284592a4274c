"""What the gateway counted: requests and retries. Informative only: nothing trusts it."""

from dataclasses import dataclass

from s3ml.gateway.admin import query
from s3ml.gateway.bootstrap import LISTENER
from s3ml.gateway.config import GatewayConfig, service_cluster

_COUNTERS = (
    "upstream_rq_total|upstream_rq_retry|upstream_rq_retry_success|upstream_rq_pending_failure_eject|"
    "upstream_cx_connect_fail|upstream_cx_none_healthy"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayStatistics:
    """Counters since the gateway started.

    Args:
        requests: Requests from callers, whatever became of them.
        forwarded: Requests sent to replicas of services.
        retries: How often a request that was not sent was tried with another replica.
        retries_succeeded: How many of those got an answer.
        connect_failures: How many connections to replicas failed.
        none_healthy: How often no replica was ready.
    """

    requests: int
    forwarded: int
    retries: int
    retries_succeeded: int
    connect_failures: int
    none_healthy: int


def read_statistics(config: GatewayConfig) -> GatewayStatistics:
    """Read the counters of the running gateway.

    Raises:
        UnavailableError: the gateway does not run.
    """
    names = rf"^http\.{LISTENER}\.downstream_rq_total$|^cluster\.service-.*\.({_COUNTERS})$"
    stats: dict[str, int] = {
        entry["name"]: int(entry["value"])
        for entry in query(config.folder, f"/stats?format=json&filter={names}")["stats"]
        if "value" in entry
    }

    def total(counter: str) -> int:
        return sum(stats.get(f"cluster.{service_cluster(s)}.{counter}", 0) for s in config.services)

    return GatewayStatistics(
        requests=stats.get(f"http.{LISTENER}.downstream_rq_total", 0),
        forwarded=total("upstream_rq_total"),
        retries=total("upstream_rq_retry"),
        retries_succeeded=total("upstream_rq_retry_success"),
        connect_failures=total("upstream_cx_connect_fail"),
        none_healthy=total("upstream_cx_none_healthy"),
    )
