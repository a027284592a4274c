"""How long a call may take, and how long it waits between attempts.

Exponential backoff with full jitter: callers that failed together do not come back together.

Source: AWS Architecture Blog, "Exponential Backoff And Jitter".
"""

from collections.abc import Callable

from s3ml.client.errors import DeadlineExceededError, TransientError
from s3ml.client.steps import Pause
from s3ml.primitives.clock import Clock
from s3ml.primitives.errors import ConfigurationError

DEFAULT_TIMEOUT_S = 30.0
FIRST_PAUSE_S = 0.025
LONGEST_PAUSE_S = 2.0


class Budget:
    """The time of one call.

    Args:
        clock: The source of monotonic time.
        jitter: Returns a number from 0 to 1, evenly distributed.
        timeout_s: How long the call may take in all.

    Raises:
        ConfigurationError: a timeout that is not positive.
    """

    __slots__ = ("_clock", "_deadline_s", "_jitter", "_last", "_timeout_s", "retries")

    def __init__(self, clock: Clock, jitter: Callable[[], float], *, timeout_s: float) -> None:
        if not timeout_s > 0:
            raise ConfigurationError(f"timeout_s: expected more than 0 seconds, got {timeout_s}")
        self._clock = clock
        self._jitter = jitter
        self._timeout_s = timeout_s
        self._deadline_s = clock.monotonic_s() + timeout_s
        self._last: TransientError | None = None
        self.retries = 0

    @property
    def remaining_s(self) -> float:
        """How much time is left; zero or less once it is over."""
        return self._deadline_s - self._clock.monotonic_s()

    @property
    def elapsed_s(self) -> float:
        """How long the call has taken so far."""
        return self._timeout_s - self.remaining_s

    def left_for(self, what: str) -> float:
        """Return how much time is left for `what`.

        Raises:
            DeadlineExceededError: none.
        """
        remaining_s = self.remaining_s
        if remaining_s <= 0:
            last = "" if self._last is None else f"; the last of {self.retries} attempts: {self._last}"
            raise DeadlineExceededError(
                f"no answer within {self._timeout_s:g} s: no time left for {what}{last}"
            ) from self._last
        return remaining_s

    def pause_after(self, failure: TransientError) -> Pause:
        """Return how long to wait after `failure`: at least as long as its peer asked for.

        Raises:
            DeadlineExceededError: the wait would outlast the caller's time.
        """
        ceiling_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self.retries, 30))
        pause_s = (failure.retry_after_s or 0.0) + self._jitter() * ceiling_s
        if pause_s >= self.remaining_s:
            raise DeadlineExceededError(
                f"no answer within {self._timeout_s:g} s; the last of {self.retries + 1} attempts: {failure}",
                retry_after_s=failure.retry_after_s,
            ) from failure
        self._last = failure
        self.retries += 1
        return Pause(duration_s=pause_s)
