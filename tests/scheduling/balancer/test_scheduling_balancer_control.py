"""The balancer's interface over HTTP: it tells, and switches only where it may."""

import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession, web

from s3ml.scheduling.balancer.control import create_control
from tests.scheduling.fakes import World, make_world


@pytest.fixture
def world() -> World:
    return make_world()


async def _listening(world: World, *, may_switch: bool) -> AsyncIterator[str]:
    runner = web.AppRunner(create_control(world.balancer, may_switch=may_switch))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
async def private(world: World) -> AsyncIterator[str]:
    async for url in _listening(world, may_switch=True):
        yield url


@pytest.fixture
async def public(world: World) -> AsyncIterator[str]:
    async for url in _listening(world, may_switch=False):
        yield url


@pytest.fixture
async def caller() -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session


class TestTelling:
    async def test_how_things_stand(self, world: World, public: str, caller: ClientSession) -> None:
        await world.balancer.step()
        async with caller.get(f"{public}/v1/status") as response:
            status = json.loads(await response.read())
        assert status["policy"] == "first"
        assert [replica["name"] for replica in status["services"][0]["replicas"]] == ["a", "b"]
        async with caller.get(f"{public}/metrics") as response:
            assert "s3ml_balancer_steps_total" in await response.text()
        async with caller.get(f"{public}/livez") as response:
            assert response.status == 200


class TestSwitchingOverHttp:
    async def test_another_policy(self, world: World, private: str, caller: ClientSession) -> None:
        async with caller.put(f"{private}/v1/policy", data=b'{"policy": "last"}') as response:
            assert (response.status, json.loads(await response.read())["policy"]) == (200, "last")
        assert world.balancer.policy.name == "last"

    @pytest.mark.parametrize(
        "body", [b"", b"\xff", b"[]", b'{"policy": 1}', b'{"policy": "x"}', b'{"policy": "last", "more": 1}']
    )
    async def test_anything_else_is_refused(
        self, world: World, private: str, caller: ClientSession, body: bytes
    ) -> None:
        async with caller.put(f"{private}/v1/policy", data=body) as response:
            assert response.status == 400
            assert "error" in json.loads(await response.read())
        assert world.balancer.policy.name == "first"

    async def test_a_body_that_is_too_long(self, private: str, caller: ClientSession) -> None:
        async with caller.put(f"{private}/v1/policy", data=b"x" * 5000) as response:
            assert response.status == 413

    async def test_not_where_others_reach_it(self, public: str, caller: ClientSession) -> None:
        async with caller.put(f"{public}/v1/policy", data=b'{"policy": "last"}') as response:
            assert response.status == 404
