"""One soak: load, disturbances, and a watch on memory, for so many seconds."""

import asyncio
import time
from dataclasses import dataclass

from s3ml.client import AsyncClient
from tests.soak.disturbances import Disturbances, Events
from tests.soak.load import Load, Tally
from tests.soak.memory import Watch
from tests.soak.world import World, soaked_world

# How often, in seconds, where there is time.
KILL_EVERY_S, ROTATE_EVERY_S, UNLOAD_EVERY_S, AMEND_EVERY_S = 45.0, 20.0, 10.0, 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Soak:
    """What came of it.

    Args:
        seconds: How long it took.
        tally: Of requests.
        events: That happened meanwhile.
        watch: On the processes.
        left_behind: The ids of processes that still ran afterwards.
        rotations: How many epochs began.
    """

    seconds: float
    tally: Tally
    events: Events
    watch: Watch
    left_behind: list[int]
    rotations: int


def soak(seconds: float) -> Soak:
    """Run a cluster, and soak it."""
    with soaked_world() as world:
        watch, tally, events = Watch(world), Tally(), Events()
        before = world.epoch()
        asyncio.run(_soak(world, watch, tally, events, seconds))
        took_s, rotations = time.monotonic() - tally.began_s, world.epoch() - before
    return Soak(
        seconds=took_s,
        tally=tally,
        events=events,
        watch=watch,
        left_behind=watch.left_behind(),
        rotations=rotations,
    )


async def _soak(world: World, watch: Watch, tally: Tally, events: Events, seconds: float) -> None:
    load = Load(world, tally)
    gateway, trust = world.cluster.endpoints.gateway, world.owners.trust_path
    async with AsyncClient(gateway, trust=trust, credentials=world.operator) as operator:
        disturbances = Disturbances(world, load, events, operator)
        until_s = time.monotonic() + seconds
        works = (
            (disturbances.kill, KILL_EVERY_S),
            (disturbances.rotate, ROTATE_EVERY_S),
            (disturbances.unload_and_load, UNLOAD_EVERY_S),
            (disturbances.amend, AMEND_EVERY_S),
        )
        watching = asyncio.create_task(watch.run())
        flowing = asyncio.create_task(load.run())
        try:
            async with asyncio.TaskGroup() as group:
                for work, every_s in works:
                    group.create_task(disturbances.repeat(work, every_s=every_s, until_s=until_s))
            await asyncio.sleep(max(until_s - time.monotonic(), 0.0))
        finally:
            load.is_over.set()
            await flowing
            watching.cancel()
