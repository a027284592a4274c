"""Time, as something passed in.

The host owns the clock of a TEE. `RatchetClock` keeps it from running backwards past an instant that
somebody trusted has signed: turning the host's clock back revives nothing.
"""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """A source of the two kinds of time."""

    def now(self) -> datetime:
        """Return the present as aware UTC."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds from an arbitrary start that never run backwards."""
        ...


class SystemClock:
    """The clock of the machine."""

    def now(self) -> datetime:
        """Return the present as aware UTC."""
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        """Return seconds from an arbitrary start that never run backwards."""
        return time.monotonic()


class RatchetClock:
    """A clock whose `now` is never before the newest signed instant that it was shown.

    Args:
        clock: The clock to hold in check, typically the host's.
    """

    __slots__ = ("_clock", "_floor")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._floor: datetime | None = None

    def observe(self, signed_instant: datetime) -> None:
        """Raise the floor to `signed_instant` (aware UTC, from a verified signature)."""
        if self._floor is None or signed_instant > self._floor:
            self._floor = signed_instant

    def now(self) -> datetime:
        """Return the present, or the floor where the host claims to be earlier."""
        now = self._clock.now()
        return now if self._floor is None or now > self._floor else self._floor

    def monotonic_s(self) -> float:
        """Return the underlying clock's monotonic seconds."""
        return self._clock.monotonic_s()
