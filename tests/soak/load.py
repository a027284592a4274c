"""Requests of every kind, and what became of each: right, wrong, failed, or cancelled by who asked."""

import asyncio
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from s3ml.client import AsyncClient, Client
from s3ml.primitives.errors import S3MLError
from s3ml.wire.oip import (
    HEADER_LENGTH_FIELD,
    InferRequest,
    Tensor,
    decode_infer_response,
    encode_infer_request,
    infer_path,
    parse_header_length,
)
from tests.soak.models import FEATURES, Arrays
from tests.soak.world import ALONE, BATCHED, SERVICE, SPARE, World

ROWS = (1, 1, 1, 2, 4, 8)
WAYS = ("async", "async", "json", "versioned")
CANCELLED_SHARE = 0.05
DEADLINE_S = 120.0
THINKING_S = 0.02
Answered = tuple[str | None, Arrays]


@dataclass(slots=True)
class Tally:
    """What became of the requests.

    Args:
        began_s: When it began, monotonic.
        counts: By way and outcome.
        latencies: Of right answers: when they came, and how long they took, in seconds.
        faults: What was wrong or failed, and when.
    """

    began_s: float = field(default_factory=time.monotonic)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    latencies: list[tuple[float, float]] = field(default_factory=list)
    faults: list[tuple[float, str]] = field(default_factory=list)

    def count(self, way: str, outcome: str, reason: str = "", *, since_s: float = 0.0) -> None:
        """Count one."""
        now_s = time.monotonic()
        self.counts[way, outcome] += 1
        if outcome == "right":
            self.latencies.append((now_s - self.began_s, now_s - since_s))
        elif reason:
            self.faults.append((now_s - self.began_s, f"{way}: {outcome}: {reason}"))

    def total(self, outcome: str) -> int:
        """Return how many came to that."""
        return sum(number for (_, one), number in self.counts.items() if one == outcome)


class Load:
    """Asks one world, in several ways at a time, until told that it is over.

    Args:
        world: Asked.
        tally: Filled in.
    """

    def __init__(self, world: World, tally: Tally) -> None:
        self._world, self._tally = world, tally
        self.is_over = threading.Event()
        self.versions = {ALONE: "1", BATCHED: "1", SPARE: "1"}
        self._possible: dict[str, list[str]] = {name: ["1"] for name in self.versions}
        self._under_way: set[object] = set()

    def admit(self, name: str, version: str) -> None:
        """Say that answers may come from a version, from now on."""
        self._possible[name] = [*self._possible[name], version][-2:]

    async def until_answered(self) -> None:
        """Wait until every request that is under way now has ended."""
        asked = set(self._under_way)
        while asked & self._under_way:  # noqa: ASYNC110 - a thread ends some of them
            await asyncio.sleep(0.05)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Count a request as under way, as long as the block."""
        one = object()
        self._under_way.add(one)
        try:
            yield
        finally:
            self._under_way.discard(one)

    async def run(self, workers: int = 3) -> None:
        """Ask until it is over; one thread asks beside the workers, blocking."""
        gateway, trust = self._world.cluster.endpoints.gateway, self._world.owners.trust_path
        async with AsyncClient(gateway, trust=trust, credentials=self._world.caller) as client:
            blocking = asyncio.create_task(asyncio.to_thread(self._block, gateway))
            async with asyncio.TaskGroup() as group:
                for number in range(workers):
                    group.create_task(self._work(client, random.Random(number)))  # noqa: S311 - a load that can be had again
            await blocking

    async def _work(self, client: AsyncClient, draw: random.Random) -> None:
        while not self.is_over.is_set():
            way, name, inputs = draw.choice(WAYS), draw.choice(tuple(self.versions)), _inputs(draw)
            with self._asking():
                if draw.random() < CANCELLED_SHARE:
                    await self._cancel(client, name, inputs, draw.uniform(0.0, 0.01))
                else:
                    await self._ask(client, way, name, inputs)
            await asyncio.sleep(draw.expovariate(1 / THINKING_S))

    async def _cancel(self, client: AsyncClient, name: str, inputs: Arrays, after_s: float) -> None:
        asking = asyncio.ensure_future(client.infer(SERVICE, dict(inputs), model=name, timeout_s=DEADLINE_S))
        await asyncio.wait({asking}, timeout=after_s)
        asking.cancel()
        (outcome,) = await asyncio.gather(asking, return_exceptions=True)
        is_cancelled = isinstance(outcome, asyncio.CancelledError)
        self._tally.count("cancel", "cancelled" if is_cancelled else "ended before")

    async def _ask(self, client: AsyncClient, way: str, name: str, inputs: Arrays) -> None:
        version = self.versions[name] if way == "versioned" else None
        since_s = time.monotonic()
        try:
            if way == "json":
                answer = await _ask_json(client, name, inputs)
            else:
                answer = await client.infer(
                    SERVICE, dict(inputs), model=name, version=version, timeout_s=DEADLINE_S
                )
        except S3MLError as error:
            self._tally.count(way, "failed", f"{name} {version or ''}: {error}")
        else:
            self._judge(way, name, version, inputs, answer, since_s)

    def _block(self, gateway: str) -> None:
        draw = random.Random("blocking")  # noqa: S311 - as above
        trust = self._world.owners.trust_path
        with Client(gateway, trust=trust, credentials=self._world.caller) as client:
            while not self.is_over.wait(draw.expovariate(1 / THINKING_S)):
                with self._asking():
                    self._ask_blocking(client, draw.choice(tuple(self.versions)), _inputs(draw))

    def _ask_blocking(self, client: Client, name: str, inputs: Arrays) -> None:
        since_s = time.monotonic()
        try:
            answer = client.infer(SERVICE, dict(inputs), model=name, timeout_s=DEADLINE_S)
        except S3MLError as error:
            self._tally.count("blocking", "failed", f"{name}: {error}")
        else:
            self._judge("blocking", name, None, inputs, answer, since_s)

    def _judge(  # noqa: PLR0917 - one question and its answer
        self, way: str, name: str, version: str | None, inputs: Arrays, answer: Arrays, since_s: float
    ) -> None:
        """Hold an answer against the plaintext runtime's, of its version or of one that may have answered."""
        versions = self._possible[name] if version is None else [version]
        oracles = [self._world.oracles.get((name, one)) for one in reversed(versions)]
        if any(oracle is not None and oracle.is_right(inputs, answer) for oracle in oracles):
            self._tally.count(way, "right", since_s=since_s)
        else:
            self._tally.count(way, "wrong", f"{name} of versions {versions}")


async def _ask_json(client: AsyncClient, name: str, inputs: Arrays) -> Arrays:
    tensors = tuple(Tensor.from_array(key, array) for key, array in inputs.items())
    content, fields = encode_infer_request(InferRequest(model=name, inputs=tensors), binary=False)
    answer = await client.forward(
        SERVICE,
        method="POST",
        path=infer_path(name),
        fields=fields,
        content=content,
        timeout_s=DEADLINE_S,
    )
    if answer.status != 200:
        raise S3MLError(f"status {answer.status}: {bytes(answer.content[:200])!r}")
    length = parse_header_length(answer.field(HEADER_LENGTH_FIELD))
    return {one.name: one.array for one in decode_infer_response(answer.content, length).outputs}


def _inputs(draw: random.Random) -> Arrays:
    rows = np.random.default_rng(draw.getrandbits(32)).standard_normal((draw.choice(ROWS), FEATURES))
    return {"x": rows.astype(np.float32)}
