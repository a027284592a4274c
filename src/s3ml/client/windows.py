"""Many inferences at once, in bounded memory: which input may begin, and whose outcome comes next. Pure.

At most `concurrency` inputs are under way, and at most twice as many are begun without their outcome having
been taken: a caller who takes slowly, or waits for a slow first one, holds no more than that.
"""

from s3ml.client.errors import InvalidInputError
from s3ml.client.results import InferFailure, InferResult

CONCURRENCY_LIMIT = 128
_AHEAD = 2

Outcome = InferResult | InferFailure


class Window:
    """The inputs between the first whose outcome was not taken and the last that was begun.

    Args:
        concurrency: How many may be under way, 1 to 128.
        ordered: Whether outcomes are taken in the order of inputs, or as they come.

    Raises:
        InvalidInputError: `concurrency` is out of range.
    """

    __slots__ = ("_begun", "_concurrency", "_is_ordered", "_running", "_taken", "_waiting")

    def __init__(self, *, concurrency: int, ordered: bool) -> None:
        if not 1 <= concurrency <= CONCURRENCY_LIMIT:
            raise InvalidInputError(f"concurrency: expected 1 to {CONCURRENCY_LIMIT}, got {concurrency}")
        self._concurrency = concurrency
        self._is_ordered = ordered
        self._begun = 0
        self._taken = 0
        self._running = 0
        self._waiting: dict[int, Outcome] = {}

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way."""
        return self._running == 0

    @property
    def may_begin(self) -> bool:
        """Whether another input may be begun."""
        is_near = self._begun - self._taken < _AHEAD * self._concurrency
        return is_near and self._running < self._concurrency

    def begin(self) -> int:
        """Begin the next input and return its place."""
        self._running += 1
        self._begun += 1
        return self._begun - 1

    def finish(self, outcome: Outcome) -> None:
        """Note the outcome of an input that was begun."""
        self._running -= 1
        self._waiting[outcome.index] = outcome

    def take(self) -> Outcome | None:
        """Return the next outcome, or None while there is none to take."""
        place = self._taken if self._is_ordered else next(iter(self._waiting), None)
        outcome = self._waiting.pop(place, None) if place is not None else None
        self._taken += outcome is not None
        return outcome
