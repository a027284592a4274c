"""Timing the same work again and again, and what the durations say."""

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

# Enough for any percentile that is told; more would fill the memory that is measured.
RUNS_LIMIT = 50_000
_LEAST_RUNS = 5
_PATIENCE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """What runs of the same work took, one after the other.

    Attributes:
        runs: How many.
        p50_s: Median duration of one.
        p99_s: At p99, by the nearest rank.
        elapsed_s: All of them together.
        compute_s: Processor time of one, over all threads of the process.
        minor_faults: Pages that one got afresh, on average.
        major_faults: Pages that one waited for, on average.
    """

    runs: int
    p50_s: float
    p99_s: float
    elapsed_s: float
    compute_s: float
    minor_faults: float
    major_faults: float


def warm_up(work: Callable[[], object], *, duration_s: float) -> None:
    """Run `work` once, and again for as long as `duration_s`."""
    end = time.perf_counter() + duration_s
    work()
    while time.perf_counter() < end:
        work()


def time_runs(work: Callable[[], object], *, duration_s: float) -> Timed:
    """Run `work` for about `duration_s`: five times at least, unless that takes four times as long."""
    durations_s = np.zeros(RUNS_LIMIT)
    clock = time.perf_counter
    usage, spent_s = resource.getrusage(resource.RUSAGE_SELF), time.process_time()
    runs, begin = 0, clock()
    now = begin
    while runs < RUNS_LIMIT:
        work()
        before, now = now, clock()
        durations_s[runs] = now - before
        runs += 1
        elapsed_s = now - begin
        if elapsed_s >= duration_s * _PATIENCE or (elapsed_s >= duration_s and runs >= _LEAST_RUNS):
            break
    compute_s = time.process_time() - spent_s
    after = resource.getrusage(resource.RUSAGE_SELF)
    p50_s, p99_s = np.percentile(durations_s[:runs], (50, 99), method="inverted_cdf")
    return Timed(
        runs=runs,
        p50_s=float(p50_s),
        p99_s=float(p99_s),
        elapsed_s=now - begin,
        compute_s=compute_s / runs,
        minor_faults=(after.ru_minflt - usage.ru_minflt) / runs,
        major_faults=(after.ru_majflt - usage.ru_majflt) / runs,
    )
