"""Requests that keep flowing while things break, and what became of each."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from s3ml.client import AsyncClient
from s3ml.primitives.errors import S3MLError

Answer = tuple[NDArray[np.int64], NDArray[np.float32]]


UNDER_WAY_AFTER = 50


@dataclass(slots=True)
class Outcomes:
    """What became of the requests so far; `under_way` is set after the first fifty."""

    latencies_s: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    agreeing: int = 0
    under_way: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def requests(self) -> int:
        """How many requests have ended."""
        return len(self.latencies_s) + len(self.failures)


async def flow(
    client: AsyncClient,
    *,
    service: str,
    rows: NDArray[np.float32],
    expected: Answer,
    is_over: Callable[[], bool],
    outcomes: Outcomes,
    concurrency: int = 4,
) -> None:
    """Send one held-out row after another, `concurrency` at a time, until `is_over`.

    Args:
        client: A client that trusts the service already.
        service: Its name.
        rows: Inputs, shape (n, features).
        expected: The plaintext model's labels (n,) and probabilities (n, classes) for `rows`.
        is_over: Asked before each request.
        outcomes: Filled in as requests end.
        concurrency: Requests in flight.
    """

    async def worker(start: int) -> None:
        index = start
        while not is_over():
            row = index % len(rows)
            index += concurrency
            began = time.perf_counter()
            try:
                answer = await client.infer(service, {"x": rows[row : row + 1]})
            except S3MLError as error:
                outcomes.failures.append(str(error))
                continue
            outcomes.latencies_s.append(time.perf_counter() - began)
            outcomes.agreeing += is_same(answer, expected, row)
            if outcomes.requests >= UNDER_WAY_AFTER:
                outcomes.under_way.set()

    async with asyncio.TaskGroup() as group:
        for start in range(concurrency):
            group.create_task(worker(start))


def is_same(answer: Mapping[str, NDArray[np.generic]], expected: Answer, row: int) -> bool:
    """Tell whether `answer` is the plaintext model's for `row`, to the bit."""
    labels, probabilities = expected
    return bool(
        np.array_equal(answer["label"], labels[row : row + 1])
        and np.array_equal(answer["probabilities"], probabilities[row : row + 1])
    )
