"""The end of a real process under load: nothing that was accepted is lost, and nothing holds the end up."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
import msgspec
import pytest
from onnx import TensorProto, helper

from s3ml.gateway import EnvoyGateway, GatewayConfig
from s3ml.wire.ohttp import KeyConfig
from s3ml.wire.sealed import InnerRequest, SealedRequest, seal_request
from tests.modelserver.conftest import Replica as ASGIReplica
from tests.modelserver.conftest import World, build, linear, value

CHILD = Path(__file__).with_name("child_server.py")
CALLERS = 32
# Longer than the second of a real replica: callers and a gateway that are starved see it in time, too.
NOTICE_S = 6.0
DEADLINE_S = 300.0
# Far beyond what any of these tests waits for.
FOREVER_TURNS = 10**12
ROWS = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 1, 1]}]}

pytestmark = pytest.mark.integration


def looping() -> bytes:
    """``y`` counts to ``turns``, in the runtime's own code: a computation that takes as long as one likes."""
    going_in, going_out = value("going", TensorProto.BOOL), value("still", TensorProto.BOOL)
    count, counted = value("count", TensorProto.FLOAT, 1), value("counted", TensorProto.FLOAT, 1)
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["still"]),
            helper.make_node("Add", ["count", "one"], ["counted"]),
        ],
        "body",
        [value("turn", TensorProto.INT64), going_in, count],
        [going_out, counted],
        [helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])],
    )
    constants = [
        helper.make_tensor("yes", TensorProto.BOOL, [], [True]),
        helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]),
    ]
    data: bytes = build(
        [helper.make_node("Loop", ["turns", "yes", "zero"], ["y"], body=body)],
        [value("turns", TensorProto.INT64, 1)],
        [value("y", TensorProto.FLOAT, 1)],
        constants,
    ).SerializeToString()
    return data


@dataclass
class Replica:
    """A model server that runs in a process of its own."""

    process: subprocess.Popen[str]
    address: str

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def ask_to_end(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    async def ended(self) -> int:
        return await asyncio.wait_for(asyncio.to_thread(self.process.wait), DEADLINE_S)

    def events(self) -> list[dict[str, Any]]:
        assert self.process.stderr is not None
        return [json.loads(line) for line in self.process.stderr.read().splitlines()]


Start = Callable[..., Replica]
Hang = Callable[[int, float], Awaitable[tuple[Replica, Any]]]


@pytest.fixture
def start(world: World, tmp_path: Path) -> Iterator[Start]:
    """Starts replicas of `world`, all with the same keys."""
    release = tmp_path / "release.json"
    with ExitStack() as stack:

        def begin(*, drain_s: int = 35, notice_s: float = NOTICE_S) -> Replica:
            release.write_bytes(msgspec.json.encode(world.release()))
            command = [sys.executable, str(CHILD), "0", str(world.store), str(release)]
            command += [str(drain_s), "", str(notice_s)]
            environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
            process = stack.enter_context(
                subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path)
            )
            stack.callback(process.kill)
            assert process.stderr is not None
            return Replica(process, json.loads(process.stderr.readline())["address"])

        yield begin


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=CALLERS + 8)
    async with aiohttp.ClientSession(
        connector=connector, timeout=aiohttp.ClientTimeout(total=DEADLINE_S)
    ) as opened:
        yield opened


@dataclass
class Load:
    """Callers who call one after the other, each request once: nothing is tried again.

    Args:
        ends_with_connection: Whether a caller leaves when the server says that it closes the connection.
    """

    session: aiohttp.ClientSession
    url: str
    config: KeyConfig
    ends_with_connection: bool = False
    answered: int = 0
    lost: list[str] = field(default_factory=list)
    is_over: bool = False

    async def call(self) -> None:
        while not self.is_over:
            sealed = seal(self.config, "tumours", ROWS)
            try:
                reply, content = await post(self.session, self.url, sealed)
                answer = sealed.open_response(content)
                assert json.loads(bytes(answer.content))["outputs"][0]["data"] == [6, 9]
            except Exception as error:  # noqa: BLE001 - whatever it is, a request was lost
                self.lost.append(repr(error))
                return
            self.answered += 1
            if self.ends_with_connection and reply.headers.get("connection") == "close":
                return

    async def until(self, answered: int) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while self.answered < answered and not self.lost:  # noqa: ASYNC110 - many tasks change it
                await asyncio.sleep(0.01)


def seal(config: KeyConfig, model: str, document: Any) -> SealedRequest:
    content = json.dumps(document).encode()
    request = InnerRequest(method="POST", path=f"/v2/models/{model}/infer", content=content)
    return seal_request(config, request, date=datetime.now(UTC))


async def post(
    session: aiohttp.ClientSession, url: str, sealed: SealedRequest
) -> tuple[aiohttp.ClientResponse, bytes]:
    headers = {"content-type": "message/ohttp-req"}
    async with session.post(f"{url}/services/tumours/ohttp", data=sealed.body, headers=headers) as reply:
        return reply, await reply.read()


async def until_ready(session: aiohttp.ClientSession, replica: Replica) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            async with session.get(f"{replica.url}/v2/health/ready") as reply:
                if reply.status == 200:
                    return
            await asyncio.sleep(0.02)


