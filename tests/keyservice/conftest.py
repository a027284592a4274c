from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.keyservice.keyservice_world import World
from tests.keyservice.postgres_server import database, postgres

__all__ = ["database", "postgres", "serving", "world"]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A key service that has not begun."""
    made = World(tmp_path / "log.sqlite")
    yield made
    made.stop()


@pytest.fixture
async def serving(world: World) -> World:
    """A key service with one policy and one service."""
    await world.serve()
    return world
