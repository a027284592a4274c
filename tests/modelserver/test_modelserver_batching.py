"""Which jobs are computed together, and when: pure, and without a clock."""

import asyncio
import math
from collections.abc import Hashable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3ml.bundle import Batching
from s3ml.modelserver.batching import Job, Queue, QueueFullError, is_batchable, lane_of
from s3ml.modelserver.runtimes import TensorSpec


def job(rows: int = 1, *, lane: Hashable = "a", arrived_s: float = 0.0, deadline_s: float = 30.0) -> Job:
    result: Any = asyncio.Future[list[Any]](loop=_LOOP)
    return Job(
        inputs={}, outputs=(), lane=lane, rows=rows, arrived_s=arrived_s, deadline_s=deadline_s, result=result
    )


_LOOP: Any = type("Loop", (), {"get_debug": lambda self: False})()


def queue(max_size: int = 4, *, max_delay_us: int = 0, max_queue: int = 256) -> Queue:
    return Queue(Batching(max_size=max_size, max_delay_us=max_delay_us, max_queue=max_queue))


class TestBatches:
    """A batch is the longest run of one lane, from its front, that fits."""

    def test_what_fits_goes_together(self) -> None:
        line = queue(4)
        jobs = [job(), job(2), job(1), job(1)]
        for one in jobs:
            line.add(one)

        assert line.take() == jobs[:3]
        assert line.take() == jobs[3:]
        assert len(line) == 0

    def test_a_job_larger_than_a_batch_goes_alone(self) -> None:
        line = queue(4)
        large, small = job(9), job(1)
        line.add(large)
        line.add(small)

        assert line.take() == [large]
        assert line.take() == [small]

    def test_lanes_are_not_mixed(self) -> None:
        line = queue(4)
        first, other, second = job(arrived_s=1), job(lane="b", arrived_s=2), job(arrived_s=3)
        for one in (first, other, second):
            line.add(one)

        assert line.take() == [first, second]
        assert line.take() == [other]

    def test_without_batching_each_job_goes_alone(self) -> None:
        line = Queue(None)
        jobs = [job(), job()]
        for one in jobs:
            line.add(one)

        assert not line.is_batching
        assert [line.take(), line.take()] == [jobs[:1], jobs[1:]]

    def test_batching_that_was_stopped_stays_so(self) -> None:
        line = queue(4)
        jobs = [job(), job()]
        for one in jobs:
            line.add(one)
        line.compute_alone()

        assert line.take() == jobs[:1]

    @given(st.lists(st.tuples(st.integers(1, 6), st.sampled_from("ab")), max_size=30), st.integers(1, 8))
    def test_nothing_is_lost_or_reordered_within_a_lane(
        self, shapes: list[tuple[int, str]], max_size: int
    ) -> None:
        line = queue(max_size)
        jobs = [job(rows, lane=lane, arrived_s=n) for n, (rows, lane) in enumerate(shapes)]
        for one in jobs:
            line.add(one)
        taken: list[Job] = []
        while len(line):
            batch = line.take()
            assert len({one.lane for one in batch}) == 1
            assert len(batch) == 1 or sum(one.rows for one in batch) <= max_size
            taken += batch

        assert sorted(taken, key=id) == sorted(jobs, key=id)
        for lane in "ab":
            assert [one for one in taken if one.lane == lane] == [one for one in jobs if one.lane == lane]


