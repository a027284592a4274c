"""What one replica does on one core: releases with fresh evidence, and trust bundles with fresh nonces.

Inside the measured process: everything from the socket on, that is HTTP, JSON, the verification of evidence,
storage (SQLite on disk), signing, sealing, the audit stream with its commits, events and metrics; and for
bundles one quote a batch, whose signature the played enclave makes in this process. Outside, and before the
clock starts: the requesters' keys and evidence. A release counts with its challenge.

Peers take turns with it within each round: dcap-qvl alone on the quotes of the very same requests, on the
same core; and a bare uvicorn that reads the same requests and sends the same replies.
"""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from dcap_qvl import QuoteCollateralV3, verify_with_root_ca

from benchmarks import machine
from benchmarks.enclaves import MODEL_SERVER, PlayedEnclave, other_platform
from benchmarks.keyservice_fleet import Child, Yard
from benchmarks.keyservice_load import BUNDLE, RELEASE, Driven, answers, drive, open_all, questions
from benchmarks.summaries import percentile, summary
from s3ml.attestation import parse_evidence
from s3ml.keyservice.documents import ReleaseRequest

RELEASES_AT_ONCE, BUNDLES_AT_ONCE = 16, 256
QUOTES_MS = (0.0, 5.0, 50.0)
SERVER_CORE, LOAD_CORE = 0, 1


def told(driven: Driven, *before: Driven) -> dict[str, float]:
    """Return the rates of a load, with what came before it counted in."""
    count, every = len(driven.replies), (driven, *before)
    return {
        "per_s": count / sum(one.wall_s for one in every),
        "per_busy_s": count / sum(one.busy_s for one in every),
        "p50_ms": percentile(driven.durations_ms, 0.5),
        "p99_ms": percentile(driven.durations_ms, 0.99),
    }


def verify_alone(bodies: Sequence[bytes], root: bytes) -> dict[str, float]:
    """Have dcap-qvl verify the quotes of releases' requests on the server's core, and nobody else."""
    found = [parse_evidence(msgspec.json.decode(body, type=ReleaseRequest).evidence) for body in bodies]
    now, pairs = int(datetime.now(UTC).timestamp()), []
    for evidence in found:
        assert evidence.collateral is not None
        pairs.append((evidence.quote, QuoteCollateralV3(**msgspec.structs.asdict(evidence.collateral))))
    machine.pin(SERVER_CORE)
    busy_s, began = time.process_time(), time.perf_counter()
    for quote, collateral in pairs:
        verify_with_root_ca(quote, collateral, root, now)
    wall_s, busy_s = time.perf_counter() - began, time.process_time() - busy_s
    machine.pin(LOAD_CORE)
    return {"per_s": len(pairs) / wall_s, "per_busy_s": len(pairs) / busy_s}


def measure_releases(yard: Yard, child: Child, *, rounds: int, count: int) -> dict[str, Any]:
    """Return how many releases a second a replica makes, beside its peers."""
    kinds = ("known platform", "platform never seen", "dcap-qvl alone", "bare echo")
    rows: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    root, echo = yard.vendor.root_der, None
    for _ in range(rounds):
        strangers = [PlayedEnclave(other_platform(yard.vendor), MODEL_SERVER) for _ in range(count)]
        for kind, enclaves in ((kinds[0], [yard.model_server]), (kinds[1], strangers)):
            asked, sessions, bodies = asyncio.run(answers(child, enclaves, count, connections=16))
            released = asyncio.run(drive(child, RELEASE, bodies, connections=RELEASES_AT_ONCE))
            open_all(sessions, released.replies)
            rows[kind].append(told(released, asked))
        rows[kinds[2]].append(verify_alone(bodies, root))
        echo = echo or yard.echo({RELEASE: released.replies[0]})
        rows[kinds[3]].append(told(asyncio.run(drive(echo, RELEASE, bodies, connections=RELEASES_AT_ONCE))))
    return {
        "request_bytes": len(bodies[0]),
        "reply_bytes": len(released.replies[0]),
        "at_a_time": RELEASES_AT_ONCE,
        "rates": _summaries(rows),
        "to_dcap_qvl": {kind: _ratio(rows[kind], rows[kinds[2]]) for kind in kinds[:2]},
    }


def measure_bundles(yard: Yard, children: dict[float, Child], *, rounds: int, count: int) -> dict[str, Any]:
    """Return how many trust bundles a second replicas make whose quotes take as long as their key says."""
    names = {quote_ms: f"quotes take {quote_ms:.0f} ms more" for quote_ms in children}
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in (*names.values(), "bare echo")}
    echo = None
    for _ in range(rounds):
        for quote_ms, child in children.items():
            asked = questions(count)
            found = asyncio.run(drive(child, BUNDLE, asked, connections=BUNDLES_AT_ONCE))
            rows[names[quote_ms]].append(told(found))
        echo = echo or yard.echo({BUNDLE: found.replies[0]})
        rows["bare echo"].append(
            told(asyncio.run(drive(echo, BUNDLE, questions(count), connections=BUNDLES_AT_ONCE)))
        )
    return {
        "request_bytes": len(asked[0]),
        "reply_bytes": len(found.replies[0]),
        "at_a_time": BUNDLES_AT_ONCE,
        "rates": _summaries(rows),
        "to_echo": {name: _ratio(rows[name], rows["bare echo"]) for name in names.values()},
    }


def _summaries(rows: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    return {
        kind: {name: summary([row[name] for row in found], 2) for name in found[0]}
        for kind, found in rows.items()
    }


def _ratio(rows: list[dict[str, float]], peers: list[dict[str, float]]) -> dict[str, Any]:
    """Return what is done per second of processor, as a ratio to a peer's within the same round."""
    return summary([a["per_busy_s"] / b["per_busy_s"] for a, b in zip(rows, peers, strict=True)])


def measure(yard: Yard, *, is_quick: bool) -> dict[str, Any]:
    """Start what is needed, and measure both."""
    machine.pin(LOAD_CORE)
    rounds, releases, bundles = (1, 20, 64) if is_quick else (9, 256, 4096)
    quotes_ms = QUOTES_MS[:2] if is_quick else QUOTES_MS
    children = {quote_ms: yard.founded(yard.sqlite(), quote_ms=quote_ms) for quote_ms in quotes_ms}
    found = {
        "releases": measure_releases(yard, children[0.0], rounds=rounds, count=releases),
        "bundles": measure_bundles(yard, children, rounds=rounds, count=bundles),
    }
    for child in children.values():
        child.stop()
    return found
