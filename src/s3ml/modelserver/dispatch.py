"""From waiting to running: a few threads compute what waits, the batch that is ready first goes first.

Everything but the computation itself happens on the event loop. A queue is bounded by its model's owner, a
request by its deadline: one that could not be met is refused before it waits.
"""

import asyncio
import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from weakref import WeakKeyDictionary

from s3ml.modelserver.batching import Job, Queue, QueueFullError, lane_of
from s3ml.modelserver.computing import Buffers, Computed, compute
from s3ml.modelserver.execution import DeadlineError
from s3ml.modelserver.models import LoadedModel
from s3ml.modelserver.runtimes import Array, Arrays
from s3ml.modelserver.timing import Timing

# Who waits for less is not watched for leaving: that costs as much as a small model's inference.
NOTICEABLE_S = 0.02


class BusyError(Exception):
    """The queue is full, or so long that the request's deadline would pass.

    Args:
        retry_after_s: When a place may be free.
    """

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"retry in {retry_after_s} s")
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRun:
    """One execution of a model, for metrics.

    Args:
        model: The model.
        jobs: How many requests it computed.
        rows: How many rows they had.
        queue_s: How long its requests waited, added up.
        compute_s: How long it ran.
        failures: How many of its requests failed.
    """

    model: LoadedModel
    jobs: int
    rows: int
    queue_s: float
    compute_s: float
    failures: int


class _Line:
    """The queue of a model, and the memory for its batches."""

    __slots__ = ("buffers", "queue")

    def __init__(self, model: LoadedModel, threads: int) -> None:
        self.queue = Queue(model.batching)
        self.buffers = Buffers(threads)


@dataclass(slots=True, kw_only=True, eq=False)
class _Running:
    line: _Line
    jobs: list[Job]
    model: LoadedModel
    began_s: float


