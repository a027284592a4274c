"""A replica dies while requests flow, and another takes its place."""

import asyncio
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from s3ml.apps.cluster import LocalCluster, Replica
from s3ml.apps.demo.load import Answer, Outcomes, flow
from s3ml.apps.demo.roles import SERVICE
from s3ml.apps.demo.stage import Stage
from s3ml.apps.demo.tumours import Tumours
from s3ml.client import AsyncClient

READY_DEADLINE_S = 60.0
FAILOVER_DEADLINE_S = 30.0
SERVED_BY_SUCCESSOR = 50


@dataclass(slots=True, kw_only=True)
class Failover:
    """What came of it: the requests, the victim's end, when its successor was ready, what that served."""

    outcomes: Outcomes
    is_killed: bool
    ready_s: float
    served: int


async def fail_over(
    stage: Stage, cluster: LocalCluster, trust: Path, tumours: Tumours, expected: Answer
) -> Failover:
    """Kill a replica while requests flow, start another, and go on until that one has served."""
    outcomes = Outcomes()
    over = asyncio.Event()
    with stage.step("kill a replica under load, start another"):
        async with AsyncClient(cluster.endpoints.gateway, trust=trust) as client:
            await client.verify(SERVICE)
            flowing = asyncio.create_task(
                flow(
                    client,
                    service=SERVICE,
                    rows=tumours.rows,
                    expected=expected,
                    is_over=over.is_set,
                    outcomes=outcomes,
                )
            )
            try:
                await asyncio.wait_for(outcomes.under_way.wait(), READY_DEADLINE_S)
                victim = cluster.replicas[0]
                os.kill(victim.pid, signal.SIGKILL)
                successor = await asyncio.to_thread(cluster.start_replica, SERVICE)
                ready_s = await asyncio.to_thread(
                    cluster.wait_until_ready, successor, deadline_s=READY_DEADLINE_S
                )
                served = await _served_by(cluster, successor)
                is_killed = not cluster.is_alive(victim)
                cluster.remove(victim)
            finally:
                over.set()
                await flowing
            stage.count(client)
    return Failover(outcomes=outcomes, is_killed=is_killed, ready_s=ready_s, served=served)


async def _served_by(cluster: LocalCluster, successor: Replica) -> int:
    """Wait until the gateway sent the successor its share; return how many requests that is."""
    deadline = time.monotonic() + FAILOVER_DEADLINE_S
    while True:
        upstreams = await asyncio.to_thread(cluster.upstreams, SERVICE)
        served = next((u.requests for u in upstreams if u.address == successor.address), 0)
        if served >= SERVED_BY_SUCCESSOR or time.monotonic() > deadline:
            return served
        await asyncio.sleep(0.02)
