"""Structured log events: one JSON object per line, with fields from an allow-list.

Nothing that a client sent, no key and no quote has a field to go into. Records of libraries are reduced to
their logger and their unformatted message, because their arguments could hold anything.
"""

import json
import logging
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TextIO

FIELDS = frozenset(
    {
        "address",
        "attempt",
        "claims",
        "deployment",
        "detail",
        "epochs",
        "error",
        "in_flight",
        "lease_s",
        "level",
        "logger",
        "model",
        "phase",
        "replica",
        "retry_in_s",
        "service",
        "simulated",
        "version",
        "wait_s",
    }
)
_TEXT_LIMIT = 1000

Field = str | int | float | bool | Sequence[Mapping[str, str]] | Sequence[int]


class EventLog:
    """Writes events to a stream, each stamped with the time and this replica's name.

    Args:
        replica: The name of this process.
        stream: Where lines go; standard error unless given.
    """

    __slots__ = ("_replica", "_stream")

    def __init__(self, replica: str, stream: TextIO | None = None) -> None:
        self._replica = replica
        self._stream = sys.stderr if stream is None else stream

    def write(self, event: str, **fields: Field) -> None:
        """Write one event.

        Raises:
            ValueError: a field is not on the allow-list.
        """
        if stray := fields.keys() - FIELDS:
            raise ValueError(f"log fields outside the allow-list: {sorted(stray)}")
        line: dict[str, object] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "event": event,
            "replica": self._replica,
        }
        for name, value in fields.items():
            line[name] = value[:_TEXT_LIMIT] if isinstance(value, str) else value
        self._stream.write(json.dumps(line) + "\n")
        self._stream.flush()


class LibraryRecords(logging.Handler):
    """Turns warnings of libraries into events without their arguments or tracebacks."""

    def __init__(self, log: EventLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log
        self._last = ("", "", "")

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record's logger, level and unformatted message, unless the last record said the same."""
        name, level, detail = record.name, record.levelname.lower(), str(record.msg)[:200]
        if (name, level, detail) != self._last:
            self._last = (name, level, detail)
            self._log.write("library", logger=name, level=level, detail=detail)
