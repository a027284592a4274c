"""The load of the scheduling experiments: from when latency counts, what a signal says."""

import asyncio
import math
from random import Random

import pytest

from benchmarks.scheduling import open_loop
from benchmarks.scheduling.antagonist import allocate, rest_s, sweep
from benchmarks.scheduling.signals import explain, r_squared, windowed
from s3ml.tee_memory.reading import PAGE_BYTES


class TestOpenLoop:
    """Requests go out when they are meant to, and latency counts from then."""

    async def test_a_stall_is_charged_to_every_request_that_came_meanwhile(self) -> None:
        """The server answers nothing before the last request came: a closed loop would have sent one."""
        times = [number / 1000 for number in range(200)]
        open_again = asyncio.Event()

        async def send(number: int) -> str:
            if number == len(times) - 1:
                open_again.set()
            await open_again.wait()
            return "stalled"

        found = await open_loop.run(times, send, grace_s=30)

        assert [one.server for one in found] == ["stalled"] * 200
        first, last = found[0].ended_s, found[-1].intended_s
        assert first is not None
        assert first >= last
        assert (found[0].latency_s or 0) >= last

    async def test_latency_counts_from_the_intent_even_when_sending_was_late(self) -> None:
        """The event loop is held up, so that nothing can be sent when it should be."""
        held_until = 0.0

        async def send(number: int) -> str:
            nonlocal held_until
            loop = asyncio.get_running_loop()
            if number == 0:
                begun = loop.time()
                while loop.time() - begun < 0.05:
                    pass
                held_until = loop.time()
            return ""

        found = await open_loop.run([0.0, 0.001], send, grace_s=30)

        assert held_until
        assert found[1].sent_s >= 0.05
        assert (found[1].latency_s or 0) >= 0.045

    async def test_an_error_is_no_answer_and_says_what_it_was(self) -> None:
        async def send(number: int) -> str:
            raise ConnectionResetError

        found = await open_loop.run([0.0], send, grace_s=30)

        assert (found[0].latency_s, found[0].failure) == (None, "ConnectionResetError")

    async def test_what_is_never_answered_is_counted_and_ended(self) -> None:
        async def send(number: int) -> str:
            await asyncio.Event().wait()
            return ""

        found = await open_loop.run([0.0, 0.001], send, grace_s=0.01)

        assert [one.failure for one in found] == ["no answer", "no answer"]
        assert len(asyncio.all_tasks()) == 1

    async def test_beyond_the_bound_requests_are_counted_and_not_sent(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(open_loop, "MOST_IN_FLIGHT", 2)
        sent = []

        async def send(number: int) -> str:
            sent.append(number)
            await asyncio.Event().wait()
            return ""

        found = await open_loop.run([0.0, 0.0, 0.0, 0.0], send, grace_s=0.01)

        assert sent == [0, 1]
        assert [one.failure for one in found] == ["no answer"] * 4


class TestSignals:
    """R² is 1 for what explains all, near 0 for what explains nothing, and the lead is the shift between."""

    def series(self, count: int = 400) -> list[float]:
        draw = Random(3)  # noqa: S311 - must come out the same
        value, found = 0.0, []
        for _ in range(count):
            value = 0.9 * value + draw.gauss(0, 1)
            found.append(value)
        return found

    def test_a_linear_signal_explains_all(self) -> None:
        signal = self.series()

        assert r_squared(signal, [3 - 2 * value for value in signal]) == pytest.approx(1)

    def test_a_stranger_explains_next_to_nothing(self) -> None:
        draw = Random(4)  # noqa: S311 - must come out the same

        assert r_squared(self.series(2000), [draw.gauss(0, 1) for _ in range(2000)]) < 0.02

    def test_a_constant_explains_nothing(self) -> None:
        assert r_squared([1.0] * 20, self.series(20)) == 0

    def test_steps_without_a_value_are_left_out(self) -> None:
        signal: list[float | None] = [*self.series(50)]
        target = [None if place % 7 == 0 else value for place, value in enumerate(signal)]

        assert r_squared(signal, target) == pytest.approx(1)

    def test_too_few_pairs_say_nothing(self) -> None:
        assert r_squared([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) == 0

    @pytest.mark.parametrize("shift", [-3, 0, 5])
    def test_the_lead_is_how_much_earlier_the_signal_moves(self, shift: int) -> None:
        whole = self.series()
        signal = whole[20:-20]
        latency = [math.exp(value) for value in whole[20 - shift : len(whole) - 20 - shift]]

        found = explain(signal, latency, step_s=0.25, most_s=3)

        assert found.lead_s == shift * 0.25
        assert found.r_squared_lead == pytest.approx(1)
        assert found.r_squared_log == pytest.approx(
            r_squared(signal, [math.log(one) for one in latency]), abs=1e-3
        )

    def test_a_window_holds_what_was_answered_in_it(self) -> None:
        answers = [(0.1 * number, float(number)) for number in range(100)]

        found = windowed(answers, [0.05, 1.0, 5.0], window_s=1.0, share=1.0)

        assert found == [None, 10.0, 50.0]


class TestAntagonist:
    """It touches every page in turn, and rests in proportion to what that took."""

    def test_every_page_is_written_to_in_turn(self) -> None:
        memory = allocate(10 * PAGE_BYTES)
        before = bytes(memory)

        places = [sweep(memory, 0, stretch=4), sweep(memory, 4, stretch=4), sweep(memory, 8, stretch=4)]

        changed = [offset for offset in range(len(before)) if before[offset] != memory[offset]]
        memory.close()
        assert places == [4, 8, 0]
        assert changed == [page * PAGE_BYTES for page in range(10)]

    def test_its_memory_does_not_compress(self) -> None:
        import zlib

        memory = allocate(16 * PAGE_BYTES)

        assert len(zlib.compress(bytes(memory))) > 0.99 * len(memory)
        memory.close()

    def test_a_quarter_of_the_time_is_three_times_as_much_rest(self) -> None:
        assert rest_s(0.01, 0.25) == pytest.approx(0.03)
        assert rest_s(0.01, 1.0) == 0
