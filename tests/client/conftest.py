"""The world behind the client, with the verification of bundles replaced by the world's own."""

import pytest

from s3ml.client.core import Core
from s3ml.primitives.clock import SystemClock
from tests.client.world import Driver, World, make_core


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr("s3ml.client.trusting.verify_trust_bundle", made.verified)
    return made


@pytest.fixture
def core(world: World) -> Core:
    return make_core(world)


@pytest.fixture
def driver(world: World) -> Driver:
    return Driver(world)


@pytest.fixture
def live_world(world: World) -> World:
    """The world on the machine's own clock."""
    world.clock = SystemClock()
    return world
