"""What asks a key service in benchmarks: prepared bodies over kept-alive connections, in a closed loop."""

import asyncio
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle

import msgspec

from benchmarks.enclaves import PlayedEnclave
from benchmarks.founding import SERVICE
from benchmarks.keyservice_fleet import Child
from benchmarks.loopback import Connection, head_of
from s3ml.keyservice.client import ReleaseSession
from s3ml.keyservice.documents import ChallengeReply, ReleaseReply, TrustBundleRequest
from s3ml.keyservice.parsing import encode_document

JSON = (("content-type", "application/json"),)
CHALLENGE, RELEASE, BUNDLE = "/v1/challenge", "/v1/release", "/v1/trust-bundle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Driven:
    """What a load came to.

    Args:
        wall_s: From the first request to the last reply.
        busy_s: What the asked process used of the processor meanwhile.
        durations_ms: Of each exchange.
        replies: In the order of the requests.
    """

    wall_s: float
    busy_s: float
    durations_ms: list[float]
    replies: list[bytes]

    @property
    def per_s(self) -> float:
        """Replies per second."""
        return len(self.replies) / self.wall_s

    @property
    def per_busy_s(self) -> float:
        """Replies per second of the asked process's processor time."""
        return len(self.replies) / max(self.busy_s, 0.01)


async def drive(child: Child, path: str, bodies: Sequence[bytes], *, connections: int) -> Driven:
    """Send every body to `path`, one at a time on each connection; all must be answered with 200."""
    durations_ms, replies = [0.0] * len(bodies), [b""] * len(bodies)
    opened = [await Connection.connect(child.port) for _ in range(min(connections, len(bodies)))]
    numbers = iter(range(len(bodies)))
    head_of(path, JSON, len(bodies[0]))

    async def asks(connection: Connection) -> None:
        for number in numbers:
            body = bodies[number]
            began = time.perf_counter()
            status, reply = await connection.post(head_of(path, JSON, len(body)), body)
            durations_ms[number] = (time.perf_counter() - began) * 1e3
            assert status == 200, (status, reply[:300])
            replies[number] = reply

    busy_s, began = child.busy_s, time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for connection in opened:
            group.create_task(asks(connection))
    wall_s, busy_s = time.perf_counter() - began, child.busy_s - busy_s
    for connection in opened:
        connection.close()
    return Driven(wall_s=wall_s, busy_s=busy_s, durations_ms=durations_ms, replies=replies)


def questions(count: int) -> list[bytes]:
    """Return requests for trust bundles, each with a fresh nonce."""
    return [
        encode_document(TrustBundleRequest(service=SERVICE, nonce=secrets.token_bytes(32)))
        for _ in range(count)
    ]


async def answers(
    child: Child, enclaves: Sequence[PlayedEnclave], count: int, *, connections: int
) -> tuple[Driven, list[ReleaseSession], list[bytes]]:
    """Ask for challenges, and answer each with fresh evidence; how the asking went comes first.

    Args:
        child: A replica.
        enclaves: Who answers, in turns.
        count: Of challenges.
        connections: At a time.
    """
    sessions = [
        ReleaseSession(SERVICE, enclave) for _, enclave in zip(range(count), cycle(enclaves), strict=False)
    ]
    asked = [encode_document(session.challenge_request()) for session in sessions]
    challenged = await drive(child, CHALLENGE, asked, connections=connections)
    bodies = [
        encode_document(session.answer(msgspec.json.decode(reply, type=ChallengeReply)))
        for session, reply in zip(sessions, challenged.replies, strict=True)
    ]
    return challenged, sessions, bodies


def open_all(sessions: Sequence[ReleaseSession], replies: Sequence[bytes]) -> None:
    """Open every release: each must hold living keys."""
    for session, reply in zip(sessions, replies, strict=True):
        opened = session.open(msgspec.json.decode(reply, type=ReleaseReply))
        assert opened.release.epochs


async def scale_out(
    children: Sequence[Child], enclave: PlayedEnclave, count: int
) -> tuple[float, list[float]]:
    """Have `count` model servers ask for keys at once, spread over the replicas.

    Returns:
        Seconds until all have opened their keys, and milliseconds until each had.
    """
    spread: Iterator[Child] = cycle(children)
    ready_ms: list[float] = []

    async def obtain(child: Child) -> None:
        session = ReleaseSession(SERVICE, enclave)
        connection = await Connection.connect(child.port)
        ask = encode_document(session.challenge_request())
        status, reply = await connection.post(head_of(CHALLENGE, JSON, len(ask)), ask)
        assert status == 200, reply[:300]
        body = encode_document(session.answer(msgspec.json.decode(reply, type=ChallengeReply)))
        status, reply = await connection.post(head_of(RELEASE, JSON, len(body)), body)
        assert status == 200, reply[:300]
        open_all([session], [reply])
        ready_ms.append((time.perf_counter() - began) * 1e3)
        connection.close()

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(obtain(next(spread)))
    return time.perf_counter() - began, ready_ms
