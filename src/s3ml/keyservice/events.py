"""Structured log events: one JSON line each, allow-listed fields, never a payload, a key or a quote."""

import json
from collections.abc import Callable, Sequence

from s3ml.keyservice.documents import Mismatch
from s3ml.primitives.clock import Clock

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
_VALUE_LIMIT = 2000


class EventLog:
    """Writes events as lines.

    Args:
        write: Takes one line with its line feed.
        clock: For their time.
    """

    def __init__(self, write: Callable[[str], object], clock: Clock) -> None:
        self._write = write
        self._clock = clock

    def emit(self, event: str, **fields: str | int | Sequence[Mismatch]) -> None:
        """Write the event named `event`.

        Raises:
            ValueError: a field is not on the list.
        """
        if unknown := fields.keys() - FIELDS:
            raise ValueError(f"event {event}: fields not on the list: {', '.join(sorted(unknown))}")
        record: dict[str, object] = {"time": self._clock.now().isoformat(), "event": event}
        for name, value in fields.items():
            record[name] = _plain(value)
        self._write(json.dumps(record, ensure_ascii=True) + "\n")


def _plain(value: str | int | Sequence[Mismatch]) -> object:
    if isinstance(value, int):
        return value
    if isinstance(value, str):
        return value[:_VALUE_LIMIT]
    return [{"claim": m.claim, "expected": m.expected, "got": m.got} for m in value]
