"""Coarse counters for outside the seal: per service, renewed no faster than every 10 seconds.

Finer or fresher figures would let an observer tell requests apart.

Source: Prometheus text exposition format 0.0.4.
"""

from enum import StrEnum

RENEWAL_S = 10.0
MEDIA_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


class Outcome(StrEnum):
    """What became of a request: the whole set of label values."""

    ANSWERED = "answered"
    FAILED = "failed"
    REFUSED = "refused"
    REJECTED = "rejected"
    OVERLOADED = "overloaded"
    ABANDONED = "abandoned"


class Metrics:
    """Counts outcomes and renders them, at most once per 10 seconds.

    Args:
        service: The label that every sample carries.
    """

    __slots__ = ("_counts", "_rendered", "_rendered_at_s", "_service")

    def __init__(self, service: str) -> None:
        self._service = service
        self._counts = dict.fromkeys(Outcome, 0)
        self._rendered = b""
        self._rendered_at_s: float | None = None

    def count(self, outcome: Outcome) -> None:
        """Count one request."""
        self._counts[outcome] += 1

    def render(self, *, is_ready: bool, models: int, now_s: float) -> bytes:
        """Return the samples as they stood at the last renewal."""
        if self._rendered_at_s is None or now_s - self._rendered_at_s >= RENEWAL_S:
            self._rendered_at_s = now_s
            self._rendered = self._text(is_ready=is_ready, models=models).encode()
        return self._rendered

    def _text(self, *, is_ready: bool, models: int) -> str:
        label = f'service="{self._service}"'
        lines = ["# TYPE s3ml_requests_total counter"]
        lines += [f's3ml_requests_total{{{label},outcome="{o}"}} {n}' for o, n in self._counts.items()]
        lines += ["# TYPE s3ml_ready gauge", f"s3ml_ready{{{label}}} {int(is_ready)}"]
        lines += ["# TYPE s3ml_models gauge", f"s3ml_models{{{label}}} {models}"]
        return "\n".join(lines) + "\n"
