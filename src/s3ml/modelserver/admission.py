"""How much work may be in flight: decided before a body is read.

A request is admitted when its body, counted as often as it will be held, fits the budget of bytes, and when
fewer than a fixed number of requests are under way. A body that arrives slowly keeps its place while nobody
else needs it, and loses it when somebody does. Everything here runs on the event loop.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from s3ml.primitives.units import KIB

# The sealed body and its plaintext.
COPIES = 2
# A body that is later than this may have to make place for another.
GRACE_S = 2.0
SLOWEST_BYTES_PER_S = 256 * KIB


class OverloadedError(Exception):
    """There is no room for this request now; a moment later there may be."""


class Reservation:
    """The share of the budget that one request holds."""

    __slots__ = ("_admission", "_arrived_bytes", "_began_s", "_evict", "size_bytes")

    def __init__(self, admission: "Admission") -> None:
        self._admission = admission
        self._arrived_bytes = 0
        self._began_s = 0.0
        self._evict: Callable[[], None] | None = None
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

    @contextmanager
    def arriving(self, evict: Callable[[], None]) -> Iterator[None]:
        """Say that the body arrives while the block runs.

        Args:
            evict: Ends the block soon; called when the body is slow and its place is needed.
        """
        self._evict, self._began_s = evict, self._admission.monotonic_s()
        try:
            yield
        finally:
            self._evict = None

    def count_arrived(self, size_bytes: int) -> None:
        """Say how much of the body has arrived."""
        self._arrived_bytes = size_bytes

    def give_way(self, now_s: float) -> bool:
        """Give up what is held if the body is slow to arrive, and tell whether it was."""
        late_s = now_s - self._began_s - GRACE_S
        if self._evict is None or late_s < 0 or self._arrived_bytes > late_s * SLOWEST_BYTES_PER_S:
            return False
        self._evict()
        self._evict = None
        return True


class Admission:
    """A budget of bytes and of requests in flight.

    Args:
        budget_bytes: For bodies, each counted twice.
        max_requests: How many requests may be under way, queued ones included.
        monotonic_s: The clock.
    """

    __slots__ = ("_free_bytes", "_max_requests", "_reservations", "budget_bytes", "monotonic_s")

    def __init__(self, *, budget_bytes: int, max_requests: int, monotonic_s: Callable[[], float]) -> None:
        self.budget_bytes = budget_bytes
        self._free_bytes = budget_bytes
        self._max_requests = max_requests
        self.monotonic_s = monotonic_s
        self._reservations: dict[Reservation, None] = {}

    @property
    def in_flight(self) -> int:
        """How many requests are under way."""
        return len(self._reservations)

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
        if self.in_flight >= self._max_requests and not self._evict_one():
            raise OverloadedError
        reservation = Reservation(self)
        self._reservations[reservation] = None
        try:
            yield reservation
        finally:
            self._release(reservation)

    def take(self, size_bytes: int) -> None:
        """Take `size_bytes` out of the budget.

        Raises:
            OverloadedError: fewer are left.
        """
        while size_bytes > self._free_bytes:
            if not self._evict_one():
                raise OverloadedError
        self._free_bytes -= size_bytes

    def _evict_one(self) -> bool:
        """Have the first body that is slow to arrive make place; tell whether there was one."""
        now_s = self.monotonic_s()
        for reservation in self._reservations:
            if reservation.give_way(now_s):
                self._release(reservation)
                return True
        return False

    def _release(self, reservation: Reservation) -> None:
        self._reservations.pop(reservation, None)
        self._free_bytes += reservation.size_bytes
        reservation.size_bytes = 0
