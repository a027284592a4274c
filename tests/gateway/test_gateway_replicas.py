"""Who gets requests: endpoint files, health checks, ejection."""

import asyncio
from dataclasses import replace

import aiohttp
import pytest

from s3ml.gateway import EnvoyGateway, GatewayConfig
from s3ml.primitives.errors import ConfigurationError
from tests.gateway.conftest import Eventually, Upstream

pytestmark = pytest.mark.integration
DEADLINE_S = 120.0

Pair = tuple[Upstream, Upstream]


def healthy(gateway: EnvoyGateway) -> set[str]:
    return {member.address for member in gateway.replicas("tumours") if member.is_healthy}


class TestHealth:
    """A replica gets requests while it says that it is ready, and soon after a change."""

    @pytest.fixture
    def config(self, config: GatewayConfig) -> GatewayConfig:
        return replace(config, health_interval_s=0.2)

    async def test_new_replica_enters(
        self, gateway: EnvoyGateway, upstreams: Pair, eventually: Eventually
    ) -> None:
        a, b = upstreams
        gateway.set_replicas("tumours", [a.address])
        await eventually(lambda: healthy(gateway) == {a.address})

        gateway.set_replicas("tumours", [a.address, b.address])

        await eventually(lambda: healthy(gateway) == {a.address, b.address})

    async def test_unready_replica_waits_and_then_enters(
        self, gateway: EnvoyGateway, upstreams: Pair, eventually: Eventually, caller: aiohttp.ClientSession
    ) -> None:
        a = upstreams[0]
        a.is_ready = False
        gateway.set_replicas("tumours", [a.address])
        await eventually(lambda: len(gateway.replicas("tumours")) == 1)
        async with caller.post(f"{gateway.url}/services/tumours/ohttp") as response:
            assert response.status == 503

        a.is_ready = True

        await eventually(lambda: healthy(gateway) == {a.address})

    async def test_dead_replica_leaves(
        self, gateway: EnvoyGateway, upstreams: Pair, eventually: Eventually
    ) -> None:
        a, b = upstreams
        gateway.set_replicas("tumours", [a.address, b.address])
        await eventually(lambda: len(healthy(gateway)) == 2)

        await a.kill()

        await eventually(lambda: healthy(gateway) == {b.address})

    async def test_replica_that_says_not_ready_leaves(
        self, gateway: EnvoyGateway, upstreams: Pair, eventually: Eventually
    ) -> None:
        a, b = upstreams
        gateway.set_replicas("tumours", [a.address, b.address])
        await eventually(lambda: len(healthy(gateway)) == 2)

        a.is_ready = False

        await eventually(lambda: healthy(gateway) == {b.address})

    async def test_removed_replica_is_forgotten(
        self, gateway: EnvoyGateway, upstreams: Pair, eventually: Eventually
    ) -> None:
        a, b = upstreams
        gateway.set_replicas("tumours", [a.address, b.address])
        await eventually(lambda: len(healthy(gateway)) == 2)

        gateway.set_replicas("tumours", [b.address])

        await eventually(lambda: [member.address for member in gateway.replicas("tumours")] == [b.address])

    async def test_requests_are_counted_by_replica(
        self, gateway: EnvoyGateway, upstreams: Pair, eventually: Eventually, caller: aiohttp.ClientSession
    ) -> None:
        gateway.set_replicas("tumours", [upstreams[0].address])
        await eventually(lambda: len(healthy(gateway)) == 1)
        for _ in range(3):
            async with caller.post(f"{gateway.url}/services/tumours/ohttp") as response:
                assert response.status == 200

        assert [member.requests for member in gateway.replicas("tumours")] == [3]

    def test_service_that_was_not_configured_is_refused(self, gateway: EnvoyGateway) -> None:
        with pytest.raises(ConfigurationError, match="expected one of"):
            gateway.set_replicas("unknown", [])


class TestEjection:
    """Between two health checks, requests themselves find a dead replica out."""

    async def test_failing_replica_is_ejected(
        self,
        config: GatewayConfig,
        upstreams: Pair,
        eventually: Eventually,
        caller: aiohttp.ClientSession,
    ) -> None:
        a, b = upstreams
        with EnvoyGateway(config) as gateway:
            gateway.set_replicas("tumours", [a.address, b.address])
            await eventually(lambda: len(healthy(gateway)) == 2)
            await a.kill()

            async with asyncio.timeout(DEADLINE_S):
                while healthy(gateway) != {
                    b.address
                }:  # it may come back after a second, to be found out again
                    async with caller.post(f"{gateway.url}/services/tumours/ohttp") as response:
                        assert await response.read() == b"b"
