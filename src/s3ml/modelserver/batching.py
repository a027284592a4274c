"""Which waiting jobs of one model are computed together, and when.

Jobs wait in lanes: those of a lane have inputs of the same datatypes and shapes but for the first dimension,
so that they can be laid one after the other. A lane is ready when it is full, when its oldest job has waited
long enough, or when waiting longer would miss a deadline. Pure: the present is passed in.
"""

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import msgspec

from s3ml.bundle import Batching
from s3ml.modelserver.runtimes import Array, Arrays, TensorSpec
from s3ml.modelserver.timing import Timing
from s3ml.primitives.units import US_PER_S

# How much the newest measurement counts.
_NEWEST_WEIGHT = 0.2
# Without batching a job waits for nobody, and the queue is as long as one with it would be by default.
_ALONE = Batching(max_size=1)


class QueueFullError(Exception):
    """A model's queue has no place left."""


@dataclass(slots=True, kw_only=True, eq=False)
class Job:
    """One inference that waits or runs.

    Args:
        inputs: What the model is given, checked.
        outputs: The names of what is asked for.
        lane: Jobs of equal lanes may be computed together.
        rows: How much of a batch it takes: its first dimension, at least 1.
        arrived_s: Monotonic.
        deadline_s: Monotonic; after it nobody waits for the result.
        result: Where the outputs go.
        timing: Where it is written down when it waited and ran.
    """

    inputs: Arrays = field(repr=False)
    outputs: Sequence[str]
    lane: Hashable
    rows: int
    arrived_s: float
    deadline_s: float
    result: "asyncio.Future[list[Array]]" = field(repr=False)
    timing: Timing | None = None


def is_batchable(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> bool:
    """Tell whether a model's rows may be laid one after the other: all its first dimensions vary."""
    return all(spec.shape[:1] == (-1,) for spec in (*inputs, *outputs))


def lane_of(inputs: Arrays) -> tuple[Hashable, int]:
    """Return the lane of a job with `inputs`, and its rows; a lane of its own where they differ in length."""
    lengths = {array.shape[0] if array.ndim else None for array in inputs.values()}
    length = lengths.pop() if len(lengths) == 1 else None
    if not length:
        return object(), 1
    return tuple((name, array.dtype.str, array.shape[1:]) for name, array in inputs.items()), length


class Queue:
    """The waiting jobs of one model.

    Args:
        batching: What the model's owner allows; None computes each job alone.
    """

    __slots__ = ("_delay_s", "_lanes", "_length", "_limits", "batch_s")

    def __init__(self, batching: Batching | None) -> None:
        self._limits = batching or _ALONE
        self._delay_s = self._limits.max_delay_us / US_PER_S
        self._lanes: OrderedDict[Hashable, deque[Job]] = OrderedDict()
        self._length = 0
        self.batch_s = 0.0

    def __len__(self) -> int:
        return self._length

    @property
    def is_batching(self) -> bool:
        """Whether jobs may be computed together."""
        return self._limits.max_size > 1

    @property
    def work_s(self) -> float:
        """About how long one thread would take for everything that waits."""
        size = self._limits.max_size
        batches = sum(math.ceil(sum(job.rows for job in lane) / size) for lane in self._lanes.values())
        return batches * self.batch_s

    def compute_alone(self) -> None:
        """Compute no jobs together any more."""
        self._limits = msgspec.structs.replace(self._limits, max_size=1)

    def learn(self, compute_s: float) -> None:
        """Take a batch's time into the estimate of the next one's."""
        weight = _NEWEST_WEIGHT if self.batch_s else 1.0
        self.batch_s += weight * (compute_s - self.batch_s)

    def add(self, job: Job) -> None:
        """Let a job wait.

        Raises:
            QueueFullError: as many wait as the model's owner allows.
        """
        if self._length >= self._limits.max_queue:
            raise QueueFullError
        self._lanes.setdefault(job.lane, deque()).append(job)
        self._length += 1

    def discard(self, job: Job) -> None:
        """Free the place of a job that nobody waits for any more; one that left already is no matter."""
        lane = self._lanes.get(job.lane)
        if lane is not None and job in lane:
            lane.remove(job)
            self._length -= 1
            if not lane:
                del self._lanes[job.lane]

    @property
    def ready_at_s(self) -> float:
        """When the next batch should go; infinite where nothing waits."""
        return min(map(self._lane_ready_at_s, self._lanes.values()), default=math.inf)

    def take(self) -> list[Job]:
        """Return the jobs of the lane that is ready first, at most a batch of them; one must wait."""
        key, lane = min(self._lanes.items(), key=lambda item: self._lane_ready_at_s(item[1]))
        taken = [lane.popleft()]
        rows = taken[0].rows
        while lane and rows + lane[0].rows <= self._limits.max_size:
            rows += lane[0].rows
            taken.append(lane.popleft())
        self._length -= len(taken)
        if not lane:
            del self._lanes[key]
        return taken

    def _lane_ready_at_s(self, lane: deque[Job]) -> float:
        arrived_s = lane[0].arrived_s
        if not self._delay_s or sum(job.rows for job in lane) >= self._limits.max_size:
            return arrived_s
        latest_s = min(job.deadline_s for job in lane) - self.batch_s
        return max(arrived_s, min(arrived_s + self._delay_s, latest_s))
