"""An open loop: each request is sent when it is meant to be, whatever became of those before it.

Latency counts from the intended instant, so that a server that stalls is charged for every request that came
meanwhile. No answer is waited for before the next request; what was not answered in the end is counted so.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

# More at a time than any server here can hold; the ones above are counted as unanswered, never put off.
MOST_IN_FLIGHT = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What became of one request.

    Args:
        intended_s: When it was meant to be sent, from the beginning of the run.
        sent_s: When it was.
        ended_s: When its answer was complete; None if none came, or an error.
        server: Who answered, where that is known.
        failure: Why there is no answer, in a word or two.
    """

    intended_s: float
    sent_s: float
    ended_s: float | None = None
    server: str = ""
    failure: str = ""

    @property
    def latency_s(self) -> float | None:
        """From the intended instant to the answer."""
        return None if self.ended_s is None else self.ended_s - self.intended_s


Send = Callable[[int], Awaitable[str]]
"""Sends the request of a number and returns who answered; raises OSError or TimeoutError if nobody did."""


async def run(times_s: Sequence[float], send: Send, *, grace_s: float) -> list[Sent]:
    """Send a request at each of `times_s`; return what became of each, in that order.

    Args:
        times_s: From now on, rising.
        send: Sends one request.
        grace_s: How long answers are waited for after the last instant.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    found: dict[int, Sent] = {}
    waiting: set[asyncio.Task[None]] = set()

    async def one(number: int, intended_s: float) -> None:
        sent_s = loop.time() - began
        try:
            server = await send(number)
        except (OSError, TimeoutError) as error:
            failed = Sent(intended_s=intended_s, sent_s=sent_s, failure=type(error).__name__)
            found[number] = failed
            return
        ended_s = loop.time() - began
        found[number] = Sent(intended_s=intended_s, sent_s=sent_s, ended_s=ended_s, server=server)

    async with asyncio.TaskGroup() as group:
        for number, intended_s in enumerate(times_s):
            await _sleep_until(began + intended_s, loop)
            if len(waiting) < MOST_IN_FLIGHT:
                task = group.create_task(one(number, intended_s))
                waiting.add(task)
                task.add_done_callback(waiting.discard)
        if waiting:
            await asyncio.wait(waiting, timeout=grace_s)
        for task in tuple(waiting):
            task.cancel()
    return [
        found.get(number) or Sent(intended_s=intended_s, sent_s=intended_s, failure="no answer")
        for number, intended_s in enumerate(times_s)
    ]


async def _sleep_until(instant: float, loop: asyncio.AbstractEventLoop) -> None:
    """Sleep; one that is late already does not even yield, so that being late never puts off the next."""
    remaining = instant - loop.time()
    if remaining > 0:
        await asyncio.sleep(remaining)
