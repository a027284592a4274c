"""Long logs: written by the real code in big batches, and read back by a replica that starts.

A log of three busy replicas grows by about 290 entries an hour: each proves its presence every 100 s and
commits its audit records every minute. 100,000 entries are two weeks of that. Entries here come in that
proportion: five that commit to two audit records each, and three presences.

Usage: ``python -m benchmarks.keyservice_growth --database URL`` reads a log and prints what that took.
"""

import argparse
import asyncio
import hashlib
import json
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.enclaves import PlayedEnclave
from benchmarks.founding import SERVICE, Founder, found_here
from benchmarks.keyservice_fleet import REPOSITORY, Child, Yard
from benchmarks.keyservice_load import BUNDLE, RELEASE, answers, drive, questions
from benchmarks.summaries import summary
from s3ml.keyservice.cosigning import Cosigner
from s3ml.keyservice.documents import AuditRecord, PresenceEntry, ReleasesEntry
from s3ml.keyservice.events import EventLog
from s3ml.keyservice.ledger import Plan
from s3ml.keyservice.log import Body
from s3ml.keyservice.parsing import encode_document
from s3ml.keyservice.replaying import Reader, View, audit_digest
from s3ml.keyservice.service import KeyService
from s3ml.keyservice.storage import open_storage
from s3ml.primitives.clock import RatchetClock, SystemClock

BATCH, RECORDS = 800, 2
SIZES, QUICK_SIZES = (10, 1000, 10_000, 100_000), (50,)
REPLICAS = tuple(secrets.token_hex(32) for _ in range(3))


async def write_log(database: str, size: int, enclave: PlayedEnclave, founder: Founder) -> float:
    """Begin a deployment and write its log up to `size` entries; return entries per second."""
    clock = SystemClock()
    storage = open_storage(database)
    try:
        cosigner = Cosigner((), timeout_s=5.0)
        service = KeyService(storage, enclave, clock, EventLog(lambda _: None, clock), cosigner=cosigner)
        await found_here(service, founder)
        replica, began = service.replica, time.perf_counter()
        first = replica.ledger.view.size
        while replica.ledger.view.size < size:
            await replica.ledger.commit(lambda view: _plan(service, view, min(BATCH, size - view.size)))
        return (size - first) / (time.perf_counter() - began) if size > first else 0.0
    finally:
        storage.close()


def _plan(service: KeyService, view: View, count: int) -> Plan:
    start, bodies, audit = view.state.audited, list[Body](), list[bytes]()
    keyring = service.replica.serving_keyring()
    held = tuple(sorted(keyring.generations.ids))
    for number in range(count):
        if number % 8 < 5:
            records = [encode_document(_record()) for _ in range(RECORDS)]
            first = start + len(audit)
            bodies.append(ReleasesEntry(first=first, count=RECORDS, sha256=audit_digest(records)))
            audit += records
        else:
            replica = REPLICAS[number % 3]
            bodies.append(PresenceEntry(replica=replica, random=secrets.token_bytes(32), generations=held))
    return Plan(keyring=keyring, bodies=bodies, audit_start=start, audit=tuple(audit))


def _record() -> AuditRecord:
    digest = hashlib.sha256(secrets.token_bytes(8)).hexdigest()
    return AuditRecord(
        time=SystemClock().now(),
        service=SERVICE,
        policy_sha256=digest,
        epochs=(1,),
        models=(digest,),
        tee=PlayedEnclave.tee,
        measurement=digest,
        public_key_sha256=digest,
    )


def read_log(database: str) -> dict[str, Any]:
    """Read and check a stored log as a replica does when it starts."""
    storage = open_storage(database)
    before_mb = resident_mb()
    try:
        busy_s, began = time.process_time(), time.perf_counter()
        reader = Reader(storage, RatchetClock(SystemClock()))
        reader.read_on()
        wall_s, busy_s = time.perf_counter() - began, time.process_time() - busy_s
    finally:
        storage.close()
    return {
        "entries": reader.view.size,
        "wall_s": round(wall_s, 3),
        "busy_s": round(busy_s, 3),
        "grown_mb": round(resident_mb() - before_mb, 1),
    }


def resident_mb() -> float:
    """Return this process's resident memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(yard: Yard, *, is_quick: bool) -> dict[str, Any]:
    """Return what a log of each size costs on each store: to read, to start with, to join, to serve from."""
    machine.pin(1)
    sizes = QUICK_SIZES if is_quick else SIZES
    return {
        store: {str(size): _measure_size(yard, database(), size, is_quick=is_quick) for size in sizes}
        for store, database in (("SQLite", yard.sqlite), ("PostgreSQL", yard.postgresql))
    }


def _measure_size(yard: Yard, database: str, size: int, *, is_quick: bool) -> dict[str, Any]:
    print(f"key service: a log of {size} entries", flush=True)
    times = 1 if is_quick else 5
    written_per_s = asyncio.run(write_log(database, size, yard.key_service, yard.founder()))
    command = [sys.executable, "-m", "benchmarks.keyservice_growth", "--database", database]
    read = []
    for _ in range(times):
        done = subprocess.run(command, text=True, check=True, stdout=subprocess.PIPE, cwd=REPOSITORY)
        read.append(json.loads(done.stdout))
    found: dict[str, Any] = {
        "entries": read[0]["entries"],
        "written_per_s": round(written_per_s),
        "read": {name: summary([one[name] for one in read]) for name in ("wall_s", "busy_s", "grown_mb")},
    }
    starts: list[dict[str, float]] = []
    for number in range(times):
        child = yard.replica(database)
        starts.append({"serving_s": child.until(), "busy_s": child.busy_s})
        if number < times - 1:
            child.stop()
    found["start"] = {name: summary([one[name] for one in starts]) for name in starts[0]}
    found |= _serve(yard, child, is_quick=is_quick)
    if database.startswith("postgresql:"):
        found["join"] = _join(yard, database, child, times)
    child.stop()
    return found


def _serve(yard: Yard, child: Child, *, is_quick: bool) -> dict[str, Any]:
    """Return what a replica does from this log, for each second of its processor."""
    releases, bundles, rounds = (10, 20, 1) if is_quick else (256, 2048, 5)
    fresh_mb, released, told = child.resident_mb, [], []
    for _ in range(rounds):
        _, _, bodies = asyncio.run(answers(child, [yard.model_server], releases, connections=16))
        released.append(asyncio.run(drive(child, RELEASE, bodies, connections=16)).per_busy_s)
        told.append(asyncio.run(drive(child, BUNDLE, questions(bundles), connections=256)).per_busy_s)
    return {
        "releases_per_busy_s": summary(released, 1),
        "bundles_per_busy_s": summary(told, 1),
        "resident_mb": {"started": fresh_mb, "after load": child.resident_mb},
    }


def _join(yard: Yard, database: str, child: Child, times: int) -> dict[str, Any]:
    """Return how long after its start another replica serves that `child`, which serves, lets in."""
    serving_s = []
    for _ in range(times):
        peer = yard.replica(database, peers=[child])
        serving_s.append(peer.until())
        peer.stop()
    return {"serving_s": summary(serving_s)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--database", required=True)
    options = parser.parse_args()
    machine.pin(0)
    print(json.dumps(read_log(options.database)))
