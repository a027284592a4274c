"""What happens to a deployment while it is used: kills, rotations, loads and unloads, new versions."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from s3ml.client import AsyncClient
from s3ml.wire.sealed import InnerResponse
from tests.soak.load import DEADLINE_S, Load
from tests.soak.world import BATCHED, READY_S, SERVICE, SPARE, TIMES, World

# After this, every client and every replica that is not starved has heard of a change that owners signed.
SETTLED_S = TIMES.bundle_s + TIMES.lease_s + 3.0
TRIES = 100


@dataclass(slots=True)
class Events:
    """What happened, and when, in seconds since the beginning."""

    began_s: float = field(default_factory=time.monotonic)
    happened: list[tuple[float, str, str]] = field(default_factory=list)

    def add(self, kind: str, detail: str = "") -> None:
        """Write one down."""
        self.happened.append((time.monotonic() - self.began_s, kind, detail))

    def count(self, kind: str) -> int:
        """Return how many of a kind happened."""
        return sum(1 for _, one, _ in self.happened if one == kind)


class Disturbances:
    """Does to a world what operators, owners and bad luck do.

    Args:
        world: Disturbed.
        load: Told which versions there are.
        events: Written down.
        client: Of a caller that may load and unload.
    """

    def __init__(self, world: World, load: Load, events: Events, client: AsyncClient) -> None:
        self._world, self._load, self._events, self._client = world, load, events, client
        self._version = 1

    async def repeat(self, work: Callable[[], Awaitable[None]], *, every_s: float, until_s: float) -> None:
        """Do it again and again, so that it is over when the time is; at least once."""
        while True:
            began_s = time.monotonic()
            await work()
            took_s = time.monotonic() - began_s
            pause_s = max(every_s - took_s, 0.5)
            if time.monotonic() + pause_s + took_s > until_s:
                return
            await asyncio.sleep(pause_s)

    async def kill(self) -> None:
        """Kill the replica that is youngest but one, and start another; the oldest of all stays."""
        cluster = self._world.cluster
        victim = cluster.replicas[1]
        os.kill(victim.pid, signal.SIGKILL)
        self._events.add("killed", victim.name)
        successor = await asyncio.to_thread(cluster.start_replica, SERVICE)
        await asyncio.to_thread(cluster.wait_until_ready, successor, deadline_s=READY_S)
        await asyncio.to_thread(cluster.remove, victim)
        self._events.add("replaced", successor.name)

    async def rotate(self) -> None:
        """Replace the keys."""
        await asyncio.to_thread(self._world.rotate)
        self._events.add("rotated")

    async def unload_and_load(self) -> None:
        """Unload a model from the replica that answers, and load it there again, if that is still there."""
        unloaded = (await self._repository("unload")).field("s3ml-replica")
        self._events.add("unloaded", unloaded or "")
        await asyncio.sleep(1.0)
        for _ in range(TRIES):
            loaded = (await self._repository("load")).field("s3ml-replica")
            if loaded == unloaded or unloaded not in {one.name for one in self._world.cluster.replicas}:
                self._events.add("loaded", loaded or "")
                return
        raise AssertionError(f"{unloaded} did not answer in {TRIES} tries")

    async def amend(self) -> None:
        """Publish a version, use it once everybody has heard of it, and withdraw the one before."""
        before, self._version = str(self._version), self._version + 1
        newest = str(self._version)
        await asyncio.to_thread(self._world.publish, BATCHED, newest)
        self._load.admit(BATCHED, newest)
        await asyncio.to_thread(self._world.amend)
        self._events.add("published", newest)
        await asyncio.sleep(SETTLED_S)
        await self._until_everywhere(newest)
        self._load.versions[BATCHED] = newest
        await self._load.until_answered()  # what was asked of the one before
        await asyncio.to_thread(self._world.amend, (BATCHED, before))
        self._events.add("withdrawn", before)

    async def _until_everywhere(self, version: str) -> None:
        """Ask until each replica has answered that it has a version: a starved one hears of it late."""
        path = f"/v2/models/{BATCHED}/versions/{version}/ready"
        having: set[str | None] = set()
        async with asyncio.timeout(READY_S):
            while not {one.name for one in self._world.cluster.replicas} <= having:
                answer = await self._client.forward(SERVICE, method="GET", path=path, timeout_s=DEADLINE_S)
                if answer.status == 200:
                    having.add(answer.field("s3ml-replica"))

    async def _repository(self, verb: str) -> InnerResponse:
        path = f"/v2/repository/models/{SPARE}/{verb}"
        answer = await self._client.forward(SERVICE, method="POST", path=path, timeout_s=DEADLINE_S)
        assert answer.status == 200, (verb, answer.status, bytes(answer.content))
        return answer