class Dispatcher:
    """Computes models on a fixed number of threads.

    Args:
        threads: How many batches may run at the same time.
        deadline_s: How long a request may take that does not say otherwise, and at most.
        monotonic_s: The clock.
        observe: Told of each execution.
        apart: Told of a model whose outputs have other rows than its inputs: it is not batched any more.
    """

    __slots__ = (
        "_apart",
        "_deadline_s",
        "_free",
        "_lines",
        "_monotonic_s",
        "_observe",
        "_running",
        "_size",
        "_timer",
        "_waiting",
        "_work",
    )

    def __init__(
        self,
        *,
        threads: int,
        deadline_s: float,
        monotonic_s: Callable[[], float],
        observe: Callable[[BatchRun], None],
        apart: Callable[[LoadedModel], None],
    ) -> None:
        self._size = self._free = threads
        # No executor: what it does for each submission costs as much as a small model's inference.
        self._work: SimpleQueue[tuple[_Running, asyncio.AbstractEventLoop] | None] = SimpleQueue()
        for number in range(threads):
            Thread(target=self._run, name=f"inference-{number}", daemon=True).start()
        self._deadline_s = deadline_s
        self._monotonic_s = monotonic_s
        self._observe = observe
        self._apart = apart
        self._lines: WeakKeyDictionary[LoadedModel, _Line] = WeakKeyDictionary()
        self._waiting: dict[LoadedModel, _Line] = {}
        self._running: set[_Running] = set()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_slow(self) -> bool:
        """Whether a request that came now would wait noticeably, or for nobody knows how long."""
        if self._free and not self._waiting:
            return False
        now_s = self._monotonic_s()
        return (
            any(not r.line.queue.batch_s or now_s - r.began_s > NOTICEABLE_S for r in self._running)
            or self._work_ahead_s() > NOTICEABLE_S * self._size
        )

    @property
    def pending(self) -> int:
        """How many requests wait for their turn."""
        return sum(len(line.queue) for line in self._waiting.values())

    async def compute(
        self,
        model: LoadedModel,
        inputs: Arrays,
        outputs: Sequence[str],
        *,
        timeout_s: float | None = None,
        timing: Timing | None = None,
    ) -> list[Array]:
        """Compute `outputs`, in their order.

        Cancelling it frees its place in the queue; what already runs, runs to its end.

        Args:
            model: Loaded, perhaps taken out again meanwhile.
            inputs: Such as the model has.
            outputs: Names of the model's outputs.
            timeout_s: How long the request's sender waits, if that is said.
            timing: Where to write down when it waited and ran; nowhere unless given.

        Raises:
            BusyError: it would have to wait for too long.
            DeadlineError: it did not finish in time.
            RuntimeRefusedError: the model cannot be evaluated on these inputs.
            MemoryError: there was too little memory.
        """
        wait_s = self._deadline_s if timeout_s is None else min(timeout_s, self._deadline_s)
        line = self._line(model)
        now_s = self._monotonic_s()
        self._check_wait(line, wait_s)
        lane, rows = lane_of(inputs) if line.queue.is_batching else (model, 1)
        loop = asyncio.get_running_loop()
        job = Job(
            inputs=inputs,
            outputs=outputs,
            lane=lane,
            rows=rows,
            arrived_s=now_s,
            deadline_s=now_s + wait_s,
            result=loop.create_future(),
            timing=timing,
        )
        if timing is not None:
            timing.queued_s, timing.rows = now_s, rows
        try:
            line.queue.add(job)
        except QueueFullError:
            raise BusyError(self._ahead_s()) from None
        self._waiting[model] = line
        self._pump()
        late = loop.call_later(wait_s, _give_up, job, wait_s)
        try:
            return await job.result
        except (DeadlineError, asyncio.CancelledError):
            self._forget(model, line, job)
            raise
        finally:
            late.cancel()

    def close(self) -> None:
        """Start nothing any more, and leave what runs to its end."""
        if self._timer is not None:
            self._timer.cancel()
        self._waiting.clear()
        for _ in range(self._size):
            self._work.put(None)

    def _line(self, model: LoadedModel) -> _Line:
        line = self._lines.get(model)
        if line is None:
            line = self._lines[model] = _Line(model, self._size)
        return line

    def _check_wait(self, line: _Line, wait_s: float) -> None:
        """Refuse what would come too late; where nothing runs, nothing is known to be slow any more."""
        if not self._running and not self._waiting:
            return
        if self._work_ahead_s() / self._size + line.queue.batch_s > wait_s:
            raise BusyError(self._ahead_s())

    def _work_ahead_s(self) -> float:
        now_s = self._monotonic_s()
        running = (max(0.0, r.line.queue.batch_s - (now_s - r.began_s)) for r in self._running)
        return sum(running) + sum(line.queue.work_s for line in self._waiting.values())

    def _ahead_s(self) -> int:
        return max(1, math.ceil(self._work_ahead_s() / self._size))

    def _forget(self, model: LoadedModel, line: _Line, job: Job) -> None:
        line.queue.discard(job)
        if not len(line.queue):
            self._waiting.pop(model, None)

    def _pump(self) -> None:
        """Start whatever is ready, as far as threads are free."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._free and self._waiting:
            model, line = min(self._waiting.items(), key=lambda item: item[1].queue.ready_at_s)
            now_s = self._monotonic_s()
            wait_s = line.queue.ready_at_s - now_s
            if wait_s > 0:
                self._timer = asyncio.get_running_loop().call_later(wait_s, self._pump)
                return
            jobs = line.queue.take()
            if not len(line.queue):
                del self._waiting[model]
            self._start(model, line, jobs, now_s)

    def _start(self, model: LoadedModel, line: _Line, jobs: list[Job], now_s: float) -> None:
        self._free -= 1
        running = _Running(line=line, jobs=jobs, model=model, began_s=now_s)
        for job in jobs:
            if job.timing is not None:
                job.timing.started_s = now_s
        self._running.add(running)
        self._work.put((running, asyncio.get_running_loop()))

    def _run(self) -> None:
        """Compute on a thread what comes, and hand it over to its loop; one that ended wants nothing more."""
        while (work := self._work.get()) is not None:
            running, loop = work
            computed = compute(running.model.runtime, running.jobs, running.line.buffers)
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._finish, running, computed)
            del work, running, computed  # While it waits for more, it keeps no model in memory.

    def _finish(self, running: _Running, computed: Computed) -> None:
        self._free += 1
        self._running.discard(running)
        compute_s = self._monotonic_s() - running.began_s
        running.line.queue.learn(compute_s)
        if computed.is_apart and running.line.queue.is_batching:
            running.line.queue.compute_alone()
            self._apart(running.model)
        for job, outcome in zip(running.jobs, computed.outcomes, strict=True):
            if job.result.done():
                continue
            if isinstance(outcome, Exception):
                job.result.set_exception(outcome)
                continue
            if job.timing is not None:
                job.timing.computed_s = running.began_s + compute_s
            job.result.set_result(outcome)
        self._pump()
        self._observe(_summary(running, computed, compute_s))


def _give_up(job: Job, wait_s: float) -> None:
    if not job.result.done():
        job.result.set_exception(DeadlineError(f"expected an end within {wait_s:.6g} s"))


def _summary(running: _Running, computed: Computed, compute_s: float) -> BatchRun:
    return BatchRun(
        model=running.model,
        jobs=len(running.jobs),
        rows=sum(job.rows for job in running.jobs),
        queue_s=sum(running.began_s - job.arrived_s for job in running.jobs),
        compute_s=compute_s,
        failures=sum(isinstance(outcome, Exception) for outcome in computed.outcomes),
    )
