"""Leaving alone what failed: twice as long after each failure, and as long as it asks."""

import threading
from dataclasses import dataclass

from s3ml.primitives.clock import Clock
from s3ml.primitives.units import HOUR_S, MINUTE_S

FIRST_COOLDOWN_S = 1.0
COOLDOWN_LIMIT_S = 5.0 * MINUTE_S
RETRY_AFTER_LIMIT_S = 1.0 * HOUR_S
ENTRIES_LIMIT = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class _Penalty:
    failures: int
    until_s: float


class Cooldown:
    """Remembers what failed, and until when it is left alone; safe from several threads.

    Args:
        clock: Its monotonic seconds count.
    """

    __slots__ = ("_clock", "_lock", "_penalties")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._penalties: dict[str, _Penalty] = {}

    def remaining_s(self, what: str) -> float:
        """Return for how many more seconds `what` is left alone; 0 where it may be asked."""
        with self._lock:
            penalty = self._penalties.get(what)
        return max(0.0, penalty.until_s - self._clock.monotonic_s()) if penalty else 0.0

    def fail(self, what: str, *, retry_after_s: float | None = None) -> None:
        """Leave `what` alone: twice as long as last time, up to 5 minutes.

        Args:
            what: An endpoint's scheme, host and port, or an item's name.
            retry_after_s: The least time that it asked for; more than an hour counts as one.
        """
        asked_s = min(retry_after_s or 0.0, RETRY_AFTER_LIMIT_S)
        with self._lock:
            before = self._penalties.pop(what, None)
            failures = before.failures + 1 if before else 1
            own_s = min(FIRST_COOLDOWN_S * 2.0 ** min(failures - 1, 16), COOLDOWN_LIMIT_S)
            until_s = self._clock.monotonic_s() + max(own_s, asked_s)
            while len(self._penalties) >= ENTRIES_LIMIT:
                self._penalties.pop(next(iter(self._penalties)))
            self._penalties[what] = _Penalty(failures=failures, until_s=until_s)

    def succeed(self, what: str) -> None:
        """Forget what `what` did before."""
        with self._lock:
            self._penalties.pop(what, None)
