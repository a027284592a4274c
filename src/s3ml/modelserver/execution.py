"""Where inference happens: a bounded pool of threads, never the event loop."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class DeadlineError(Exception):
    """A computation did not finish in time; where it had begun, its thread is busy until it ends."""


class InferencePool:
    """Runs blocking computations on a fixed number of threads.

    The queue is bounded by admission: nothing gets here that holds no reservation.

    Args:
        threads: How many computations may run at the same time.
        deadline_s: How long one may take, waiting included.
    """

    __slots__ = ("_deadline_s", "_threads")

    def __init__(self, *, threads: int, deadline_s: float) -> None:
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="inference")
        self._deadline_s = deadline_s

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` on a thread of the pool.

        Raises:
            DeadlineError: it did not finish in time.
        """
        future = self._threads.submit(function, *args, **kwargs)
        try:
            async with asyncio.timeout(self._deadline_s):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise DeadlineError(f"expected an end within {self._deadline_s:g} s") from None

    def close(self) -> None:
        """Drop what waits, and leave what runs to its end."""
        self._threads.shutdown(wait=False, cancel_futures=True)
