"""Long logs: written by the real code in big batches, and read back by a replica that starts.

A log of three busy replicas grows by about 290 entries an hour: each proves its presence every 100 s and
commits its audit records every minute. 100,000 entries are two weeks of that. Entries here come in that
proportion: five that commit to two audit records each, and three presences.

Usage: ``python -m benchmarks.keyservice_growth --database URL`` reads a log and prints what that took.
"""

import argparse
import hashlib
import json
import secrets
import time
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.enclaves import PlayedEnclave
from benchmarks.founding import SERVICE, Founder, found_here
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
            left = size - replica.ledger.view.size
            await replica.commit(lambda view, n=min(BATCH, left): _plan(service, view, n))  # type: ignore[misc]
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
    return pages * 4096 / 1e6


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--database", required=True)
    options = parser.parse_args()
    machine.pin(0)
    print(json.dumps(read_log(options.database)))
