"""A few counters and gauges in Prometheus' text format; every label has a bounded set of values.

Source: Prometheus exposition formats, text format 0.0.4.
"""

from collections.abc import Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
COUNTERS: Mapping[str, str] = {
    "s3ml_keyservice_requests_total": "HTTP requests by route and status.",
    "s3ml_keyservice_releases_total": "Releases by outcome.",
    "s3ml_keyservice_trust_bundles_total": "Trust bundles answered.",
    "s3ml_keyservice_quotes_total": "Quotes made for trust bundles, by outcome.",
}
GAUGES: Mapping[str, str] = {
    "s3ml_keyservice_log_size": "Entries of the log.",
    "s3ml_keyservice_audit_waiting": "Audit records that are not committed yet.",
    "s3ml_keyservice_ready": "Whether the key service is ready.",
}


class Metrics:
    """Counters of one process."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = {}

    def count(self, name: str, amount: int = 1, **labels: str) -> None:
        """Add `amount` to a counter; `labels` come from fixed sets alone."""
        key = (name, ",".join(f'{label}="{value}"' for label, value in sorted(labels.items())))
        self._counts[key] = self._counts.get(key, 0) + amount

    def render(self, gauges: Mapping[str, float]) -> str:
        """Return everything as text, with the present values of the gauges."""
        lines = []
        for name, text in COUNTERS.items():
            lines += [f"# HELP {name} {text}", f"# TYPE {name} counter"]
            found = sorted((labels, n) for (counter, labels), n in self._counts.items() if counter == name)
            lines += [f"{name}{{{labels}}} {n}" if labels else f"{name} {n}" for labels, n in found]
        for name, text in GAUGES.items():
            lines += [f"# HELP {name} {text}", f"# TYPE {name} gauge", f"{name} {gauges[name]:g}"]
        return "\n".join(lines) + "\n"
