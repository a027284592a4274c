"""Real requests through a real Envoy: paths, headers, limits, retries."""

import asyncio
import json

import aiohttp
import pytest

from s3ml.gateway import EnvoyGateway
from s3ml.gateway.routes import KEY_SERVICE_ROUTES, STRIPPED_HEADERS, STRIPPED_PREFIXES
from tests.gateway.conftest import Eventually, Upstream

pytestmark = pytest.mark.integration

SEALED = "/services/tumours/ohttp"
Pair = tuple[Upstream, Upstream]


async def ready(gateway: EnvoyGateway, eventually: Eventually, *upstreams: Upstream) -> None:
    """Tell the gateway of `upstreams` and wait until it takes them for ready."""
    gateway.set_replicas("tumours", [upstream.address for upstream in upstreams])
    await eventually(
        lambda: sum(member.is_healthy for member in gateway.replicas("tumours")) == len(upstreams)
    )


async def post(
    caller: aiohttp.ClientSession, url: str, body: bytes = b"sealed", *, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    async with caller.post(url, data=body, headers=headers) as response:
        return response.status, await response.read()


class TestPaths:
    """A few paths lead somewhere; all others answer 404 with one short JSON body."""

    async def test_sealed_request_reaches_the_services_replicas(
        self, gateway: EnvoyGateway, upstreams: Pair, caller: aiohttp.ClientSession, eventually: Eventually
    ) -> None:
        await ready(gateway, eventually, upstreams[0])

        status, body = await post(caller, gateway.url + SEALED, headers={"content-type": "message/ohttp-req"})

        assert (status, body) == (200, b"a")
        (seen,) = upstreams[0].seen
        assert (seen.method, seen.path, seen.body) == ("POST", SEALED, b"sealed")
        assert seen.headers["content-type"] == "message/ohttp-req"

    async def test_public_key_service_paths_lose_their_prefix(
        self, gateway: EnvoyGateway, upstreams: Pair, caller: aiohttp.ClientSession, eventually: Eventually
    ) -> None:
        gateway.set_key_service([upstreams[0].address])
        await eventually(lambda: any(member.is_healthy for member in gateway.key_services()))

        for method, path in KEY_SERVICE_ROUTES:
            async with caller.request(method, f"{gateway.url}/keyservice{path}?start=1&end=2") as response:
                assert response.status == 200

        assert [(seen.method, seen.path) for seen in upstreams[0].seen] == [
            (method, f"{path}?start=1&end=2") for method, path in KEY_SERVICE_ROUTES
        ]

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/"),
            ("GET", SEALED),
            ("POST", "/services/unknown/ohttp"),
            ("POST", "/services/tumours/ohttp/more"),
            ("POST", "/services/birds/../unknown/ohttp"),
            ("GET", "/v2/health/ready"),
            ("POST", "/keyservice/v1/challenge"),
            ("POST", "/keyservice/v1/release"),
            ("GET", "/keyservice/v1/trust-bundle"),
            ("GET", "/keyservice/metrics"),
            ("GET", "/keyservice/v1/deployment/../../metrics"),
        ],
    )
    async def test_all_else_is_not_found(
        self, gateway: EnvoyGateway, caller: aiohttp.ClientSession, method: str, path: str
    ) -> None:
        async with caller.request(method, gateway.url + path) as response:
            assert response.status == 404
            assert response.content_type == "application/json"
            assert json.loads(await response.read())["error"].startswith("not found")

    async def test_no_replica_answers_503(self, gateway: EnvoyGateway, caller: aiohttp.ClientSession) -> None:
        async with caller.post(gateway.url + SEALED, data=b"sealed") as response:
            assert response.status == 503
            assert "retry-after" not in response.headers
            assert json.loads(await response.read()) == {"error": "unavailable: no replica is ready"}


class TestHeaders:
    """Headers that steer, claim an origin or follow a caller end at the edge."""

    async def test_none_reaches_a_replica(
        self, gateway: EnvoyGateway, upstreams: Pair, caller: aiohttp.ClientSession, eventually: Eventually
    ) -> None:
        await ready(gateway, eventually, upstreams[0])
        sent = [*STRIPPED_HEADERS, *(f"{prefix}anything" for prefix in STRIPPED_PREFIXES)]
        sent += ["x-envoy-original-path", "x-envoy-retry-on", "x-forwarded-for", "x-forwarded-host"]

        status, _ = await post(caller, gateway.url + SEALED, headers=dict.fromkeys(sent, "1"))

        assert status == 200
        got = set(upstreams[0].seen[0].headers)
        assert got.isdisjoint(sent)
        assert not [name for name in got if name.startswith(STRIPPED_PREFIXES)]

    async def test_envoy_obeys_none_of_them(
        self, gateway: EnvoyGateway, upstreams: Pair, caller: aiohttp.ClientSession, eventually: Eventually
    ) -> None:
        """A deadline of 1 ms from outside would answer 504."""
        upstreams[0].delay_s = 0.05
        await ready(gateway, eventually, upstreams[0])

        status, _ = await post(caller, gateway.url + SEALED, headers={"x-envoy-upstream-rq-timeout-ms": "1"})

        assert status == 200


class TestLimits:
    """A request up to the limit passes, one above it is refused before a replica sees it."""

    async def test_exactly_the_limit_passes(
        self, gateway: EnvoyGateway, upstreams: Pair, caller: aiohttp.ClientSession, eventually: Eventually
    ) -> None:
        await ready(gateway, eventually, upstreams[0])
        status, _ = await post(caller, gateway.url + SEALED, bytes(65_536))
        assert (status, len(upstreams[0].seen[0].body)) == (200, 65_536)

    async def test_one_byte_more_answers_413(
        self, gateway: EnvoyGateway, upstreams: Pair, caller: aiohttp.ClientSession, eventually: Eventually
    ) -> None:
        await ready(gateway, eventually, upstreams[0])
        status, body = await post(caller, gateway.url + SEALED, bytes(65_537))
        assert (status, upstreams[0].seen) == (413, [])
        assert set(json.loads(body)) == {"error"}


class TestRetries:
    """Only a request that was not sent goes to another replica, and it is counted."""

    async def test_dead_replica_costs_no_request(
        self, gateway: EnvoyGateway, upstreams: Pair, caller: aiohttp.ClientSession, eventually: Eventually
    ) -> None:
        await ready(gateway, eventually, *upstreams)
        await upstreams[0].kill()

        answers = await asyncio.gather(*(post(caller, gateway.url + SEALED) for _ in range(20)))

        assert answers == [(200, b"b")] * 20
        # A request may meet the dead replica twice: a retry more than successes is no request lost.
        counted = gateway.statistics()
        assert counted.retries >= counted.retries_succeeded > 0
        assert counted.requests == 20

    async def test_what_a_replica_read_is_never_sent_again(
        self, gateway: EnvoyGateway, upstreams: Pair, caller: aiohttp.ClientSession, eventually: Eventually
    ) -> None:
        for upstream in upstreams:
            upstream.drops_requests = True
        await ready(gateway, eventually, *upstreams)

        status, body = await post(caller, gateway.url + SEALED)

        assert (status, set(json.loads(body))) == (503, {"error"})
        assert sum(len(upstream.seen) for upstream in upstreams) == 1
        assert gateway.statistics().retries == 0
