"""Many inferences at once on one event loop.

Tasks are begun and awaited here by hand: a task group cannot be left through the `yield` of a generator whose
caller may walk away, perhaps in another task.

Source: docs/adr/0021-iterators-of-results.md; PEP 789.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import replace

from s3ml.client.inputs import Inputs
from s3ml.client.many import report
from s3ml.client.results import InferFailure, InferResult
from s3ml.client.windows import Outcome, Window
from s3ml.primitives.errors import S3MLError


async def infer_each_awaited(
    call: Callable[[Inputs], Awaitable[InferResult]],
    inputs: Iterable[Inputs] | AsyncIterable[Inputs],
    window: Window,
    on_failure: Callable[[InferFailure], None] | None,
) -> AsyncGenerator[InferResult, None]:
    """Iterate the results of `inputs`; see `AsyncClient.infer_many`.

    Args:
        call: Runs one inference.
        inputs: Read while there is room; one that is awaited holds up no result.
        window: What may be under way.
        on_failure: What failures are handed to; they are raised without it.
    """
    source = aiter(inputs) if isinstance(inputs, AsyncIterable) else _read(inputs)
    reading: asyncio.Task[Inputs | None] | None = None
    calls: set[asyncio.Task[Outcome]] = set()
    is_open = True
    try:
        while True:
            if is_open and reading is None and window.may_begin:
                reading = asyncio.create_task(_next(source))
            outcome = window.take()
            if isinstance(outcome, InferResult):
                yield outcome
                continue
            if outcome is not None:
                report(outcome, on_failure)
                continue
            if reading is None and window.is_idle:
                return
            pending = calls if reading is None else {*calls, reading}
            await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            if reading is not None and reading.done():
                item, reading = reading.result(), None
                is_open = item is not None
                if item is not None:
                    calls.add(asyncio.create_task(_outcome(call, window.begin(), item)))
            for ended in [task for task in calls if task.done()]:
                calls.discard(ended)
                window.finish(ended.result())
    finally:
        left = calls if reading is None else {*calls, reading}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def _outcome(call: Callable[[Inputs], Awaitable[InferResult]], index: int, item: Inputs) -> Outcome:
    try:
        return replace(await call(item), index=index)
    except S3MLError as error:
        return InferFailure(index=index, error=error)


async def _next(source: AsyncIterator[Inputs]) -> Inputs | None:
    return await anext(source, None)


async def _read(inputs: Iterable[Inputs]) -> AsyncIterator[Inputs]:
    for item in inputs:
        yield item
