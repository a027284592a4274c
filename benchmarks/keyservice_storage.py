"""How long an append takes: on PostgreSQL, on SQLite, and as bare statements on the same server.

The server is private, on this machine's disk, with its defaults (`fsync` on), reached over its Unix socket.
Peers are measured in the same run, taking turns: an `INSERT` and a `COMMIT` of the same rows by psycopg, in
one round trip and in three, which is what a transaction costs without a key service around it.

Usage: ``python -m benchmarks.keyservice_storage [--quick] [--output DIR]``.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psycopg

from benchmarks import machine
from benchmarks.summaries import RESULTS, percentile, write
from s3ml.keyservice.storage import Commit, Committed, Head, Storage, open_storage
from tests.keyservice.postgres_server import running

AIM_MS = 20.0
ENTRY_BYTES = 700
NOTE = "n" * 400
SEAL = bytes(100)
BATCHES = (1, 16, 256)
LENGTHS = (1_000, 100_000)
FILL = 1_000
Append = Callable[[list[bytes]], None]


class Appender:
    """Appends through a storage, as the key service does."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.size = 0

    def append(self, entries: list[bytes]) -> None:
        """Append entries with their head and committed head."""
        size = self.size + len(entries)
        self.storage.append(
            Commit(
                expected_size=self.size,
                entries=tuple(entries),
                head=Head(size=size, checkpoint=NOTE, seal=SEAL),
                committed=Committed(size=size, note=NOTE),
            )
        )
        self.size = size


class Bare:
    """Inserts the same rows without a storage."""

    def __init__(self, connection: "psycopg.Connection[Any]", table: str) -> None:
        self.connection = connection
        self.size = 0
        connection.execute(f"CREATE TABLE {table} (idx bigint PRIMARY KEY, entry bytea NOT NULL)".encode())
        self._one = (
            f"INSERT INTO {table} SELECT %(size)s + n, e FROM unnest(%(entries)b::bytea[])"  # noqa: S608
            " WITH ORDINALITY AS t (e, n)"
        ).encode()

    def in_one(self, entries: list[bytes]) -> None:
        """One statement, which commits by itself."""
        self.connection.execute(self._one, {"size": self.size, "entries": entries})
        self.size += len(entries)

    def in_three(self, entries: list[bytes]) -> None:
        """BEGIN, INSERT, COMMIT: three round trips."""
        with self.connection.transaction():
            self.connection.execute(self._one, {"size": self.size, "entries": entries})
        self.size += len(entries)


def entries_of(count: int) -> list[bytes]:
    """Return entries of random bytes, of the size of a control message's."""
    return [os.urandom(ENTRY_BYTES) for _ in range(count)]


def timed_ms(append: Append, batch: int) -> float:
    """Append once, and return how many milliseconds it took."""
    entries, began = entries_of(batch), time.perf_counter()
    append(entries)
    return (time.perf_counter() - began) * 1e3


def told(values_ms: list[float]) -> dict[str, Any]:
    """Return what is worth telling of durations."""
    shares = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99}
    found = {name: round(percentile(values_ms, share), 3) for name, share in shares.items()}
    return {**found, "max_ms": round(max(values_ms), 3), "n": len(values_ms)}


def measure_batch(writers: dict[str, Append], batch: int, rounds: int) -> dict[str, Any]:
    """Append `rounds` batches with each writer, taking turns."""
    taken: dict[str, list[float]] = {name: [] for name in writers}
    for _ in range(rounds):
        for name, append in writers.items():
            taken[name].append(timed_ms(append, batch))
    found: dict[str, Any] = {name: told(values) for name, values in taken.items()}
    found["postgresql_to_bare_at_p50"] = round(
        found["postgresql"]["p50_ms"] / found["bare transaction"]["p50_ms"], 2
    )
    return found


def measure_length(length: int, rounds: int) -> dict[str, Any]:
    """Fill logs up to `length` entries, then measure every size of batch on them."""
    with ExitStack() as stack:
        server = stack.enter_context(running())
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        postgresql = Appender(stack.enter_context(closing(open_storage(server.url()))))
        sqlite = Appender(stack.enter_context(closing(open_storage(str(Path(folder) / "log.sqlite")))))
        connection = stack.enter_context(psycopg.connect(server.url(), autocommit=True))
        one, three = Bare(connection, "bare_one"), Bare(connection, "bare_three")
        writers: dict[str, Append] = {
            "postgresql": postgresql.append,
            "sqlite": sqlite.append,
            "bare statement": one.in_one,
            "bare transaction": three.in_three,
        }
        for _ in range(0, length, FILL):
            for append in writers.values():
                append(entries_of(FILL))
        for append in writers.values():  # statements are prepared after a few
            for _ in range(12):
                append(entries_of(1))
        batches = {str(batch): measure_batch(writers, batch, rounds) for batch in BATCHES}
        heads_ms = []
        for _ in range(rounds):
            began = time.perf_counter()
            postgresql.storage.heads()
            heads_ms.append((time.perf_counter() - began) * 1e3)
        version = server.run("SHOW server_version")[0][0]
    return {"server": version, "batches": batches, "postgresql_heads": told(heads_ms)}


def aims(found: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each aim with what was measured."""
    rows = [
        (
            f"append on PostgreSQL at p99, {batch} entries to a log of {int(length):,}",
            batches["postgresql"]["p99_ms"],
        )
        for length, one in found.items()
        for batch, batches in one["batches"].items()
    ]
    return [
        {"aim": aim, "unit": "ms", "below": AIM_MS, "got": got, "is_met": got < AIM_MS} for aim, got in rows
    ]


def main() -> None:
    """Take the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="tiny counts: does it still run?")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the results")
    options = parser.parse_args()
    document: dict[str, Any] = {"machine": machine.describe(), "is_quick": options.quick}
    lengths, rounds = ((FILL,), 3) if options.quick else (LENGTHS, 500)
    found = {}
    for length in lengths:
        print(f"keyservice_storage: a log of {length:,} entries", flush=True)
        found[str(length)] = measure_length(length, rounds)
    document |= {"entry_bytes": ENTRY_BYTES, "lengths": found, "aims": aims(found)}
    print(f"keyservice_storage: wrote {write(options.output, 'keyservice_storage', document)}", flush=True)


if __name__ == "__main__":
    main()
