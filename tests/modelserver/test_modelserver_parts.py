"""The small parts: log, admission, health, metrics, pool."""

import asyncio
import io
import json
import logging
import threading
import time

import pytest

from s3ml.modelserver.admission import Admission, OverloadedError
from s3ml.modelserver.events import EventLog, LibraryRecords
from s3ml.modelserver.execution import BulkWorker, DeadlineError, run_detached
from s3ml.modelserver.health import LEAST_ANSWERS, WINDOW_S, AnswerHealth
from s3ml.modelserver.memory import return_free_memory


class TestEventLog:
    """Only what is on the list can be written."""

    def test_an_event_is_one_line_of_json(self) -> None:
        stream = io.StringIO()
        EventLog("r-1", stream).write("granted", epochs=[1, 2], lease_s=900.0)

        line = json.loads(stream.getvalue())
        assert (line["event"], line["replica"], line["epochs"]) == ("granted", "r-1", [1, 2])

    def test_a_field_that_is_not_listed_is_refused(self) -> None:
        with pytest.raises(ValueError, match="payload"):
            EventLog("r-1", io.StringIO()).write("granted", payload="secret")

    def test_long_text_is_cut(self) -> None:
        stream = io.StringIO()
        EventLog("r-1", stream).write("x", error="e" * 5000)

        assert len(json.loads(stream.getvalue())["error"]) == 1000

    def test_a_line_feed_makes_no_second_line(self) -> None:
        stream = io.StringIO()
        EventLog("r-1", stream).write("x", error="a\nb")

        assert stream.getvalue().count("\n") == 1

    def test_arguments_of_libraries_stay_out(self) -> None:
        stream = io.StringIO()
        handler = LibraryRecords(EventLog("r-1", stream))
        handler.handle(
            logging.LogRecord("library", logging.WARNING, "x.py", 1, "row %s failed", ("SECRET",), None)
        )

        assert "SECRET" not in stream.getvalue()
        assert json.loads(stream.getvalue())["detail"] == "row %s failed"

    def test_a_library_that_repeats_itself_is_heard_once(self) -> None:
        stream = io.StringIO()
        handler = LibraryRecords(EventLog("r-1", stream))
        for text in ("gone: %s", "gone: %s", "back", "gone: %s"):
            handler.handle(logging.LogRecord("library", logging.WARNING, "x.py", 1, text, (), None))
        assert [json.loads(line)["detail"] for line in stream.getvalue().splitlines()] == [
            "gone: %s",
            "back",
            "gone: %s",
        ]


class TestAdmission:
    """What does not fit is refused before it is read, and everything is given back."""

    def test_a_body_counts_twice(self) -> None:
        admission = Admission(budget_bytes=20, max_requests=5, monotonic_s=time.monotonic)
        with admission.reserve() as reservation:
            reservation.grow_to(10)
            with admission.reserve() as other, pytest.raises(OverloadedError):
                other.grow_to(1)

    def test_what_was_taken_comes_back(self) -> None:
        admission = Admission(budget_bytes=20, max_requests=1, monotonic_s=time.monotonic)
        for _ in range(3):
            with admission.reserve() as reservation:
                reservation.grow_to(10)
        assert admission.in_flight == 0

    def test_growing_pays_the_difference(self) -> None:
        admission = Admission(budget_bytes=20, max_requests=1, monotonic_s=time.monotonic)
        with admission.reserve() as reservation:
            for size in (4, 10, 7):
                reservation.grow_to(size)
            assert reservation.size_bytes == 20

    def test_a_refused_growth_gives_back_what_it_had(self) -> None:
        admission = Admission(budget_bytes=20, max_requests=1, monotonic_s=time.monotonic)
        with admission.reserve() as reservation:
            reservation.grow_to(4)
            with pytest.raises(OverloadedError):
                reservation.grow_to(100)
        with admission.reserve() as reservation:
            reservation.grow_to(10)

    def test_the_number_of_requests_is_bounded(self) -> None:
        admission = Admission(budget_bytes=20, max_requests=1, monotonic_s=time.monotonic)
        with admission.reserve(), pytest.raises(OverloadedError), admission.reserve():
            raise AssertionError


class TestAnswerHealth:
    """A replica that mostly fails says so, and is tried again."""

    def test_too_few_answers_say_nothing(self) -> None:
        health = AnswerHealth()
        for _ in range(LEAST_ANSWERS - 1):
            health.record(500, now_s=5.0)
        assert not health.is_failing(now_s=5.0)

    def test_half_of_enough_answers_is_failing(self) -> None:
        health = AnswerHealth()
        for number in range(LEAST_ANSWERS):
            health.record(500 if number % 2 else 200, now_s=number / 4)
        assert health.is_failing(now_s=5.0)

    def test_mistakes_of_clients_are_no_failures(self) -> None:
        health = AnswerHealth()
        for _ in range(LEAST_ANSWERS):
            health.record(400, now_s=5.0)
        assert not health.is_failing(now_s=5.0)

    def test_failures_are_forgotten_after_the_window(self) -> None:
        health = AnswerHealth()
        for _ in range(LEAST_ANSWERS):
            health.record(500, now_s=5.0)
        assert not health.is_failing(now_s=5.0 + WINDOW_S + 1)


class TestBulkWorker:
    """Computing is bounded in threads and in time."""

    async def test_it_runs_off_the_event_loop(self) -> None:
        pool = BulkWorker(deadline_s=300)
        assert await pool.run(threading.get_ident) != threading.get_ident()
        pool.close()

    async def test_what_waits_too_long_is_given_up(self) -> None:
        pool, release = BulkWorker(deadline_s=0.01), threading.Event()
        blocking = asyncio.ensure_future(pool.run(release.wait, 30.0))
        with pytest.raises(DeadlineError, match=r"within 0\.01 s"):
            await blocking
        release.set()
        pool.close()

    async def test_its_own_errors_pass_through(self) -> None:
        pool = BulkWorker(deadline_s=300)
        with pytest.raises(ValueError, match="invalid literal"):
            await pool.run(int, "x")
        pool.close()


class TestDetachedWork:
    """A slow peer holds up neither the loop nor the end."""

    async def test_its_result_and_its_errors_come_back(self) -> None:
        assert await run_detached(threading.get_ident) != threading.get_ident()
        with pytest.raises(ValueError, match="invalid literal"):
            await run_detached(lambda: int("x"))

    async def test_a_cancelled_caller_does_not_wait(self) -> None:
        release, ended = threading.Event(), threading.Event()

        def slow() -> None:
            release.wait(20)
            ended.set()

        waiting = asyncio.ensure_future(run_detached(slow))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not ended.is_set()
        release.set()
        ended.wait(20)


def test_returning_memory_needs_no_particular_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no `malloc_trim`, nothing happens."""
    return_free_memory()
    monkeypatch.setattr("s3ml.modelserver.memory.ctypes.CDLL", lambda _name: object())
    return_free_memory()
