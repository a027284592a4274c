"""Agents are asked within a deadline, and believed only when what they say parses."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import ClientSession, web

from s3ml.primitives.errors import UnavailableError, UntrustedPeerError
from s3ml.scheduling.balancer.agents import HttpAgents
from s3ml.tee_memory.readings import (
    READINGS_LIMIT_BYTES,
    READINGS_PATH,
    AgedReading,
    NodeReadings,
    ServerReadings,
)
from tests.clocks import FakeClock
from tests.scheduling.fakes import reading

Answer = Callable[[], web.Response]


def document(*, age_s: float = 2.0, is_blind: bool = False) -> bytes:
    found = reading(0.0)
    aged = AgedReading.of(found, now_s=age_s)
    return NodeReadings(
        node="n1",
        kind=found.kind,
        source="test",
        is_simulated=True,
        is_emulated=False,
        interval_s=1.0,
        reading=None if is_blind else aged,
        servers=() if is_blind else (ServerReadings(name="a", reading=aged),),
        error="cannot read" if is_blind else None,
    ).encode()


class Agent:
    """Answers what it is told to."""

    def __init__(self) -> None:
        self.body = document()
        self.status = 200
        self.hangs = False
        self.url = ""

    async def answer(self, _: web.Request) -> web.Response:
        if self.hangs:
            await asyncio.sleep(3600)
        return web.Response(body=self.body, status=self.status, headers={"location": "http://127.0.0.1:1/"})


@pytest.fixture
async def agent() -> AsyncIterator[Agent]:
    there = Agent()
    application = web.Application()
    application.router.add_get(READINGS_PATH, there.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    there.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield there
    await runner.cleanup()


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with ClientSession() as made:
        yield made


class TestAnswers:
    async def test_ages_become_instants_of_this_clock(self, agent: Agent, session: ClientSession) -> None:
        report = await HttpAgents(session, FakeClock(), deadline_s=30).read(agent.url)
        assert report.reading.taken_at_s == FakeClock().monotonic_s() - 2.0
        assert report.servers["a"].page_ins_per_s == 5.0


class TestNoAnswer:
    async def test_nobody_listens(self, session: ClientSession) -> None:
        with pytest.raises(UnavailableError, match="no answer"):
            await HttpAgents(session, FakeClock(), deadline_s=30).read("http://127.0.0.1:1")

    async def test_no_url(self, session: ClientSession) -> None:
        with pytest.raises(UnavailableError, match="no answer"):
            await HttpAgents(session, FakeClock(), deadline_s=30).read("http://[")

    async def test_it_hangs(self, agent: Agent, session: ClientSession) -> None:
        agent.hangs = True
        with pytest.raises(UnavailableError, match="no answer"):
            await HttpAgents(session, FakeClock(), deadline_s=0.05).read(agent.url)

    @pytest.mark.parametrize("status", [302, 404, 500])
    async def test_another_status(self, agent: Agent, session: ClientSession, status: int) -> None:
        agent.status = status
        with pytest.raises(UnavailableError, match=f"expected status 200, got {status}"):
            await HttpAgents(session, FakeClock(), deadline_s=30).read(agent.url)

    async def test_it_could_read_nothing(self, agent: Agent, session: ClientSession) -> None:
        agent.body = document(is_blind=True)
        with pytest.raises(UnavailableError, match="has no reading: cannot read"):
            await HttpAgents(session, FakeClock(), deadline_s=30).read(agent.url)


class TestMalformed:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"\xff",
            b"{}",
            document().replace(b"5.0", b"-5.0"),
            document().replace(b"5.0", b"1e400"),
            document() + b" " * READINGS_LIMIT_BYTES,
        ],
    )
    async def test_it_is_not_believed(self, agent: Agent, session: ClientSession, body: bytes) -> None:
        agent.body = body
        with pytest.raises(UntrustedPeerError, match="readings: "):
            await HttpAgents(session, FakeClock(), deadline_s=30).read(agent.url)
