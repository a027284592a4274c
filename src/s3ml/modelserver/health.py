"""Whether a replica's sealed answers look healthy: what outlier ejection cannot see from outside.

Pure: the present is passed in.
"""

from collections import deque

WINDOW_S = 10.0
# Fewer answers than this say nothing about the replica.
LEAST_ANSWERS = 20
FAILING_SHARE = 0.5


class AnswerHealth:
    """Counts sealed answers and failures (inner status 500 and above) over the last 10 seconds.

    A failing replica becomes unready, gets no more requests, and with that forgets its failures: it is tried
    again after at most one window.
    """

    __slots__ = ("_buckets",)

    def __init__(self) -> None:
        self._buckets: deque[tuple[int, int, int]] = deque()

    def record(self, status: int, *, now_s: float) -> None:
        """Count an inner status at a monotonic instant."""
        second = int(now_s)
        answers, failures = 0, 0
        if self._buckets and self._buckets[-1][0] == second:
            _, answers, failures = self._buckets.pop()
        self._buckets.append((second, answers + 1, failures + (status >= 500)))  # noqa: PLR2004
        self._forget(now_s)

    def is_failing(self, *, now_s: float) -> bool:
        """Tell whether at least half of enough recent answers were failures."""
        self._forget(now_s)
        answers = sum(bucket[1] for bucket in self._buckets)
        failures = sum(bucket[2] for bucket in self._buckets)
        return answers >= LEAST_ANSWERS and failures >= FAILING_SHARE * answers

    def _forget(self, now_s: float) -> None:
        while self._buckets and self._buckets[0][0] < now_s - WINDOW_S:
            self._buckets.popleft()
