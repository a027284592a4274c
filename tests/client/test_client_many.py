"""Many inferences at once, and streams: the same iterators, blocking and awaited, over real connections."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest

from s3ml.client import AsyncClient, Client, InferFailure, InferResult
from s3ml.client.errors import InvalidInputError
from s3ml.client.inputs import Inputs
from s3ml.client.steps import HTTPReply, HTTPRequest
from tests.client.servers import WorldServer
from tests.client.world import SERVICE, TRUST, World, broken, status

COUNT = 30


@pytest.fixture
def gateway(live_world: World) -> Iterator[WorldServer]:
    server = WorldServer(live_world)
    yield server
    server.close()


def rows(count: int = COUNT) -> list[Inputs]:
    return [{"x": np.array([[place, 1.0]], dtype=np.float32)} for place in range(count)]


def wrong() -> Inputs:
    return {"x": np.array([[1j]])}


def blocking(gateway: WorldServer, inputs: Iterable[Inputs], **options: Any) -> list[InferResult]:
    with Client(gateway.url, TRUST) as client:
        return list(client.infer_many(SERVICE, inputs, **options))


def awaited(gateway: WorldServer, inputs: Any, **options: Any) -> list[InferResult]:
    async def collect() -> list[InferResult]:
        async with AsyncClient(gateway.url, TRUST) as client:
            return [result async for result in client.infer_many(SERVICE, inputs, **options)]

    return asyncio.run(collect())


@pytest.fixture(params=[blocking, awaited])
def collect(request: pytest.FixtureRequest) -> Any:
    return request.param


def firsts(results: Iterable[InferResult]) -> list[float]:
    return [float(result["y"][0, 0]) for result in results]


class Reading:
    """Inputs that tell how far they were read."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.read = 0

    def __iter__(self) -> Iterator[Inputs]:
        for item in rows(self.count):
            self.read += 1
            yield item


class TestResults:
    """Each input has its result, whatever the order of the answers."""

    def test_in_the_order_of_inputs(self, collect: Any, gateway: WorldServer) -> None:
        results = collect(gateway, rows(), concurrency=4)
        assert firsts(results) == [2.0 * place for place in range(COUNT)]
        assert [result.index for result in results] == list(range(COUNT))

    def test_as_they_come(self, collect: Any, gateway: WorldServer) -> None:
        results = collect(gateway, iter(rows()), concurrency=4, ordered=False)
        assert sorted(result.index for result in results) == list(range(COUNT))
        assert all(result["y"][0, 0] == 2.0 * result.index for result in results)

    def test_nothing(self, collect: Any, gateway: WorldServer) -> None:
        assert collect(gateway, []) == []

    def test_fewer_than_may_be_under_way(self, collect: Any, gateway: WorldServer) -> None:
        assert len(collect(gateway, rows(2), concurrency=64)) == 2

    def test_what_fails_for_the_moment_is_tried_again(self, collect: Any, gateway: WorldServer) -> None:
        gateway.world.sealed.extend([status(503)] * 5)
        assert len(collect(gateway, rows(), concurrency=4)) == COUNT

    def test_options_are_each_requests(self, collect: Any, gateway: WorldServer) -> None:
        options = {"outputs": iter(["y"]), "parameters": {"k": 7}, "model": "classifier", "version": "1"}
        collect(gateway, rows(3), **options)
        opened = [o.request for o in gateway.world.opened]
        assert {request.path for request in opened} == {"/v2/models/classifier/versions/1/infer"}
        assert all(b'"k":7' in bytes(request.content) for request in opened)
        assert all(b'"outputs":[{"name":"y"}]' in bytes(request.content) for request in opened)

    def test_connections_are_kept(self, collect: Any, gateway: WorldServer) -> None:
        collect(gateway, rows(), concurrency=4)
        # One more may have verified the service.
        assert len(gateway.connections) <= 5

    async def test_inputs_that_are_awaited(self, gateway: WorldServer) -> None:
        async def source() -> AsyncIterator[Inputs]:
            for item in rows(5):
                await asyncio.sleep(0)
                yield item

        async with AsyncClient(gateway.url, TRUST) as client:
            results = [result async for result in client.infer_many(SERVICE, source())]
        assert firsts(results) == [0.0, 2.0, 4.0, 6.0, 8.0]

    async def test_a_source_that_waits_holds_no_result_up(self, gateway: WorldServer) -> None:
        more = asyncio.Event()

        async def source() -> AsyncIterator[Inputs]:
            first, second = rows(2)
            yield first
            await more.wait()
            yield second

        async with AsyncClient(gateway.url, TRUST) as client:
            results = client.infer_many(SERVICE, source())
            assert (await anext(results)).index == 0
            more.set()
            assert (await anext(results)).index == 1


