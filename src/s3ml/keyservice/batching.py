"""Gather what arrives within a short window and answer it as one.

Quoting takes milliseconds on hardware and serialises; a batch shares one quote.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from s3ml.keyservice.errors import BusyError
from s3ml.primitives.errors import S3MLError, UnavailableError

_Q = TypeVar("_Q")
_A = TypeVar("_A")


class Batcher(Generic[_Q, _A]):
    """Answer questions in batches; `run` does the work in a task of the caller's.

    Args:
        answer: Answers a batch, one answer or error for each question, in order.
        window_s: How long the first question of a batch waits for others, in seconds.
        max_batch: The most questions that one batch answers.
        max_waiting: The most questions that wait at once.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[_Q]], Awaitable[Sequence[_A | S3MLError]]],
        *,
        window_s: float,
        max_batch: int,
        max_waiting: int,
    ) -> None:
        self._answer = answer
        self._window_s = window_s
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._waiting: deque[tuple[_Q, asyncio.Future[_A]]] = deque()
        self._arrived = asyncio.Event()

    async def ask(self, question: _Q) -> _A:
        """Return the answer to `question`.

        Raises:
            BusyError: too many questions wait already.
            S3MLError: what the batch answers to this question.
        """
        if len(self._waiting) >= self._max_waiting:
            raise BusyError("key service: too many requests wait", retry_after_s=1.0)
        future: asyncio.Future[_A] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, future))
        self._arrived.set()
        return await future

    async def run(self) -> None:
        """Answer batches until cancelled; whoever waits then is told to come again."""
        try:
            while True:
                await self._arrived.wait()
                await asyncio.sleep(self._window_s)
                await self._answer_batch()
        finally:
            self._fail(self._waiting, UnavailableError("key service: is stopping"))

    async def _answer_batch(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(self._max_batch, len(self._waiting)))]
        if not self._waiting:
            self._arrived.clear()
        try:
            answers = await self._answer([question for question, _ in batch])
        except S3MLError as error:
            self._fail(batch, error)
            return
        except asyncio.CancelledError:
            self._fail(batch, UnavailableError("key service: is stopping"))
            raise
        except Exception as error:  # noqa: BLE001 - one batch fails, the next is tried
            self._fail(batch, UnavailableError(f"key service: could not answer: {type(error).__name__}"))
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, S3MLError):
                future.set_exception(answer)
            else:
                future.set_result(answer)

    @staticmethod
    def _fail(batch: Sequence[tuple[_Q, asyncio.Future[_A]]], error: S3MLError) -> None:
        for _, future in batch:
            if not future.done():
                future.set_exception(error)
