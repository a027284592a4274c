"""Which sealed requests were opened already.

A request names its Date inside the seal, so a replay has the same one: what was opened is remembered under
its Date, and forgotten once that Date is outside the window. Time never runs backwards here: a host that
turns its clock back revives nothing.

Source: RFC 9458, section 6.5.1.
"""

import hashlib
from datetime import UTC, datetime
from enum import Enum, auto

from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.units import MINUTE_S

# One core opens about 2,000 requests a second; capacity over window allows twice that. A clock further off
# than the window costs its client one correction, once.
DEFAULT_WINDOW_S = MINUTE_S
DEFAULT_CAPACITY = 1 << 18
_FINGERPRINT_BYTES = 16


class Admission(Enum):
    """What becomes of a request."""

    ADMITTED = auto()
    DATE_OUTSIDE = auto()
    REPLAYED = auto()
    FULL = auto()


class ReplayGuard:
    """A bounded memory of what was opened; pure, given the time, and for one thread.

    Args:
        window_s: How far the Date of a request may be from the present, on either side.
        capacity: How many requests to remember, at about 100 bytes each; a full memory admits none.

    Raises:
        ConfigurationError: a window or a capacity below 1.
    """

    __slots__ = ("_capacity", "_count", "_now_s", "_seen", "window_s")

    def __init__(self, window_s: int = DEFAULT_WINDOW_S, capacity: int = DEFAULT_CAPACITY) -> None:
        if window_s < 1 or capacity < 1:
            raise ConfigurationError(
                "replay guard: expected a window of at least 1 s, and a capacity of at least 1"
            )
        self.window_s = window_s
        self._capacity = capacity
        self._count = 0
        self._now_s = 0
        self._seen: dict[int, set[bytes]] = {}

    def admit(self, enc: bytes, *, date: datetime, now: datetime) -> Admission:
        """Remember a request, or tell why it is not admitted.

        Args:
            enc: What no two honest requests share.
            date: From inside the seal, aware.
            now: Aware; where it is before an earlier call's, that one counts.
        """
        self._advance(int(now.timestamp()))
        date_s = int(date.timestamp())
        if abs(date_s - self._now_s) > self.window_s:
            return Admission.DATE_OUTSIDE
        fingerprint = hashlib.sha256(enc).digest()[:_FINGERPRINT_BYTES]
        seen = self._seen.get(date_s)
        if seen is not None and fingerprint in seen:
            return Admission.REPLAYED
        if self._count >= self._capacity:
            return Admission.FULL
        if seen is None:
            seen = self._seen[date_s] = set()
        seen.add(fingerprint)
        self._count += 1
        return Admission.ADMITTED

    def latest(self, now: datetime) -> datetime:
        """Return `now`, or the newest time that was seen where the host claims to be earlier."""
        return max(now, datetime.fromtimestamp(self._now_s, UTC))

    def __len__(self) -> int:
        return self._count

    def _advance(self, now_s: int) -> None:
        """Forget, once a second, what the window has left behind."""
        if now_s <= self._now_s:
            return
        self._now_s = now_s
        for date_s in [past for past in self._seen if past < now_s - self.window_s]:
            self._count -= len(self._seen.pop(date_s))
