"""How fast a key service releases keys: its state machine in this process, real quotes, SQLite on disk.

Part of `trust.py`. Enclaves are played by the quoting key of a simulated platform that this module makes.
The requester's side, quote and opening, is left out of the times.
"""

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.enclaves import KEY_SERVICE, MODEL_SERVER, PlayedEnclave, create_vendor
from benchmarks.founding import SERVICE, Founder, found_here
from benchmarks.summaries import summary
from s3ml.keyservice.client import ReleaseSession
from s3ml.keyservice.cosigning import Cosigner
from s3ml.keyservice.events import EventLog
from s3ml.keyservice.service import KeyService
from s3ml.keyservice.storage import SQLiteStorage
from s3ml.primitives.clock import SystemClock

CONCURRENCY = 16
WITNESS_TIMEOUT_S = 5.0


async def measure(count: int) -> dict[str, Any]:
    """Return what a release costs the key service, one at a time and many at a time."""
    pki = create_vendor()
    enclave, replica = PlayedEnclave(pki, KEY_SERVICE), PlayedEnclave(pki, MODEL_SERVER)
    clock = SystemClock()
    with tempfile.TemporaryDirectory() as folder:
        storage = SQLiteStorage(Path(folder) / "log.sqlite")
        cosigner = Cosigner((), timeout_s=WITNESS_TIMEOUT_S)
        events = EventLog(lambda _line: None, clock)
        service = KeyService(storage, enclave, clock, events, cosigner=cosigner)
        background = asyncio.create_task(service.run())
        try:
            await found_here(service, Founder(key_service=enclave.policy, model_server=replica.policy))
            taken_us = [await _release(service, replica) for _ in range(count)]
            rate = await _rate(service, replica, count)
        finally:
            background.cancel()
            await asyncio.gather(background, return_exceptions=True)
            storage.close()
    return {
        "one_at_a_time_us": summary(taken_us, 1),
        f"per_s_at_{CONCURRENCY}": round(rate, 1),
        "requesters_side": "runs in the same process; left out of the first figure, inside the second",
    }


async def _release(service: KeyService, replica: PlayedEnclave) -> float:
    """Get one release and return how long the key service took for it."""
    session = ReleaseSession(SERVICE, replica)
    began = time.perf_counter()
    challenge = service.challenge(session.challenge_request())
    challenged = time.perf_counter()
    request = session.answer(challenge)
    answered = time.perf_counter()
    reply = await service.release(request)
    released = time.perf_counter()
    assert session.open(reply).release.epochs
    return (challenged - began + released - answered) * 1e6


async def _rate(service: KeyService, replica: PlayedEnclave, count: int) -> float:
    """Return releases per second with several requesters."""
    numbers = iter(range(count))

    async def requester() -> None:
        for _ in numbers:
            await _release(service, replica)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(CONCURRENCY):
            group.create_task(requester())
    return count / (time.perf_counter() - began)
