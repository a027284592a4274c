"""How much work may be in flight: decided before a body is read.

A request is admitted when its body, counted as often as it will be held, fits the budget of bytes, and when
fewer than a fixed number of requests are under way. Everything here runs on the event loop.
"""

from collections.abc import Iterator
from contextlib import contextmanager

# The sealed body and its plaintext.
COPIES = 2


class OverloadedError(Exception):
    """There is no room for this request now; a moment later there may be."""


class Reservation:
    """The share of the budget that one request holds."""

    __slots__ = ("_admission", "size_bytes")

    def __init__(self, admission: "Admission") -> None:
        self._admission = admission
        self.size_bytes = 0

    def grow_to(self, body_bytes: int) -> None:
        """Make room for a body of `body_bytes` in all.

        Raises:
            OverloadedError: the budget is spent.
        """
        more = COPIES * body_bytes - self.size_bytes
        if more > 0:
            self._admission.take(more)
            self.size_bytes += more


class Admission:
    """A budget of bytes and of requests in flight.

    Args:
        budget_bytes: For bodies, each counted twice.
        max_requests: How many requests may be under way, queued ones included.
    """

    __slots__ = ("_free_bytes", "_max_requests", "budget_bytes", "in_flight")

    def __init__(self, *, budget_bytes: int, max_requests: int) -> None:
        self.budget_bytes = budget_bytes
        self._free_bytes = budget_bytes
        self._max_requests = max_requests
        self.in_flight = 0

    @property
    def reserved_bytes(self) -> int:
        """What requests under way hold of the budget."""
        return self.budget_bytes - self._free_bytes

    @contextmanager
    def reserve(self) -> Iterator[Reservation]:
        """Count a request until the block ends, then give back what it held.

        Raises:
            OverloadedError: too many requests are under way.
        """
        if self.in_flight >= self._max_requests:
            raise OverloadedError
        self.in_flight += 1
        reservation = Reservation(self)
        try:
            yield reservation
        finally:
            self.in_flight -= 1
            self._free_bytes += reservation.size_bytes

    def take(self, size_bytes: int) -> None:
        """Take `size_bytes` out of the budget.

        Raises:
            OverloadedError: fewer are left.
        """
        if size_bytes > self._free_bytes:
            raise OverloadedError
        self._free_bytes -= size_bytes
