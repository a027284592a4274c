"""From waiting to running, with a model that computes when it is told to."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from s3ml.bundle import Batching
from s3ml.modelserver.batching import Job
from s3ml.modelserver.computing import SHAPES_KEPT, Buffers, compute
from s3ml.modelserver.dispatch import BatchRun, BusyError, Dispatcher
from s3ml.modelserver.execution import DeadlineError
from s3ml.modelserver.models import LoadedModel
from s3ml.modelserver.runtimes import Array, Arrays, RuntimeRefusedError, TensorSpec

DEADLINE_S = 30.0
PATIENCE_S = 300.0
SPEC = TensorSpec(name="x", datatype="FP32", shape=(-1, 1), symbols=(None, None))
DOUBLED = TensorSpec(name="y", datatype="FP32", shape=(-1, 1), symbols=(None, None))
SAME = TensorSpec(name="z", datatype="FP32", shape=(-1, 1), symbols=(None, None))


@dataclass
class Fake:
    """Doubles its rows; waits for `gate`, and remembers how many rows each run had."""

    gate: threading.Event = field(default_factory=threading.Event)
    runs: list[int] = field(default_factory=list)
    started: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    platform: str = "fake"
    inputs: tuple[TensorSpec, ...] = (SPEC,)
    outputs: tuple[TensorSpec, ...] = (DOUBLED, SAME)
    cut: int = 0

    def run(self, inputs: Arrays, outputs: Sequence[str]) -> list[Array]:
        rows = inputs["x"]
        self.runs.append(len(rows))
        self.started.release()
        assert self.gate.wait(PATIENCE_S)
        if np.isnan(rows).any():
            raise RuntimeRefusedError("no")
        results: dict[str, Array] = {"y": 2 * rows, "z": rows}
        return [results[name][: len(rows) - self.cut] if len(rows) > 1 else results[name] for name in outputs]

    def close(self) -> None:
        """Nothing is held."""


@dataclass
class World:
    dispatcher: Dispatcher
    fake: Fake
    model: LoadedModel
    observed: list[BatchRun]
    apart: list[LoadedModel]
    now_s: float = 100.0

    def ask(self, *values: float, timeout_s: float | None = None) -> "asyncio.Task[list[Array]]":
        rows = np.array(values, np.float32).reshape(-1, 1)
        return asyncio.ensure_future(
            self.dispatcher.compute(self.model, {"x": rows}, ["y"], timeout_s=timeout_s)
        )

    async def is_running(self) -> None:
        """Wait until a computation has begun."""
        await asyncio.to_thread(self.fake.started.acquire)


Make = Callable[..., World]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[World] = []

    def build(*, threads: int = 1, **batching: int) -> World:
        fake = Fake()
        observed: list[BatchRun] = []
        apart: list[LoadedModel] = []
        world: World
        dispatcher = Dispatcher(
            threads=threads,
            deadline_s=DEADLINE_S,
            monotonic_s=lambda: world.now_s,
            observe=observed.append,
            apart=apart.append,
        )
        limits = Batching(**{"max_size": 8, **batching})
        model = LoadedModel(name="m", version="1", manifest_sha256="", runtime=fake, batching=limits)
        world = World(dispatcher, fake, model, observed, apart)
        made.append(world)
        return world

    yield build
    for world in made:
        world.fake.gate.set()
        world.dispatcher.close()


async def settle() -> None:
    """Let everything on the loop that can go on go on."""
    for _ in range(5):
        await asyncio.sleep(0)


class TestBatching:
    """What waits while a thread is busy goes together afterwards."""

    async def test_results_go_to_who_asked(self, make: Make) -> None:
        world = make()
        first = world.ask(1)
        await world.is_running()
        others = [world.ask(2), world.ask(3, 4), world.ask(5)]
        await settle()
        world.fake.gate.set()

        assert [a.ravel().tolist() for (a,) in await asyncio.gather(first, *others)] == [
            [2],
            [4],
            [6, 8],
            [10],
        ]
        assert world.fake.runs == [1, 4]

    async def test_one_that_cannot_be_evaluated_spoils_no_other(self, make: Make) -> None:
        world = make()
        first = world.ask(1)
        await world.is_running()
        good, bad = world.ask(2), world.ask(np.nan)
        await settle()
        world.fake.gate.set()
        await first

        with pytest.raises(RuntimeRefusedError):
            await bad
        assert (await good)[0].tolist() == [[4]]
        assert world.fake.runs == [1, 2, 1, 1]
        await settle()
        assert [(run.jobs, run.rows, run.failures) for run in world.observed] == [(1, 1, 0), (2, 2, 1)]

    async def test_a_model_with_other_rows_than_it_got_is_not_batched_any_more(self, make: Make) -> None:
        world = make()
        world.fake.cut = 1
        first = world.ask(1)
        await world.is_running()
        others = [world.ask(2), world.ask(3)]
        await settle()
        world.fake.gate.set()

        assert [a.tolist() for (a,) in await asyncio.gather(first, *others)] == [[[2]], [[4]], [[6]]]
        assert world.apart == [world.model]
        later = [world.ask(4), world.ask(5)]
        assert [a.tolist() for (a,) in await asyncio.gather(*later)] == [[[8]], [[10]]]
        assert world.fake.runs == [1, 2, 1, 1, 1, 1]

    async def test_a_delay_waits_for_others(self, make: Make) -> None:
        world = make(max_delay_us=1_000_000, max_size=2)
        world.fake.gate.set()
        first = world.ask(1)
        await settle()
        assert world.fake.runs == []
        second = world.ask(2)
        await asyncio.gather(first, second)

        assert world.fake.runs == [2]

    async def test_a_delay_ends(self, make: Make) -> None:
        world = make(max_delay_us=1000)
        world.fake.gate.set()
        first = world.ask(1)
        await settle()
        world.now_s += 0.001

        assert (await first)[0].tolist() == [[2]]

    async def test_several_threads_compute_at_the_same_time(self, make: Make) -> None:
        world = make(threads=2)
        tasks = [world.ask(1), world.ask(2)]
        await world.is_running()
        await world.is_running()
        world.fake.gate.set()
        await asyncio.gather(*tasks)

        assert world.fake.runs == [1, 1]


class TestDeadlines:
    """What would come too late is refused before it waits; what is late is given up."""

    async def test_a_queue_that_is_too_long_refuses_early(self, make: Make) -> None:
        world = make(max_size=1)
        slow = world.ask(1)
        await world.is_running()
        world.now_s += 2.0
        world.fake.gate.set()
        await slow
        world.fake.gate.clear()
        running = world.ask(2)
        await world.is_running()
        waiting = world.ask(3, timeout_s=7)
        await settle()

        with pytest.raises(BusyError) as refused:
            await world.ask(4, timeout_s=5)
        assert refused.value.retry_after_s == 4
        world.fake.gate.set()
        await asyncio.gather(running, waiting)

    async def test_an_idle_server_tries(self, make: Make) -> None:
        """A measurement from a slow moment must not refuse everything from then on."""
        world = make()
        slow = world.ask(1)
        await world.is_running()
        world.now_s += 20.0
        world.fake.gate.set()
        await slow

        assert (await world.ask(2, timeout_s=5))[0].tolist() == [[4]]

    async def test_a_late_result_is_given_up(self, make: Make) -> None:
        world = make()
        running = world.ask(1)
        await world.is_running()

        with pytest.raises(DeadlineError, match=r"within 0\.01 s"):
            await world.ask(2, timeout_s=0.01)
        world.fake.gate.set()
        await running
        assert world.fake.runs == [1]

    async def test_a_full_queue_refuses(self, make: Make) -> None:
        world = make(max_queue=1)
        running = world.ask(1)
        await world.is_running()
        waiting = world.ask(2)
        await settle()

        with pytest.raises(BusyError):
            await world.ask(3)
        world.fake.gate.set()
        await asyncio.gather(running, waiting)


class TestLeaving:
    """Who leaves frees their place."""

    async def test_a_cancelled_request_is_not_computed(self, make: Make) -> None:
        world = make(max_queue=1)
        running = world.ask(1)
        await world.is_running()
        leaves = world.ask(2)
        await settle()
        leaves.cancel()
        await settle()
        stays = world.ask(3)
        await settle()
        world.fake.gate.set()
        await asyncio.gather(running, stays)

        assert world.fake.runs == [1, 1]

    async def test_one_that_leaves_while_it_runs_disturbs_nobody(self, make: Make) -> None:
        world = make()
        leaves = world.ask(1)
        await world.is_running()
        stays = world.ask(2)
        leaves.cancel()
        world.fake.gate.set()

        assert (await stays)[0].tolist() == [[4]]
        assert not world.dispatcher.is_slow

    async def test_an_idle_server_is_not_slow(self, make: Make) -> None:
        assert not make().dispatcher.is_slow

    async def test_a_model_of_unknown_speed_is(self, make: Make) -> None:
        world = make()
        running = world.ask(1)
        await world.is_running()
        is_slow: bool = world.dispatcher.is_slow
        world.fake.gate.set()
        await running
        assert is_slow

    @pytest.mark.parametrize(("compute_s", "expected"), [(0.001, False), (0.1, True)])
    async def test_one_whose_speed_is_known_is_by_it(
        self, make: Make, compute_s: float, *, expected: bool
    ) -> None:
        world = make()
        first = world.ask(1)
        await world.is_running()
        world.now_s += compute_s
        world.fake.gate.set()
        await first
        world.fake.gate.clear()
        second = world.ask(2)
        await world.is_running()
        is_slow: bool = world.dispatcher.is_slow
        world.now_s += 1.0
        is_late: bool = world.dispatcher.is_slow
        world.fake.gate.set()
        await second
        assert (is_slow, is_late) == (expected, True)


class TestOrder:
    """Between models, the batch that has been ready longest goes first."""

    async def test_it_is_first_come_first_served(self, make: Make) -> None:
        world = make()
        other_fake = Fake(gate=world.fake.gate, runs=world.fake.runs)
        other = LoadedModel(name="n", version="1", manifest_sha256="", runtime=other_fake)
        running = world.ask(1)
        await world.is_running()
        rows = np.ones((3, 1), np.float32)
        world.now_s += 1
        second = asyncio.ensure_future(world.dispatcher.compute(other, {"x": rows}, ["y"]))
        await settle()
        world.now_s += 1
        third = world.ask(4, 5)
        await settle()
        world.fake.gate.set()
        await asyncio.gather(running, second, third)

        assert world.fake.runs == [1, 3, 2]


def job(*values: float, outputs: Sequence[str] = ("y",)) -> Job:
    rows = np.array(values, np.float32).reshape(-1, 1)
    return Job(
        inputs={"x": rows},
        outputs=outputs,
        lane=0,
        rows=len(rows),
        arrived_s=0,
        deadline_s=1,
        result=asyncio.get_event_loop().create_future(),
    )


class TestComputing:
    """Rows are laid one after the other, and cut apart again."""

    async def test_each_gets_the_outputs_it_asked_for(self) -> None:
        fake = Fake()
        fake.gate.set()
        jobs = [job(1, outputs=["z", "y"]), job(2, 3, outputs=["y"])]
        computed = compute(fake, jobs, Buffers(1))

        assert [[array.tolist() for array in outcome] for outcome in computed.outcomes] == [  # type: ignore[union-attr]
            [[[1]], [[2]]],
            [[[4], [6]]],
        ]

    async def test_an_input_that_comes_back_as_an_output_is_not_overwritten(self) -> None:
        fake, buffers = Fake(), Buffers(1)
        fake.gate.set()
        first = compute(fake, [job(1, outputs=["z"]), job(2, outputs=["z"])], buffers)
        compute(fake, [job(8, outputs=["z"]), job(9, outputs=["z"])], buffers)

        assert [outcome[0].tolist() for outcome in first.outcomes] == [[[1]], [[2]]]  # type: ignore[index]

    async def test_memory_is_used_again(self) -> None:
        buffers, like = Buffers(1), np.zeros((1, 3), np.float32)
        first = buffers.take(8, like)
        buffers.give(first)

        assert buffers.take(5, like) is first
        assert buffers.take(5, like) is not first

    async def test_the_largest_is_kept_as_many_as_can_run(self) -> None:
        buffers, like = Buffers(1), np.zeros((1, 3), np.float32)
        small, large = buffers.take(2, like), buffers.take(8, like)
        buffers.give(small)
        buffers.give(large)

        assert buffers.take(1, like) is large
        assert buffers.take(1, like) is not small

    async def test_few_shapes_are_kept(self) -> None:
        buffers = Buffers(1)
        first = buffers.take(1, np.zeros((1, 1), np.float32))
        buffers.give(first)
        for width in range(2, SHAPES_KEPT + 2):
            buffers.give(buffers.take(1, np.zeros((1, width), np.float32)))

        assert buffers.take(1, np.zeros((1, 1), np.float32)) is not first

    async def test_text_is_laid_too(self) -> None:
        class Echo(Fake):
            def run(self, inputs: Arrays, outputs: Sequence[str]) -> list[Array]:
                return [inputs["x"] for _ in outputs]

        def text(*values: bytes) -> Job:
            array: Any = np.array(values, dtype=object)
            one = job(*range(len(values)))
            one.inputs = {"x": array}
            return one

        computed = compute(Echo(), [text(b"a"), text(b"b", b"c")], Buffers(1))

        assert [outcome[0].tolist() for outcome in computed.outcomes] == [[b"a"], [b"b", b"c"]]  # type: ignore[index]
