"""Structured log events: one JSON line each, allow-listed fields, never a payload, a key or a quote."""

from collections.abc import Callable, Sequence

from s3ml.keyservice.documents import Mismatch
from s3ml.primitives.clock import Clock
from s3ml.primitives.events import EventWriter, Field

FIELDS = frozenset(
    {
        "deployment",
        "detail",
        "error",
        "index",
        "listen",
        "log_size",
        "measurement",
        "mismatches",
        "records",
        "resource",
        "resource_version",
        "service",
        "status",
        "tee",
    }
)
_TEXT_LIMIT = 2000


class EventLog:
    """Writes events as lines.

    Args:
        write: Takes one line with its line feed.
        clock: For their time.
    """

    def __init__(self, write: Callable[[str], object], clock: Clock) -> None:
        self._writer = EventWriter(write, clock, fields=FIELDS, text_limit=_TEXT_LIMIT)

    def emit(self, event: str, **fields: str | int | Sequence[Mismatch]) -> None:
        """Write the event named `event`.

        Raises:
            ValueError: a field is not on the list.
        """
        self._writer.write(event, {name: _plain(value) for name, value in fields.items()})


def _plain(value: str | int | Sequence[Mismatch]) -> Field:
    if isinstance(value, str | int):
        return value
    return [{"claim": m.claim, "expected": m.expected, "got": m.got} for m in value]
