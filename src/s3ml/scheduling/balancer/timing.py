"""How long answers take at one replica, without an access log: by Little's law, or by a picker's own timings.

By Little's law the mean time in a system is the mean number in it divided by the rate at which answers leave
it. Envoy tells both at an instant: requests in flight, and how many it has had answered. The integral of the
requests in flight over a window, divided by the answers of the window, is their mean time, with two errors:

* requests that began before the window or end after it; their share is about the latency over the window;
* requests in flight are sampled, not integrated: where n samples find the replica busy a share u of the time
  with one request at a time, the relative error is about sqrt((1 - u) / (u n)). At 5 samples a second over 2 s
  a replica that is 10 % busy is known to about 90 %, one that is 80 % busy to about 16 %. It errs most where it
  matters least: where nobody waits.

Where nothing was answered in the window but something is in flight, the latency is at least what has passed in
it, so a replica that hangs looks slow before its first answer.

Source: J. D. C. Little, "A proof for the queuing formula L = λW", 1961.
"""

from collections import deque
from dataclasses import dataclass

WINDOW_S = 2.0
_TIMINGS_LIMIT = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sample:
    at_s: float
    in_flight: int
    succeeded: int
    failed: int


class SampledTiming:
    """One replica's latency and errors from samples of what Envoy counts.

    Args:
        window_s: Over how long samples are taken together.
    """

    __slots__ = ("_latency_s", "_samples", "_window_s")

    def __init__(self, window_s: float = WINDOW_S) -> None:
        self._window_s = window_s
        self._samples: deque[_Sample] = deque()
        self._latency_s: float | None = None

    def sample(self, at_s: float, *, in_flight: int, succeeded: int, failed: int) -> None:
        """Take in a sample; counters that went down began anew, and the window with them."""
        samples = self._samples
        if samples and (succeeded < samples[-1].succeeded or failed < samples[-1].failed):
            samples.clear()
        if samples and at_s <= samples[-1].at_s:
            return
        samples.append(_Sample(at_s=at_s, in_flight=in_flight, succeeded=succeeded, failed=failed))
        while len(samples) > 2 and at_s - samples[1].at_s >= self._window_s:  # noqa: PLR2004 - one interval
            samples.popleft()
        self._latency_s = self._estimate()

    @property
    def latency_s(self) -> float | None:
        """The mean time of the newest answers; the last one known where nothing happens; None at first."""
        return self._latency_s

    @property
    def error_share(self) -> float:
        """The share of the window's answers that were errors; 0 where there were none."""
        failed, answered = self._answered()
        return failed / answered if answered else 0.0

    def _answered(self) -> tuple[int, int]:
        if not self._samples:
            return 0, 0
        first, last = self._samples[0], self._samples[-1]
        failed = last.failed - first.failed
        return failed, failed + last.succeeded - first.succeeded

    def _estimate(self) -> float | None:
        samples = list(self._samples)
        # The trapezium of each interval: requests × seconds.
        passed = sum(
            (later.at_s - earlier.at_s) * (earlier.in_flight + later.in_flight) / 2
            for earlier, later in zip(samples, samples[1:], strict=False)
        )
        _, answered = self._answered()
        if answered and passed > 0:
            return passed / answered
        if not answered and samples[-1].in_flight:
            return max(self._latency_s or 0.0, passed / samples[-1].in_flight)
        return self._latency_s


class CountedTiming:
    """One replica's latency and errors from the timings of each request that a picker sent it.

    Args:
        window_s: How long a timing counts.
    """

    __slots__ = ("_errors", "_latency_s", "_timings", "_total_s", "_window_s", "in_flight")

    def __init__(self, window_s: float = WINDOW_S) -> None:
        self._window_s = window_s
        self._timings: deque[tuple[float, float, bool]] = deque()
        self._total_s = 0.0
        self._errors = 0
        self._latency_s: float | None = None
        self.in_flight = 0

    def began(self) -> None:
        """Count a request that was sent."""
        self.in_flight += 1

    def ended(self, at_s: float, *, took_s: float | None, is_error: bool = False) -> None:
        """Count its end.

        Args:
            at_s: Monotonic.
            took_s: Until its answer; None for one that was given up, which says nothing of the replica.
            is_error: Whether the answer was an error of the server.
        """
        self.in_flight = max(0, self.in_flight - 1)
        if took_s is None:
            return
        self._timings.append((at_s, took_s, is_error))
        self._total_s += took_s
        self._errors += is_error
        self._forget(at_s)
        self._latency_s = max(0.0, self._total_s) / len(self._timings)

    @property
    def latency_s(self) -> float | None:
        """The mean time of the newest answers; the last one known where nothing happens; None at first."""
        return self._latency_s

    @property
    def error_share(self) -> float:
        """The share of the newest answers that were errors; 0 where there were none."""
        return self._errors / len(self._timings) if self._timings else 0.0

    def _forget(self, now_s: float) -> None:
        timings = self._timings
        while len(timings) > 1 and (len(timings) > _TIMINGS_LIMIT or now_s - timings[0][0] > self._window_s):
            _, took_s, is_error = timings.popleft()
            self._total_s -= took_s
            self._errors -= is_error