class TestUnderLoad:
    """32 callers, and not one request lost."""

    async def test_behind_the_gateway_nobody_notices(
        self, world: World, start: Start, session: aiohttp.ClientSession, tmp_path: Path
    ) -> None:
        world.publish(linear())
        config = world.begin_epoch()
        leaving, staying = start(), start()
        for replica in (leaving, staying):
            await until_ready(session, replica)
        settings = GatewayConfig(folder=tmp_path / "gateway", services=("tumours",), health_timeout_s=30.0)
        with EnvoyGateway(settings) as gateway:  # no replica leaves because it was starved
            gateway.set_replicas("tumours", [leaving.address, staying.address])
            async with asyncio.timeout(DEADLINE_S):
                while sum(r.is_healthy for r in gateway.replicas("tumours")) < 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            load = Load(session, gateway.url, config)
            async with asyncio.TaskGroup() as group:
                for _ in range(CALLERS):
                    group.create_task(load.call())
                await load.until(300)
                leaving.ask_to_end()
                status = await leaving.ended()
                await load.until(load.answered + 300)
                load.is_over = True
        assert load.lost == []
        assert status == 0
        assert [event["event"] for event in leaving.events()][-1] == "draining"

    async def test_directly_everybody_is_answered_and_told_to_leave(
        self, world: World, start: Start, session: aiohttp.ClientSession
    ) -> None:
        world.publish(linear())
        config = world.begin_epoch()
        replica = start()
        await until_ready(session, replica)
        load = Load(session, replica.url, config, ends_with_connection=True)
        async with asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(load.call())
            await load.until(300)
            replica.ask_to_end()
        assert load.lost == []
        assert await replica.ended() == 0

    async def test_readiness_turns_while_it_still_listens(
        self, world: World, start: Start, session: aiohttp.ClientSession
    ) -> None:
        world.publish(linear())
        config = world.begin_epoch()
        replica = start()
        await until_ready(session, replica)
        began_s = time.monotonic()
        replica.ask_to_end()
        async with asyncio.timeout(DEADLINE_S):
            while True:
                async with session.get(f"{replica.url}/v2/health/ready") as reply:
                    status, phase = reply.status, (await reply.json()).get("phase")
                if status != 200:
                    break
        assert (status, phase) == (503, "draining")
        sealed = seal(config, "tumours", ROWS)
        reply, content = await post(session, replica.url, sealed)
        assert (reply.status, sealed.open_response(content).status) == (200, 200)
        assert reply.headers["connection"] == "close"
        assert await replica.ended() == 0
        assert time.monotonic() - began_s >= NOTICE_S


class TestWhatHangs:
    """A computation that does not end does not keep the process."""

    @pytest.fixture
    def hang(self, world: World, start: Start, session: aiohttp.ClientSession) -> Hang:
        async def begin(drain_s: int, notice_s: float) -> tuple[Replica, Any]:
            world.publish(looping())
            config = world.begin_epoch()
            replica = start(drain_s=drain_s, notice_s=notice_s)
            await until_ready(session, replica)

            def turns(number: int) -> SealedRequest:
                data = {"name": "turns", "shape": [1], "datatype": "INT64", "data": [number]}
                return seal(config, "tumours", {"inputs": [data]})

            short = turns(7)
            _, content = await post(session, replica.url, short)
            answer = json.loads(bytes(short.open_response(content).content))
            assert answer["outputs"][0]["data"] == [7]
            before_s = processor_s(replica.process.pid)
            waiting = asyncio.ensure_future(post(session, replica.url, turns(FOREVER_TURNS)))
            async with asyncio.timeout(DEADLINE_S):
                while processor_s(replica.process.pid) < before_s + 0.2:  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.02)
            return replica, waiting

        return begin

    async def test_it_is_given_up_at_the_bound_and_its_caller_told(self, hang: Hang) -> None:
        replica, waiting = await hang(1, 0.2)
        replica.ask_to_end()
        status = await replica.ended()
        reply, content = await waiting

        assert status == 0
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        assert json.loads(content) == {"error": "this replica ends; retry"}
        events = {event["event"]: event for event in replica.events()}
        assert (events["draining"]["wait_s"], events["draining"]["in_flight"]) == (1, 1)
        assert events["given-up"]["in_flight"] == 1

    async def test_a_second_signal_ends_at_once(self, hang: Hang, session: aiohttp.ClientSession) -> None:
        replica, waiting = await hang(600, 600.0)
        replica.ask_to_end()
        async with asyncio.timeout(DEADLINE_S):
            while True:
                async with session.get(f"{replica.url}/v2/health/ready") as reply:
                    if reply.status == 503:
                        break
        replica.ask_to_end()
        assert await replica.ended() == 0
        assert (await waiting)[0].status == 503


def processor_s(pid: int) -> float:
    """Return how long a process's threads have computed since it began."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) / os.sysconf("SC_CLK_TCK")


class TestGivenUp:
    """Who is given up is told so, unless a reply has begun."""

    SCOPE: ClassVar[dict[str, Any]] = {
        "type": "http",
        "method": "POST",
        "path": "/services/tumours/ohttp",
        "headers": [(b"content-type", b"message/ohttp-req")],
    }

    async def test_before_a_reply_there_is_a_503(self, serving_replica: ASGIReplica) -> None:
        sent: list[Any] = []
        reached = asyncio.Event()

        async def receive() -> Any:
            reached.set()
            await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        asking = asyncio.ensure_future(serving_replica.app(dict(self.SCOPE), receive, send))
        await asyncio.wait_for(reached.wait(), DEADLINE_S)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert [message.get("status") for message in sent] == [503, None]
        assert serving_replica.app.admission.in_flight == 0

    async def test_a_reply_that_has_begun_is_not_followed_by_another(
        self, serving_replica: ASGIReplica
    ) -> None:
        sent: list[Any] = []
        reached = asyncio.Event()

        async def receive() -> Any:
            return {"type": "http.request", "body": b"x", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message["type"])
            if message["type"] == "http.response.body":
                reached.set()
                await asyncio.Event().wait()

        asking = asyncio.ensure_future(serving_replica.app(dict(self.SCOPE), receive, send))
        await asyncio.wait_for(reached.wait(), DEADLINE_S)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert sent == ["http.response.start", "http.response.body"]
