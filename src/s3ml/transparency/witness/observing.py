"""What an operator sees of a witness: one JSON line per event, and counters in Prometheus' text format.

Fields come from an allow-list, and every label has a bounded set of values.

Source: Prometheus exposition formats, text format 0.0.4.
"""

from collections.abc import Callable, Mapping

from s3ml.primitives.clock import Clock
from s3ml.primitives.events import EventWriter
from s3ml.transparency.witness.decision import Verdict

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
FIELDS = frozenset(
    {"detail", "error", "known_size", "listen", "logs", "origin", "size", "status", "verdict", "witness"}
)
GAUGES: Mapping[str, str] = {
    "s3ml_witness_logs": "Logs that are watched.",
    "s3ml_witness_configuration_usable": "Whether the configuration could be used when it last changed.",
    "s3ml_witness_state_usable": "Whether the state can be read and written.",
}


class EventLog:
    """Writes events as lines.

    Args:
        write: Takes one line with its line feed.
        clock: For their time.
    """

    def __init__(self, write: Callable[[str], object], clock: Clock) -> None:
        self._writer = EventWriter(write, clock, fields=FIELDS)

    def emit(self, event: str, **fields: str | int) -> None:
        """Write the event named `event`; texts are cut to 500 characters.

        Raises:
            ValueError: a field is not on the list.
        """
        self._writer.write(event, fields)


class Metrics:
    """Counters of one process."""

    def __init__(self) -> None:
        self._verdicts = dict.fromkeys(Verdict, 0)
        self._unavailable = 0

    def count(self, verdict: Verdict) -> None:
        """Count one request that was answered."""
        self._verdicts[verdict] += 1

    def count_unavailable(self) -> None:
        """Count one request that could not be answered."""
        self._unavailable += 1

    def render(self, gauges: Mapping[str, int]) -> str:
        """Return everything as text, with the present values of the gauges."""
        name = "s3ml_witness_checkpoints_total"
        lines = [f"# HELP {name} Checkpoints that were submitted, by verdict.", f"# TYPE {name} counter"]
        lines += [f'{name}{{verdict="{verdict}"}} {count}' for verdict, count in self._verdicts.items()]
        lines.append(f'{name}{{verdict="unavailable"}} {self._unavailable}')
        for gauge, text in GAUGES.items():
            lines += [f"# HELP {gauge} {text}", f"# TYPE {gauge} gauge", f"{gauge} {gauges[gauge]}"]
        return "\n".join(lines) + "\n"
