"""The picker against a real Envoy: its word counts, and its silence does no harm."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from s3ml.apps.balancing.envoy import service_of_path
from s3ml.apps.cluster.process import free_port
from s3ml.gateway import EnvoyGateway, Picker
from s3ml.primitives.clock import SystemClock
from s3ml.scheduling.balancer.settings import Steering
from s3ml.scheduling.picker import picking
from s3ml.scheduling.picker.messages import DESTINATION, SERVED
from s3ml.scheduling.picker.server import PickerServer
from tests.apps.balancing.conftest import DEADLINE_S, SERVICE, Site, eventually, make_balancer, make_config
from tests.gateway.conftest import Upstream
from tests.scheduling.fakes import DRAW

pytestmark = pytest.mark.integration


@asynccontextmanager
async def running(
    tmp_path: Path,
    upstreams: tuple[Upstream, Upstream],
    caller: aiohttp.ClientSession,
    *,
    is_failing_open: bool = True,
) -> AsyncIterator[tuple[Site, PickerServer]]:
    lines: list[str] = []
    balancer = make_balancer(tmp_path / "gateway", upstreams, lines, steering=Steering.PICKER)
    port = free_port()
    # A picker that is slow on a busy machine is no picker that is silent.
    asked = Picker(address=f"127.0.0.1:{port}", is_failing_open=is_failing_open, timeout_s=DEADLINE_S)
    config = make_config(tmp_path, asked)
    with EnvoyGateway(config) as gateway:
        site = Site(
            gateway=gateway, config=config, upstreams=upstreams, caller=caller, balancer=balancer, lines=lines
        )
        await site.until_ready()
        picker = picking.Picker(balancer, service_of=service_of_path, draw=DRAW, clock=SystemClock())
        server = PickerServer(picker, host="127.0.0.1", port=port)
        await server.start()
        try:
            await eventually(lambda: picked(site))
            yield site, server
        finally:
            await server.stop(grace_s=0)


async def picked(site: Site) -> bool:
    """Send a request; return whether the picker was asked."""
    before = picks(site)
    await site.call()
    return picks(site) > before


def picks(site: Site) -> int:
    return site.balancer.metrics._picks.total()


@pytest.fixture
async def site(
    tmp_path: Path, upstreams: tuple[Upstream, Upstream], caller: aiohttp.ClientSession
) -> AsyncIterator[Site]:
    async with running(tmp_path, upstreams, caller) as (there, _):
        yield there


class TestDestination:
    async def test_each_request_goes_where_it_says(self, site: Site) -> None:
        assert await site.calls(20) == {b"a": 20}
        site.balancer.switch("last")
        assert await site.calls(20) == {b"b": 20}

    async def test_a_callers_word_does_not_count(self, site: Site) -> None:
        """Neither does the picker hear it, nor a replica."""
        other = site.upstreams[1].address
        for name in (DESTINATION, SERVED, "x-dest"):
            assert await site.call(headers={name: other}) == (200, b"a")
        for seen in site.upstreams[0].seen:
            assert not [name for name in seen.headers if name.startswith("x-")]

    async def test_the_answer_is_known_by_who_served_it(self, site: Site) -> None:
        before = len(site.upstreams[0].seen)
        await site.calls(5)
        replica = site.balancer.fleets[SERVICE].view(SystemClock().monotonic_s()).replicas[0]
        assert len(site.upstreams[0].seen) == before + 5
        assert replica.latency_s is not None
        assert replica.error_share == 0

    async def test_a_request_that_is_given_up_is_no_longer_in_flight(self, site: Site) -> None:
        site.upstreams[0].delay_s = 3600
        call = asyncio.create_task(site.call())
        await eventually(lambda: flying(site, 1))
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await eventually(lambda: flying(site, 0))

    async def test_a_dead_one_is_passed_over(self, site: Site) -> None:
        """The picker does not know yet; the gateway tries another, and says so."""
        await site.upstreams[0].kill()
        assert await site.calls(10) == {b"b": 10}
        a, b = site.balancer.fleets[SERVICE].view(SystemClock().monotonic_s()).replicas
        assert (a.in_flight, b.in_flight) == (0, 0)
        assert b.latency_s is not None

    async def test_none_ready_is_503(self, site: Site) -> None:
        for upstream in site.upstreams:
            upstream.is_ready = False
        await site.until_ready(0)
        status, body = await site.call()
        assert status == 503
        assert b"no replica is ready" in body

    async def test_it_comes_back(self, site: Site) -> None:
        site.upstreams[0].is_ready = False
        await site.until_ready(1)
        assert await site.calls(5) == {b"b": 5}
        site.upstreams[0].is_ready = True
        await site.until_ready(2)
        assert await site.calls(5) == {b"a": 5}


async def flying(site: Site, count: int) -> bool:
    return sum(item.in_flight for item in site.balancer.fleets[SERVICE].view(0).replicas) == count


class TestSilence:
    async def test_it_fails_open(
        self, tmp_path: Path, upstreams: tuple[Upstream, Upstream], caller: aiohttp.ClientSession
    ) -> None:
        async with running(tmp_path, upstreams, caller) as (site, server):
            await server.stop(grace_s=0)
            before = picks(site)
            answers = await site.calls(40)
            assert set(answers) == {b"a", b"b"}
            assert picks(site) == before

    async def test_it_fails_closed_where_told_to(
        self, tmp_path: Path, upstreams: tuple[Upstream, Upstream], caller: aiohttp.ClientSession
    ) -> None:
        async with running(tmp_path, upstreams, caller, is_failing_open=False) as (site, server):
            await server.stop(grace_s=0)
            status, _ = await site.call()
            assert status >= 500


class TestOtherRoutes:
    async def test_nobody_picks_for_them(self, site: Site) -> None:
        before = picks(site)
        for path in ("/keyservice/v1/deployment", "/nothing"):
            async with site.caller.get(site.gateway.url + path) as response:
                assert response.status in (404, 503)
        assert picks(site) == before
