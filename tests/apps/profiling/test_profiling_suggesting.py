"""Suggestions follow from points alone, by the rules of docs/spec/profile.md."""

from collections.abc import Sequence

import pytest

from s3ml.apps.profiling.suggesting import (
    find_knee,
    fixed_cost_s,
    suggest,
    suggest_delay_us,
    suggest_threads,
    waiting_share,
)
from s3ml.bundle import Batching
from s3ml.bundle.profile import Point
from tests.bundle.profiles import MB, point


def curve(*p50_ms: float, threads: int = 1) -> list[Point]:
    """Return points of batches 1, 2, 4 and so on."""
    return [point(threads, 1 << place, ms) for place, ms in enumerate(p50_ms)]


def straight(fixed_ms: float, row_ms: float, count: int = 6) -> list[Point]:
    return curve(*(fixed_ms + row_ms * (1 << place) for place in range(count)))


class TestKnee:
    """The smallest batch with 90 % of the best throughput, where joining gains a tenth at all."""

    @pytest.mark.parametrize(
        ("durations_ms", "knee"),
        [
            ((10,), 1),  # one size alone
            ((10, 20, 40, 80), 1),  # twice the rows, twice the time
            ((10, 19, 37, 73), 1),  # 9.6 % gained: not worth it
            ((10, 10, 10, 10), 8),  # rows are free
            ((10, 12, 20, 40), 4),  # 100, 167, 200, 200 rows/s
            ((10, 10.5, 20, 39), 2),  # 100, 190, 200, 205: 90 % is enough
            ((10, 10, 40, 80), 2),  # larger ones are worse
            ((10, 30, 40, 40), 8),  # a dip on the way
        ],
    )
    def test_it_is_found(self, durations_ms: Sequence[float], knee: int) -> None:
        assert find_knee(curve(*durations_ms), objective_s=None).batch == knee

    @pytest.mark.parametrize(
        ("objective_ms", "knee"),
        [(1000, 8), (30, 8), (17, 4), (15, 1), (1, 1)],
    )
    def test_it_stays_within_the_objective(self, objective_ms: float, knee: int) -> None:
        """p99 is 1.5 times p50 here: 15, 15.75, 16.5 and 18 ms."""
        points = curve(10, 10.5, 11, 12)
        assert find_knee(points, objective_s=objective_ms / 1e3).batch == knee


class TestThreads:
    """A thread more has to do 80 % of a thread's work; an objective may need more."""

    @pytest.mark.parametrize(
        ("durations_ms", "threads"),
        [
            ({1: 10.0}, 1),
            ({1: 10.0, 2: 5.0}, 2),
            ({1: 10.0, 2: 6.2}, 2),
            ({1: 10.0, 2: 6.3}, 1),
            ({1: 10.0, 2: 12.0, 4: 2.5}, 1),
            ({1: 10.0, 2: 5.5, 4: 4.0}, 2),
            ({2: 10.0, 4: 5.0}, 4),
        ],
    )
    def test_they_have_to_pay(self, durations_ms: dict[int, float], threads: int) -> None:
        points = [point(count, 1, ms) for count, ms in durations_ms.items()]
        assert suggest_threads(points, objective_s=None) == threads

    @pytest.mark.parametrize(("objective_ms", "threads"), [(15, 1), (12, 2), (9, 4), (1, 4)])
    def test_an_objective_may_need_more(self, objective_ms: float, threads: int) -> None:
        points = [point(1, 1, 10.0), point(2, 1, 7.0), point(4, 1, 6.0)]
        assert suggest_threads(points, objective_s=objective_ms / 1e3) == threads

    def test_larger_batches_do_not_count(self) -> None:
        points = [point(1, 1, 10.0), point(1, 8, 80.0), point(2, 1, 9.0), point(2, 8, 40.0)]
        assert suggest_threads(points, objective_s=None) == 1


class TestDelay:
    """A lone request waits no longer than joining saves, and than a tenth of a run."""

    @pytest.mark.parametrize(
        ("fixed_ms", "row_ms", "delay_us"),
        [
            (0.0, 5.0, 0),
            (0.05, 0.01, 0),  # less than a timer keeps
            (1.0, 5.0, 1000),  # what joining saves
            (10.0, 0.3125, 2000),  # a tenth of 20 ms
            (2.19, 1.0, 2100),  # whole tenths of a millisecond
        ],
    )
    def test_it_follows_from_the_fixed_cost(self, fixed_ms: float, row_ms: float, delay_us: int) -> None:
        points = straight(fixed_ms, row_ms)
        assert suggest_delay_us(points, points[-1]) == pytest.approx(delay_us, abs=100)

    def test_the_fixed_cost_is_what_rows_do_not_add(self) -> None:
        assert fixed_cost_s(straight(3.0, 2.0)) == pytest.approx(0.003)

    def test_it_is_never_below_zero(self) -> None:
        assert fixed_cost_s(curve(10, 21, 44, 92)) == 0

    def test_one_point_tells_none(self) -> None:
        assert fixed_cost_s(curve(10)) == 0

    def test_it_stays_below_a_second(self) -> None:
        points = straight(100_000.0, 1.0)
        assert suggest_delay_us(points, points[-1]) == 1_000_000


class TestNeighbours:
    """What others took of the processor is told, and does not move the knee."""

    def test_the_knee_follows_from_processor_time(self) -> None:
        points = [point(1, 1, 50.0, compute_s=0.01), point(1, 2, 30.0, compute_s=0.0199)]
        assert find_knee(points, objective_s=None).batch == 1

    @pytest.mark.parametrize(
        ("threads", "compute_ms", "share"),
        [(1, 10.0, 0.0), (1, 4.0, 0.6), (2, 20.0, 0.0), (2, 10.0, 0.5), (1, 11.0, 0)],
    )
    def test_waiting_is_told(self, threads: int, compute_ms: float, share: float) -> None:
        points = [point(threads, 1, 10.0, compute_s=compute_ms / 1e3), point(8, 1, 100.0, compute_s=0.001)]
        assert waiting_share(points) == pytest.approx(share)

    def test_one_quiet_point_is_enough(self) -> None:
        assert waiting_share([point(1, 1, 10.0), point(1, 2, 90.0, compute_s=0.02)]) == 0


class TestSuggestion:
    """All of it together."""

    def test_batches_threads_and_memory(self) -> None:
        points = [*straight(4.0, 1.0, 4), *(point(2, 1 << place, 6.0) for place in range(4))]
        found = suggest(points, process_bytes=70 * MB, objective_s=None)
        assert found.batching == Batching(max_size=8, max_delay_us=1200)
        assert found.resources.threads == 1
        # The peak at batch 8 is 159 MB: 89 MB more than the process, and a tenth: 93.4 MiB.
        assert found.resources.memory_bytes == 94 << 20

    def test_memory_is_that_of_the_suggested_batch_alone(self) -> None:
        found = suggest(curve(10, 20, 40, 80), process_bytes=70 * MB, objective_s=None)
        assert found.batching is None
        assert found.resources.memory_bytes == 35 << 20  # (103 - 70) MB and a tenth

    def test_a_model_that_adds_nothing_still_has_something(self) -> None:
        found = suggest(curve(10), process_bytes=900 * MB, objective_s=None)
        assert found.resources.memory_bytes == 1 << 20
