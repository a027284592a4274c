"""Blocking work that is no inference: bulk coding and sealing on one thread, slow peers on others."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Thread
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class DeadlineError(Exception):
    """A computation did not finish in time; where it had begun, its thread is busy until it ends."""


class BulkWorker:
    """Runs what goes through many bytes on one thread, so that neither the loop nor inference waits for it.

    The queue is bounded by admission: nothing gets here that holds no reservation.

    Args:
        deadline_s: How long one piece of work may take, waiting included.
    """

    __slots__ = ("_deadline_s", "_thread")

    def __init__(self, *, deadline_s: float) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="bulk")
        self._deadline_s = deadline_s

    async def run(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` on the thread.

        Raises:
            DeadlineError: it did not finish in time.
        """
        future = self._thread.submit(function, *args, **kwargs)
        try:
            async with asyncio.timeout(self._deadline_s):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise DeadlineError(f"expected an end within {self._deadline_s:g} s") from None

    def close(self) -> None:
        """Drop what waits, and leave what runs to its end."""
        self._thread.shutdown(wait=False, cancel_futures=True)


async def run_detached(function: Callable[[], T]) -> T:
    """Run `function` on a thread that a cancelled caller, and the end of the process, leave behind.

    For calls to a peer that may be slow to fail: an orderly end does not wait for them.
    """
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()

    def work() -> None:
        try:
            outcome.set_result(function())
        except BaseException as error:  # noqa: BLE001 - it is raised where the result is awaited
            outcome.set_exception(error)

    Thread(target=work, name="detached", daemon=True).start()
    return await asyncio.wrap_future(outcome)
