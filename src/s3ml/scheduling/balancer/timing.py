"""How long answers take at one replica, without an access log: by Little's law, or by a picker's own timings.

By Little's law the mean time in a system is the mean number in it divided by the rate at which answers leave
it. Envoy tells both at an instant: requests in flight, and how many it has had answered. The integral of the
requests in flight over a window, divided by the answers of the window, is their mean time, with two errors:

* requests that began before the window or end after it; their share is about the latency over the window;
* requests in flight are sampled, not integrated: where n samples find the replica busy a share u of the time
  with one request at a time, the relative error is about sqrt((1 - u) / (u n)). At 5 samples a second over
  2 s a replica that is 10 % busy is known to about 95 %, one that is 80 % busy to about 16 %. It errs most
  where it matters least: where nobody waits. There it also errs upwards: a window in which no sample found
  the replica busy says nothing, and leaves the last estimate in place.

Where nothing was answered in the window but something is in flight, the latency is at least what has passed
in it, so a replica that hangs looks slow before its first answer.

Source: J. D. C. Little, "A proof for the queuing formula L = λW", 1961.
"""

from collections import deque
from dataclasses import dataclass
from itertools import pairwise

WINDOW_S = 2.0
_TIMINGS_LIMIT = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """What is known of one replica's newest answers; the fields are those of `Replica`."""

    latency_s: float | None = None
    service_s: float | None = None
    rate_rps: float | None = None
    answered_at_s: float | None = None
    oldest_s: float = 0.0
    error_share: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sample:
    at_s: float
    in_flight: int
    succeeded: int
    failed: int

    @property
    def answered(self) -> int:
        return self.succeeded + self.failed


class SampledTiming:
    """One replica's times and errors from samples of what Envoy counts.

    Args:
        window_s: Over how long samples are taken together.
    """

    __slots__ = ("_busy_since_s", "_samples", "_timing", "_window_s")

    def __init__(self, window_s: float = WINDOW_S) -> None:
        self._window_s = window_s
        self._samples: deque[_Sample] = deque()
        self._timing = Timing()
        self._busy_since_s: float | None = None

    def sample(self, at_s: float, *, in_flight: int, succeeded: int, failed: int) -> None:
        """Take in a sample; counters that went down began anew, and the window with them."""
        samples = self._samples
        if samples and (succeeded < samples[-1].succeeded or failed < samples[-1].failed):
            samples.clear()
            self._busy_since_s = None
        if samples and at_s <= samples[-1].at_s:
            return
        sample = _Sample(at_s=at_s, in_flight=in_flight, succeeded=succeeded, failed=failed)
        is_answered = bool(samples) and sample.answered > samples[-1].answered
        samples.append(sample)
        while len(samples) > 2 and at_s - samples[1].at_s >= self._window_s:  # noqa: PLR2004 - one interval
            samples.popleft()
        if not in_flight:
            self._busy_since_s = None
        elif is_answered or self._busy_since_s is None:
            self._busy_since_s = at_s
        self._timing = self._estimate(is_answered=is_answered)

    def at(self, now_s: float) -> Timing:
        """Return what the samples so far say; without new ones it stays."""
        _ = now_s
        return self._timing

    def _estimate(self, *, is_answered: bool) -> Timing:
        samples, before = list(self._samples), self._timing
        first, last = samples[0], samples[-1]
        answered = last.answered - first.answered
        # The trapezium of each interval: requests x seconds, and seconds with any request.
        passed_s = busy_s = 0.0
        for earlier, later in pairwise(samples):
            span_s = later.at_s - earlier.at_s
            passed_s += span_s * (earlier.in_flight + later.in_flight) / 2
            busy_s += span_s * (min(1, earlier.in_flight) + min(1, later.in_flight)) / 2
        latency_s, service_s = before.latency_s, before.service_s
        if answered and passed_s > 0:
            latency_s, service_s = passed_s / answered, busy_s / answered
        elif last.in_flight and not answered and passed_s > 0:
            latency_s = max(latency_s or 0.0, passed_s / last.in_flight)
        span_s = last.at_s - first.at_s
        return Timing(
            latency_s=latency_s,
            service_s=service_s,
            rate_rps=answered / span_s if span_s > 0 else None,
            answered_at_s=last.at_s if is_answered else before.answered_at_s,
            # At least: it was in flight when the last answer was seen, or came after it.
            oldest_s=0.0 if self._busy_since_s is None else last.at_s - self._busy_since_s,
            error_share=(last.failed - first.failed) / answered if answered else 0.0,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    at_s: float
    took_s: float
    busy_s: float
    is_error: bool


class CountedTiming:
    """One replica's times and errors from each request that a picker sent it.

    Args:
        window_s: How long an answer counts.
    """

    __slots__ = (
        "_answers",
        "_began",
        "_busy_at_s",
        "_busy_s",
        "_errors",
        "_forgotten_busy_s",
        "_total_s",
        "_window_s",
    )

    def __init__(self, window_s: float = WINDOW_S) -> None:
        self._window_s = window_s
        self._answers: deque[_Answer] = deque()
        # In the order in which they began, so that the first is the oldest.
        self._began: dict[int, float] = {}
        self._total_s = 0.0
        self._errors = 0
        self._busy_s = 0.0
        self._busy_at_s = 0.0
        self._forgotten_busy_s = 0.0

    @property
    def in_flight(self) -> int:
        """Requests that began and have not ended."""
        return len(self._began)

    def began(self, key: int, at_s: float) -> None:
        """Count a request that was sent; `key` names it until its end."""
        self._work(at_s)
        self._began[key] = at_s

    def ended(self, key: int, at_s: float, *, is_answered: bool, is_error: bool = False) -> None:
        """Count its end.

        Args:
            key: As at its beginning; of an unknown one nothing is counted.
            at_s: Monotonic.
            is_answered: Whether it was answered; one that was given up says nothing of the replica.
            is_error: Whether the answer was an error of the server.
        """
        self._work(at_s)
        began_s = self._began.pop(key, None)
        if began_s is None or not is_answered:
            return
        answer = _Answer(at_s=at_s, took_s=at_s - began_s, busy_s=self._busy_s, is_error=is_error)
        self._answers.append(answer)
        self._total_s += answer.took_s
        self._errors += is_error
        self._forget(at_s)

    def at(self, now_s: float) -> Timing:
        """Return what is known at an instant."""
        oldest_s = max(0.0, now_s - next(iter(self._began.values()))) if self._began else 0.0
        answers = self._answers
        if not answers:
            return Timing(oldest_s=oldest_s)
        count, newest = len(answers), answers[-1]
        return Timing(
            latency_s=max(0.0, self._total_s) / count,
            service_s=(newest.busy_s - self._forgotten_busy_s) / count,
            rate_rps=count / max(self._window_s, now_s - answers[0].at_s),
            answered_at_s=newest.at_s,
            oldest_s=oldest_s,
            error_share=self._errors / count,
        )

    def _work(self, now_s: float) -> None:
        """Add the time since the last change to the busy time, if anything was in flight."""
        if self._began:
            self._busy_s += max(0.0, now_s - self._busy_at_s)
        self._busy_at_s = now_s

    def _forget(self, now_s: float) -> None:
        answers = self._answers
        while len(answers) > 1 and (
            len(answers) > _TIMINGS_LIMIT or now_s - answers[0].at_s > self._window_s
        ):
            gone = answers.popleft()
            self._total_s -= gone.took_s
            self._errors -= gone.is_error
            self._forgotten_busy_s = gone.busy_s