class TestFailures:
    """A failure is raised, with a note that says where; or handed over, and the others go on."""

    def test_it_is_raised_at_its_turn(self, collect: Any, gateway: WorldServer) -> None:
        inputs = rows()
        inputs[3] = wrong()
        with pytest.raises(InvalidInputError, match="complex128") as failed:
            collect(gateway, inputs, concurrency=4)
        assert failed.value.__notes__ == ["infer_many: input 3, counted from 0"]

    def test_it_is_handed_over(self, collect: Any, gateway: WorldServer) -> None:
        inputs = rows()
        inputs[3] = inputs[5] = wrong()
        failures: list[InferFailure] = []
        results = collect(gateway, inputs, concurrency=4, on_failure=failures.append)
        assert [result.index for result in results] == [n for n in range(COUNT) if n not in (3, 5)]
        assert [failure.index for failure in failures] == [3, 5]
        assert all(isinstance(failure.error, InvalidInputError) for failure in failures)

    def test_a_source_that_fails(self, collect: Any, gateway: WorldServer) -> None:
        def source() -> Iterator[Inputs]:
            yield from rows(3)
            raise LookupError("the caller's own")

        with pytest.raises(LookupError, match="the caller's own"):
            collect(gateway, source())

    def test_what_is_no_error_of_ours_is_raised_too(self, collect: Any, gateway: WorldServer) -> None:
        class Broken(dict[str, Any]):
            def values(self) -> Any:
                raise LookupError("the caller's own")

        with pytest.raises(LookupError, match="the caller's own"):
            collect(gateway, [*rows(3), Broken(x=1)], on_failure=lambda _: None)

    @pytest.mark.parametrize("concurrency", [0, 129])
    def test_concurrency_out_of_range_is_said_at_once(self, gateway: WorldServer, concurrency: int) -> None:
        with Client(gateway.url, TRUST) as client, pytest.raises(InvalidInputError, match="concurrency"):
            client.infer_many(SERVICE, [], concurrency=concurrency)


class TestBounds:
    """Inputs are read when there is room for them, and no sooner."""

    def test_blocking(self, gateway: WorldServer) -> None:
        inputs = Reading(COUNT)
        with Client(gateway.url, TRUST) as client:
            results = client.infer_many(SERVICE, inputs, concurrency=3)
            assert inputs.read == 0
            next(results)
            assert inputs.read <= 7
            assert len(list(results)) == COUNT - 1

    async def test_awaited(self, gateway: WorldServer) -> None:
        inputs = Reading(COUNT)
        async with AsyncClient(gateway.url, TRUST) as client:
            results = client.infer_many(SERVICE, inputs, concurrency=3)
            assert inputs.read == 0
            await anext(results)
            assert inputs.read <= 7
            assert len([result async for result in results]) == COUNT - 1


class TestLeaving:
    """Whoever leaves the loop stops the rest, and leaves no thread and no task behind."""

    def test_blocking(self, gateway: WorldServer) -> None:
        inputs = Reading(10_000)
        with Client(gateway.url, TRUST) as client:
            for result in client.infer_many(SERVICE, inputs, concurrency=4):
                if result.index == 5:
                    break
            assert inputs.read <= 5 + 2 * 4 + 1
            assert not [t for t in threading.enumerate() if t.name.startswith("s3ml-infer")]
            assert client.infer(SERVICE, rows(1)[0])["y"].shape == (1, 2)

    def test_a_pause_between_attempts_ends_at_once(self, gateway: WorldServer) -> None:
        gateway.world.sealed.append(lambda _: None)
        gateway.world.sealed.extend([status(503, retry_after="25")] * 3)
        with Client(gateway.url, TRUST) as client:
            client.verify(SERVICE)
            results = client.infer_many(SERVICE, rows(4), concurrency=4, ordered=False)
            next(results)
            results.close()  # type: ignore[attr-defined]
        assert not [t for t in threading.enumerate() if t.name.startswith("s3ml-infer")]

    async def test_awaited(self, gateway: WorldServer) -> None:
        inputs = Reading(10_000)
        async with AsyncClient(gateway.url, TRUST) as client:
            async with aclosing(client.infer_many(SERVICE, inputs, concurrency=4)) as results:
                async for result in results:
                    if result.index == 5:
                        break
            assert inputs.read <= 5 + 2 * 4 + 1
            assert len(asyncio.all_tasks()) == 1
            assert (await client.infer(SERVICE, rows(1)[0]))["y"].shape == (1, 2)

    async def test_a_cancelled_caller_cancels_the_rest(self, gateway: WorldServer) -> None:
        loop, arrived = asyncio.get_running_loop(), asyncio.Event()

        def last(request: HTTPRequest) -> HTTPReply | None:
            loop.call_soon_threadsafe(arrived.set)
            return status(503, retry_after="25")(request)

        gateway.world.sealed.extend([status(503, retry_after="25")] * 3 + [last])
        async with AsyncClient(gateway.url, TRUST) as client:
            await client.verify(SERVICE)

            async def consume() -> None:
                async for _ in client.infer_many(SERVICE, rows(4)):
                    pass

            task = asyncio.create_task(consume())
            await arrived.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert len(asyncio.all_tasks()) == 1


class TestStream:
    """A stream iterates the responses of one request: one, for as long as the wire carries one."""

    def test_blocking(self, gateway: WorldServer) -> None:
        with Client(gateway.url, TRUST) as client:
            results = client.stream(SERVICE, rows(1)[0], request_id="r", parameters={"k": 1})
            assert gateway.world.seen == []
            (result,) = results
        assert (result.index, result.id, firsts([result])) == (0, "r", [0.0])

    async def test_awaited(self, gateway: WorldServer) -> None:
        async with AsyncClient(gateway.url, TRUST) as client:
            results = client.stream(SERVICE, rows(1)[0], request_id="r")
            assert gateway.world.seen == []
            (result,) = [result async for result in results]
        assert (result.index, result.id, firsts([result])) == (0, "r", [0.0])

    def test_it_fails_as_an_inference_does(self, gateway: WorldServer) -> None:
        gateway.world.sealed.extend([broken])
        with Client(gateway.url, TRUST) as client, pytest.raises(InvalidInputError):
            list(client.stream(SERVICE, wrong()))
