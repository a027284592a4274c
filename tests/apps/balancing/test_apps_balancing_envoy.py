"""Weights against a real Envoy: who gets more, who gets nothing, and what is left without a balancer."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from s3ml.apps.balancing.envoy import EnvoyFolder, service_of_path
from s3ml.gateway import EnvoyGateway, endpoints_folder
from s3ml.primitives.errors import UnavailableError
from s3ml.scheduling.balancer.ports import Weighted
from s3ml.scheduling.balancer.settings import Steering
from tests.apps.balancing.conftest import SERVICE, Site, eventually, make_balancer, make_config
from tests.gateway.conftest import Upstream

pytestmark = pytest.mark.integration


@pytest.fixture
async def site(
    tmp_path: Path, upstreams: tuple[Upstream, Upstream], caller: aiohttp.ClientSession
) -> AsyncIterator[Site]:
    lines: list[str] = []
    config = make_config(tmp_path)
    balancer = make_balancer(config.folder, upstreams, lines, steering=Steering.WEIGHTS)
    with EnvoyGateway(config) as gateway:
        there = Site(
            gateway=gateway, config=config, upstreams=upstreams, caller=caller, balancer=balancer, lines=lines
        )
        await there.until_ready()
        # The step that saw both ready told the gateway; Envoy takes it over on its own time.
        yield there


async def weighted(site: Site) -> None:
    """Wait until Envoy has the weights of the last step."""
    from s3ml.gateway.admin import query

    told = {replica.address: replica.weight for replica in site.balancer.status().services[0].replicas}

    async def has_them() -> bool:
        clusters = await asyncio.to_thread(query, site.config.folder, "/clusters?format=json")
        found = {
            f"127.0.0.1:{host['address']['socket_address']['port_value']}": host.get("weight", 1)
            for cluster in clusters["cluster_statuses"]
            for host in cluster.get("host_statuses", ())
        }
        return found == told

    await eventually(has_them)


class TestWeighted:
    async def test_who_weighs_more_gets_more(self, site: Site) -> None:
        await weighted(site)
        answers = await site.calls(100)
        assert answers[b"a"] > 3 * answers[b"b"] > 0

    async def test_another_policy_turns_it(self, site: Site) -> None:
        """Nothing is restarted in between."""
        site.balancer.fleets[SERVICE].set_members(reversed(site.members))
        await site.balancer.step()
        await weighted(site)
        answers = await site.calls(100)
        assert answers[b"b"] > 3 * answers[b"a"] > 0

    async def test_a_dead_one_gets_nothing(self, site: Site) -> None:
        await site.upstreams[0].kill()
        assert await site.calls(30) == {b"b": 30}
        await site.until_ready(1)
        assert [replica.is_ready for replica in site.balancer.status().services[0].replicas] == [False, True]

    async def test_weights_stay_when_nobody_renews_them(self, site: Site) -> None:
        await weighted(site)
        assert (await site.calls(50))[b"a"] > 25
        await weighted(site)


class TestSlow:
    async def test_a_slow_one_gets_less(self, site: Site) -> None:
        """By a policy of the product, which goes by requests in flight and latency."""
        site.balancer.switch("prequal")
        site.upstreams[0].delay_s = 0.3

        async def weighs_less() -> bool:
            await asyncio.gather(*(site.call() for _ in range(8)), site.balancer.step())
            slow, fast = site.balancer.status().services[0].replicas
            return slow.weight < fast.weight

        await eventually(weighs_less)


class TestCounters:
    async def test_what_is_in_flight_is_seen(self, site: Site) -> None:
        for upstream in site.upstreams:
            upstream.delay_s = 3600
        calls = [asyncio.create_task(site.call()) for _ in range(4)]

        async def sees_four() -> bool:
            await site.balancer.step()
            replicas = site.balancer.fleets[SERVICE].view(0).replicas
            return sum(replica.in_flight for replica in replicas) == 4

        await eventually(sees_four)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    async def test_answers_become_latencies(self, site: Site) -> None:
        for upstream in site.upstreams:
            upstream.delay_s = 0.02

        async def knows() -> bool:
            await asyncio.gather(*(site.call() for _ in range(8)), site.balancer.step())
            return all(r.latency_s is not None for r in site.balancer.fleets[SERVICE].view(0).replicas)

        await eventually(knows)

    async def test_a_gateway_that_is_gone(self, tmp_path: Path) -> None:
        with pytest.raises(UnavailableError, match="is it running"):
            await EnvoyFolder(tmp_path).hosts()


class TestFiles:
    """Written when there is news, and again where somebody else wrote."""

    async def test_no_news_is_not_written(self, tmp_path: Path) -> None:
        endpoints_folder(tmp_path).mkdir()
        folder = EnvoyFolder(tmp_path)
        told = [Weighted(address="127.0.0.1:1", node="n1", weight=3)]
        path = endpoints_folder(tmp_path) / f"service-{SERVICE}.json"
        assert await folder.set_weights(SERVICE, told)
        assert not await folder.set_weights(SERVICE, told)
        assert await folder.set_weights(
            SERVICE, [*told, Weighted(address="127.0.0.1:2", node="n1", weight=1)]
        )
        written = path.read_text()
        assert '"load_balancing_weight": 3' in written
        path.write_text("{}")
        os.utime(path, ns=(1, 1))
        assert await folder.set_weights(
            SERVICE, [*told, Weighted(address="127.0.0.1:2", node="n1", weight=1)]
        )
        assert path.read_text() == written


class TestPaths:
    @pytest.mark.parametrize(
        ("path", "service"),
        [
            ("/services/tumours/ohttp", "tumours"),
            ("/services//x", None),
            ("/", None),
            ("", None),
            ("/services/A/x", None),
        ],
    )
    def test_the_service_is_in_it(self, path: str, service: str | None) -> None:
        assert service_of_path(path) == service