class TestReadiness:
    """Full, old enough, or about to miss a deadline."""

    def test_nothing_is_never_ready(self) -> None:
        assert queue().ready_at_s == math.inf

    def test_without_a_delay_the_first_job_is_ready(self) -> None:
        line = queue()
        line.add(job(arrived_s=5))

        assert line.ready_at_s == 5

    def test_a_delay_lets_it_wait_for_others(self) -> None:
        line = queue(4, max_delay_us=2_000_000)
        line.add(job(arrived_s=5))

        assert line.ready_at_s == 7

    def test_a_full_batch_does_not_wait(self) -> None:
        line = queue(2, max_delay_us=2_000_000)
        line.add(job(arrived_s=5))
        line.add(job(arrived_s=6))

        assert line.ready_at_s == 5

    def test_a_deadline_ends_the_wait_in_time_to_compute(self) -> None:
        line = queue(4, max_delay_us=1_000_000)
        line.learn(0.25)
        line.add(job(arrived_s=5, deadline_s=5.75))

        assert line.ready_at_s == 5.5

    def test_a_deadline_that_cannot_be_met_is_not_before_the_arrival(self) -> None:
        line = queue(4, max_delay_us=1_000_000)
        line.learn(9.0)
        line.add(job(arrived_s=5, deadline_s=6))

        assert line.ready_at_s == 5


class TestPlaces:
    """A queue is bounded; who leaves frees a place."""

    def test_a_full_queue_refuses(self) -> None:
        line = queue(max_queue=2)
        line.add(job())
        line.add(job())

        with pytest.raises(QueueFullError):
            line.add(job())

    def test_leaving_frees_the_place(self) -> None:
        line = queue(max_queue=2)
        stays, leaves = job(), job()
        line.add(stays)
        line.add(leaves)
        line.discard(leaves)
        line.add(job())

        assert len(line) == 2

    def test_leaving_twice_or_late_is_no_matter(self) -> None:
        line = queue()
        alone = job()
        line.add(alone)
        line.discard(alone)
        line.discard(alone)

        assert (len(line), line.ready_at_s) == (0, math.inf)


class TestEstimates:
    """What waits costs about as many batches as it makes."""

    def test_nothing_is_known_at_first(self) -> None:
        line = queue()
        line.add(job())

        assert (line.batch_s, line.work_s) == (0.0, 0.0)

    def test_the_first_measurement_counts_in_full_the_next_in_part(self) -> None:
        line = queue()
        line.learn(1.0)
        line.learn(2.0)

        assert line.batch_s == pytest.approx(1.2)

    def test_work_is_batches_times_their_time(self) -> None:
        line = queue(4)
        line.learn(0.5)
        for rows in (4, 1):
            line.add(job(rows))
        line.add(job(lane="b"))

        assert line.work_s == pytest.approx(1.5)


class TestLanes:
    """What may be laid one after the other."""

    def test_equal_rows_share_a_lane(self) -> None:
        one, two = np.zeros((1, 3), np.float32), np.zeros((2, 3), np.float32)

        assert lane_of({"x": one})[0] == lane_of({"x": two})[0]
        assert lane_of({"x": two})[1] == 2

    @pytest.mark.parametrize(
        "other", [np.zeros((1, 4), np.float32), np.zeros((1, 3), np.float64), np.zeros((1, 3, 1), np.float32)]
    )
    def test_another_shape_or_datatype_does_not(self, other: Any) -> None:
        assert lane_of({"x": np.zeros((1, 3), np.float32)})[0] != lane_of({"x": other})[0]

    @pytest.mark.parametrize(
        "inputs",
        [
            {"x": np.zeros((1, 3)), "y": np.zeros((2, 3))},
            {"x": np.zeros(())},
            {"x": np.zeros((0, 3))},
        ],
    )
    def test_what_has_no_common_length_goes_alone(self, inputs: Any) -> None:
        (first, rows), (second, _) = lane_of(inputs), lane_of(inputs)

        assert (first != second, rows) == (True, 1)

    @pytest.mark.parametrize(
        ("shape", "expected"), [((-1, 3), True), ((-1,), True), ((1, 3), False), ((), False)]
    )
    def test_a_model_needs_first_dimensions_that_vary(
        self, shape: tuple[int, ...], *, expected: bool
    ) -> None:
        varies = TensorSpec(name="x", datatype="FP32", shape=(-1, 3), symbols=(None, None))
        other = TensorSpec(name="y", datatype="FP32", shape=shape, symbols=(None,) * len(shape))

        assert is_batchable([varies], [other]) is expected
