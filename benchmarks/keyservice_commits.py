"""What a commit takes: one entry, stored durably, cosigned where there are witnesses, and seen by readers.

The key service runs in this process, on one core; witnesses and PostgreSQL are processes on the others. A
commit is one proof of presence, as each replica makes it every 100 s.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from benchmarks import machine
from benchmarks.founding import found_here
from benchmarks.keyservice_fleet import Yard
from benchmarks.summaries import percentile, summary
from s3ml.keyservice.cosigning import Cosigner
from s3ml.keyservice.events import EventLog
from s3ml.keyservice.service import KeyService
from s3ml.keyservice.storage import Storage, open_storage
from s3ml.primitives.clock import SystemClock

WITNESSES, TIMEOUT_S = 3, 5.0


@dataclass(frozen=True, slots=True)
class _Set:
    """A key service whose commits are measured."""

    name: str
    service: KeyService
    storage: Storage
    cosigner: Cosigner


async def _set(yard: Yard, kind: str, witnesses: int) -> _Set:
    database = yard.sqlite() if kind == "SQLite" else yard.postgresql()
    running = yard.witnesses(witnesses)
    cosigner = Cosigner([f"http://127.0.0.1:{one.port}" for one in running], timeout_s=TIMEOUT_S)
    clock, storage = SystemClock(), open_storage(database)
    service = KeyService(storage, yard.key_service, clock, EventLog(lambda _: None, clock), cosigner=cosigner)
    await found_here(service, yard.founder(running))
    name = f"{kind}, {witnesses or 'no'} witnesses"
    return _Set(name, service, storage, cosigner)


async def _measure(yard: Yard, rounds: int, count: int) -> dict[str, Any]:
    sets = [
        await _set(yard, kind, witnesses) for kind in ("SQLite", "PostgreSQL") for witnesses in (0, WITNESSES)
    ]
    rows: dict[str, list[list[float]]] = {one.name: [] for one in sets}
    try:
        for _ in range(rounds):
            for one in sets:
                taken_ms = []
                for _ in range(count):
                    began = time.perf_counter()
                    await one.service.replica.be_present()
                    taken_ms.append((time.perf_counter() - began) * 1e3)
                rows[one.name].append(taken_ms)
    finally:
        for one in sets:
            one.cosigner.close()
            one.storage.close()
    return {
        name: {
            "p50_ms": summary([percentile(taken, 0.5) for taken in found]),
            "p99_ms": summary([percentile(taken, 0.99) for taken in found]),
        }
        for name, found in rows.items()
    }


def measure(yard: Yard, *, is_quick: bool) -> dict[str, Any]:
    """Return the latency of commits on both stores, with and without witnesses, in turns."""
    machine.pin(0)
    return asyncio.run(_measure(yard, *((1, 3) if is_quick else (9, 50))))
