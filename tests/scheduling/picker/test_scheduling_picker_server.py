"""The picker over gRPC: streams of requests, and health as gRPC's own clients ask for it."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from s3ml.primitives.errors import ConfigurationError
from s3ml.scheduling.balancer.settings import Steering
from s3ml.scheduling.picker.messages import destination, none_ready, noted
from s3ml.scheduling.picker.picking import Picker
from s3ml.scheduling.picker.protocol.ext_proc_pb2 import HttpHeaders, ProcessingRequest
from s3ml.scheduling.picker.server import LIVENESS, READINESS, SERVICE_NAME, PickerServer
from tests.scheduling.fakes import DRAW, A, World, make_world

ASKS = ProcessingRequest(request_headers=HttpHeaders()).SerializeToString()
ANSWERED = ProcessingRequest(response_headers=HttpHeaders()).SerializeToString()
BODY = b"\x22\x02\x0a\x00"


@pytest.fixture
async def world() -> World:
    made = make_world(steering=Steering.PICKER)
    await made.balancer.step()
    return made


@pytest.fixture
async def server(world: World) -> AsyncIterator[PickerServer]:
    picker = Picker(world.balancer, service_of=lambda _: None, draw=DRAW, clock=world.clock)
    made = PickerServer(picker, host="127.0.0.1", port=0)
    await made.start()
    yield made
    await made.stop(grace_s=0)


@pytest.fixture
async def channel(server: PickerServer) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as made:
        yield made


def stream(channel: grpc.aio.Channel) -> grpc.aio.StreamStreamCall[bytes, bytes]:
    method: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(
        f"/{SERVICE_NAME}/Process", request_serializer=None, response_deserializer=None
    )
    return method(timeout=60)


async def settled(world: World) -> None:
    async with asyncio.timeout(30):
        while any(item.in_flight for item in world.balancer.fleets["t"].view(0).replicas):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


class TestStreams:
    async def test_a_request_and_its_answer(self, world: World, channel: grpc.aio.Channel) -> None:
        call = stream(channel)
        await call.write(ASKS)
        assert await call.read() == destination([A.address])
        await call.write(ANSWERED)
        assert await call.read() == noted()
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.OK
        await settled(world)
        assert world.balancer.fleets["t"].view(0).replicas[0].latency_s == 0

    @pytest.mark.parametrize("is_cancelled", [True, False])
    async def test_a_stream_that_ends_is_a_request_that_was_given_up(
        self, world: World, channel: grpc.aio.Channel, *, is_cancelled: bool
    ) -> None:
        call = stream(channel)
        await call.write(ASKS)
        await call.read()
        assert world.balancer.fleets["t"].view(0).replicas[0].in_flight == 1
        if is_cancelled:
            call.cancel()
        else:
            await call.done_writing()
        await settled(world)
        assert world.balancer.fleets["t"].view(0).replicas[0].latency_s is None

    async def test_none_ready(self, world: World, channel: grpc.aio.Channel) -> None:
        world.gateway.found["t"] = []
        await world.balancer.step()
        call = stream(channel)
        await call.write(ASKS)
        assert await call.read() == none_ready()
        call.cancel()

    @pytest.mark.parametrize("messages", [[b"\xff"], [BODY], [ASKS, BODY], [ASKS, ASKS]])
    async def test_anything_else_is_refused(
        self, world: World, channel: grpc.aio.Channel, messages: list[bytes]
    ) -> None:
        call = stream(channel)
        for message in messages[:-1]:
            await call.write(message)
            await call.read()
        await call.write(messages[-1])
        assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT
        await settled(world)
        assert b's3ml_balancer_picks_total{outcome="refused"} 1.0' in world.balancer.metrics.render()


class TestHealthOfThePicker:
    @pytest.mark.parametrize("service", ["", LIVENESS, READINESS, SERVICE_NAME])
    async def test_it_serves(self, channel: grpc.aio.Channel, service: str) -> None:
        health = health_pb2_grpc.HealthStub(channel)
        found = await health.Check(  # type: ignore[attr-defined]
            health_pb2.HealthCheckRequest(service=service), timeout=60
        )
        assert found.status == health_pb2.HealthCheckResponse.SERVING


class TestAddress:
    async def test_one_that_is_taken(self, world: World, server: PickerServer) -> None:
        picker = Picker(world.balancer, service_of=lambda _: None, draw=DRAW, clock=world.clock)
        with pytest.raises(ConfigurationError, match="--picker: cannot listen on"):
            PickerServer(picker, host="127.0.0.1", port=server.port)
