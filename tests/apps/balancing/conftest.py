"""Small upstreams, a real Envoy before them, and a balancer with policies that are easily foreseen."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import aiohttp
import pytest

from s3ml.apps.balancing.envoy import EnvoyFolder
from s3ml.gateway import EnvoyGateway, GatewayConfig, Picker
from s3ml.primitives.clock import SystemClock
from s3ml.scheduling.balancer.events import EventLog
from s3ml.scheduling.balancer.membership import Member, Membership
from s3ml.scheduling.balancer.policies import policy_named
from s3ml.scheduling.balancer.service import BalancerService
from s3ml.scheduling.balancer.settings import BalancerSettings, Steering
from tests.gateway.conftest import Upstream
from tests.scheduling.fakes import FakeAgents, First, Last

SERVICE = "tumours"
PATH = f"/services/{SERVICE}/ohttp"
DEADLINE_S = 60

Eventually = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]


@dataclass(kw_only=True)
class Site:
    """Two upstreams behind a gateway, and who calls."""

    gateway: EnvoyGateway
    config: GatewayConfig
    upstreams: tuple[Upstream, Upstream]
    caller: aiohttp.ClientSession
    balancer: BalancerService
    lines: list[str] = field(default_factory=list)

    @property
    def members(self) -> tuple[Member, ...]:
        return members_of(self.upstreams)

    async def call(self, *, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        """Send one request; return the status and the answer."""
        async with self.caller.post(self.gateway.url + PATH, data=b"sealed", headers=headers) as response:
            return response.status, await response.read()

    async def calls(self, count: int) -> Counter[bytes]:
        """Send that many, one after the other, all of which must be answered; return by whom."""
        answers: Counter[bytes] = Counter()
        for _ in range(count):
            status, body = await self.call()
            assert status == 200, body
            answers[body] += 1
        return answers

    async def until_ready(self, count: int = 2) -> None:
        """Step until that many replicas are seen to be ready."""
        await eventually(lambda: self._sees(count))

    async def _sees(self, count: int) -> bool:
        await self.balancer.step()
        return len(self.balancer.fleets[SERVICE].view(0).ready) == count


def members_of(upstreams: tuple[Upstream, ...]) -> tuple[Member, ...]:
    return tuple(
        Member(name=upstream.name, node=f"n{number}", address=upstream.address)
        for number, upstream in enumerate(upstreams)
    )


async def eventually(is_so: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that another process does."""
    async with asyncio.timeout(DEADLINE_S):
        while not await is_so():  # noqa: ASYNC110 - another process does it
            await asyncio.sleep(0.01)


@pytest.fixture
async def upstreams() -> AsyncIterator[tuple[Upstream, Upstream]]:
    pair = Upstream(name="a"), Upstream(name="b")
    for upstream in pair:
        await upstream.start()
    yield pair
    for upstream in pair:
        await upstream.kill()


@pytest.fixture
async def caller() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DEADLINE_S)) as session:
        yield session


def make_balancer(
    folder: Path, upstreams: tuple[Upstream, ...], lines: list[str], *, steering: Steering
) -> BalancerService:
    """Return a balancer of the gateway of `folder` that has not looked yet."""
    membership = Membership(services={SERVICE: members_of(upstreams)})
    return BalancerService(
        policy="first",
        policies={"first": First, "last": Last, "prequal": partial(policy_named, "prequal")},
        membership=lambda: membership,
        gateway=EnvoyFolder(folder),
        agents=FakeAgents(),
        clock=SystemClock(),
        events=EventLog(lines.append, SystemClock()),
        settings=BalancerSettings(steering=steering),
    )


def make_config(tmp_path: Path, picker: Picker | None = None) -> GatewayConfig:
    """Return a gateway's settings whose health checks a busy machine does not fail."""
    folder = tmp_path / "gateway"
    return GatewayConfig(folder=folder, services=(SERVICE,), picker=picker, health_timeout_s=DEADLINE_S)
