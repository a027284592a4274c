"""What a client counts; threads may count at once."""

import threading
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What a client has done so far.

    Args:
        requests: Sealed requests that a verified service answered with success.
        retries: Attempts after one that failed for the moment, each sealed afresh.
        refreshes: Verifications of a service.
    """

    requests: int = 0
    retries: int = 0
    refreshes: int = 0


class Counters:
    """The counts behind `Statistics`."""

    __slots__ = ("_lock", "_statistics")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._statistics = Statistics()

    @property
    def statistics(self) -> Statistics:
        """The counts as they stand."""
        return self._statistics

    def add(self, *, requests: int = 0, retries: int = 0, refreshes: int = 0) -> Statistics:
        """Count, and return the counts as they then stand."""
        with self._lock:
            past = self._statistics
            self._statistics = Statistics(
                requests=past.requests + requests,
                retries=past.retries + retries,
                refreshes=past.refreshes + refreshes,
            )
            return self._statistics
