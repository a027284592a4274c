"""Structured log events: one JSON object a line, with fields from an allow-list.

What no field was named for cannot be logged, so that neither a payload nor a key gets into a log by a slip.
"""

import json
from collections.abc import Callable, Mapping, Sequence

from s3ml.primitives.clock import Clock

Field = str | int | Sequence[Mapping[str, str]]


class EventWriter:
    """Writes events as lines of JSON.

    Args:
        write: Takes one line with its line feed.
        clock: For their time.
        fields: The names that a field may have.
        text_limit: To how many characters a text is cut.
    """

    def __init__(
        self, write: Callable[[str], object], clock: Clock, *, fields: frozenset[str], text_limit: int = 500
    ) -> None:
        self._write = write
        self._clock = clock
        self._fields = fields
        self._text_limit = text_limit

    def write(self, event: str, fields: Mapping[str, Field]) -> None:
        """Write the event named `event`, with its time.

        Raises:
            ValueError: a field is not on the list.
        """
        if unknown := fields.keys() - self._fields:
            raise ValueError(f"event {event}: fields not on the list: {', '.join(sorted(unknown))}")
        record: dict[str, object] = {"time": self._clock.now().isoformat(), "event": event}
        for name, value in fields.items():
            record[name] = value[: self._text_limit] if isinstance(value, str) else value
        self._write(json.dumps(record, ensure_ascii=True) + "\n")
