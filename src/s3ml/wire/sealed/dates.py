"""Instants as HTTP writes them, in the one form that senders make.

Source: RFC 9110, section 5.6.7 (IMF-fixdate).
"""

import re
from datetime import UTC, datetime

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_FORM = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (\d{2}) (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) (\d{4}) "
    r"(\d{2}):(\d{2}):(\d{2}) GMT",
    re.ASCII,
)


def format_date(instant: datetime) -> str:
    """Return `instant` (aware) to the second, such as ``Sun, 06 Nov 1994 08:49:37 GMT``."""
    utc = instant.astimezone(UTC)
    return f"{_DAYS[utc.weekday()]}, {utc.day:02} {_MONTHS[utc.month - 1]} {utc.year:04} {utc:%H:%M:%S} GMT"


def parse_date(text: str) -> datetime | None:
    """Return the instant that `text` (from an untrusted peer) names; None where it names none.

    The day of the week is not checked against the date.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        return None
    day, month, year, hour, minute, second = match.groups()
    try:
        return datetime(
            int(year),
            _MONTHS.index(month) + 1,
            int(day),
            int(hour),
            int(minute),
            int(second),
            tzinfo=UTC,
        )
    except ValueError:
        return None
