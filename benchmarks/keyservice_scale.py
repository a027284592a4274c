"""Several replicas: how fast many model servers get keys, how fast a replica joins, what each costs.

Replicas share a PostgreSQL, and a quorum of three witnesses, each a process. Load, replicas, witnesses and
database share the machine's cores: where it has two, more replicas are no faster, and this shows what they
cost instead.
"""

import asyncio
import os
from collections.abc import Sequence
from typing import Any

from benchmarks.keyservice_fleet import Child, Yard
from benchmarks.keyservice_load import (
    BUNDLE,
    RELEASE,
    Driven,
    answers,
    drive,
    open_all,
    questions,
    scale_out,
)
from benchmarks.summaries import percentile, summary

MODEL_SERVERS, ANY_CORE = 200, -1
COUNTS = (1, 3, 5)


def measure(yard: Yard, *, is_quick: bool) -> dict[str, Any]:
    """Start a fleet replica by replica, and measure on the way."""
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    counts = COUNTS[:2] if is_quick else COUNTS
    database, witnesses = yard.postgresql(), yard.witnesses(3)
    replicas = [yard.founded(database, witnesses=witnesses, core=ANY_CORE)]
    joined: list[dict[str, float]] = []
    while len(replicas) < counts[-1]:
        child = yard.replica(database, witnesses=witnesses, peers=replicas, core=ANY_CORE)
        joined.append(joining(child))
        replicas.append(child)
    for _ in range(0 if is_quick else 6):
        child = yard.replica(database, witnesses=witnesses, peers=replicas[:1], core=ANY_CORE)
        joined.append(joining(child))
        child.stop()
    return {
        "joins": {name: summary([one[name] for one in joined]) for name in joined[0]},
        "scale_out": _scale_out(yard, replicas, is_quick=is_quick),
        "replicas": {str(count): _rates(yard, replicas[:count], is_quick=is_quick) for count in counts},
    }


def joining(child: Child) -> dict[str, float]:
    """Wait until a replica that was just started serves; return how long its steps took."""
    listening_s = child.until("/livez")
    ready_s = child.until()
    assert any(event["event"] == "joined" for event in child.events())
    return {"listening_s": listening_s, "serving_s": ready_s, "joining_s": ready_s - listening_s}


def _scale_out(yard: Yard, replicas: Sequence[Child], *, is_quick: bool) -> dict[str, Any]:
    """Let model servers start at once, against one replica and against three, in turns."""
    count, rounds = (20, 1) if is_quick else (MODEL_SERVERS, 9)
    rows: dict[str, list[dict[str, float]]] = {"1": [], "3": []}
    for _ in range(rounds):
        for name, found in rows.items():
            all_s, ready_ms = asyncio.run(scale_out(replicas[: int(name)], yard.model_server, count))
            found.append(
                {
                    "all_s": all_s,
                    "p50_ms": percentile(ready_ms, 0.5),
                    "p99_ms": percentile(ready_ms, 0.99),
                }
            )
    return {
        "model_servers": count,
        "replicas": {
            name: {key: summary([row[key] for row in found]) for key in found[0]}
            for name, found in rows.items()
        },
    }


def _rates(yard: Yard, replicas: Sequence[Child], *, is_quick: bool) -> dict[str, Any]:
    """Load replicas all at once, and return what they do together, and what each is."""
    releases, bundles, rounds = (10, 20, 1) if is_quick else (128, 1024, 5)

    async def release() -> list[Driven]:
        ready = [await answers(one, [yard.model_server], releases, connections=16) for one in replicas]
        loads = (
            drive(one, RELEASE, bodies, connections=16)
            for one, (_, _, bodies) in zip(replicas, ready, strict=True)
        )
        released = await asyncio.gather(*loads)
        for (_, sessions, _), one in zip(ready, released, strict=True):
            open_all(sessions, one.replies)
        return released

    async def bundle() -> list[Driven]:
        return await asyncio.gather(
            *(drive(one, BUNDLE, questions(bundles), connections=128) for one in replicas)
        )

    found: dict[str, Any] = {}
    for name, load in (("releases", release), ("bundles", bundle)):
        per_s, per_busy_s = [], []
        for _ in range(rounds):
            done = asyncio.run(load())
            total = sum(len(one.replies) for one in done)
            per_s.append(total / max(one.wall_s for one in done))
            per_busy_s.append(total / sum(one.busy_s for one in done))
        found[name] = {"per_s": summary(per_s, 1), "per_busy_s": summary(per_busy_s, 1)}
    return {**found, "resident_mb": summary([one.resident_mb for one in replicas], 1)}
