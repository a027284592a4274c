"""Many inferences at once on threads; the caller's own thread reads the inputs and gets the results.

Source: docs/adr/0021-iterators-of-results.md.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from queue import SimpleQueue

from s3ml.client.inputs import Inputs
from s3ml.client.results import InferFailure, InferResult
from s3ml.client.windows import Outcome, Window
from s3ml.primitives.errors import S3MLError

DEFAULT_CONCURRENCY = 8
Call = Callable[[Inputs, threading.Event], InferResult]


class StoppedError(Exception):
    """A call ended between two steps, because nobody waits for it any more."""


def infer_each(
    call: Call,
    inputs: Iterable[Inputs],
    window: Window,
    concurrency: int,
    on_failure: Callable[[InferFailure], None] | None,
) -> Iterator[InferResult]:
    """Iterate the results of `inputs`; see `Client.infer_many`.

    Args:
        call: Runs one inference; raises `StoppedError` soon after its event is set.
        inputs: Read in the thread of the caller.
        window: Of `concurrency`.
        concurrency: How many threads there are.
        on_failure: What failures are handed to; they are raised without it.
    """
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - for those alone who ask for it

    ended: SimpleQueue[Outcome | BaseException] = SimpleQueue()
    stop = threading.Event()

    def work(index: int, item: Inputs) -> None:
        try:
            ended.put(replace(call(item, stop), index=index))
        except S3MLError as error:
            ended.put(InferFailure(index=index, error=error))
        except BaseException as error:  # noqa: BLE001 - it is raised where somebody sees it
            ended.put(error)

    threads = ThreadPoolExecutor(concurrency, thread_name_prefix="s3ml-infer")
    source, is_open = iter(inputs), True
    try:
        while True:
            while is_open and window.may_begin:
                item = next(source, None)
                is_open = item is not None
                if item is not None:
                    threads.submit(work, window.begin(), item)
            outcome = window.take()
            if outcome is None:
                if window.is_idle:
                    return
                window.finish(_checked(ended.get()))
            elif isinstance(outcome, InferResult):
                yield outcome
            else:
                report(outcome, on_failure)
    finally:
        stop.set()
        threads.shutdown(wait=True, cancel_futures=True)


def report(failure: InferFailure, on_failure: Callable[[InferFailure], None] | None) -> None:
    """Hand a failure to whoever wants it, or raise it with a note that says which input it was."""
    if on_failure is not None:
        on_failure(failure)
        return
    failure.error.add_note(f"infer_many: input {failure.index}, counted from 0")
    raise failure.error


def _checked(ended: Outcome | BaseException) -> Outcome:
    if isinstance(ended, BaseException):
        raise ended
    return ended
