"""Computing a batch: rows laid one after the other, and the results cut apart again; blocking.

One request that a model cannot evaluate spoils no other: a batch that fails is computed again, each of its
jobs alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock

import numpy as np

from s3ml.modelserver.batching import Job
from s3ml.modelserver.runtimes import Array, Arrays, Runtime

# As many shapes as are kept in memory at a time; others get memory of their own for each batch.
SHAPES_KEPT = 4

Outcome = list[Array] | Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """What became of each job of a batch, in their order.

    Args:
        outcomes: The outputs that the job asked for, or why there are none.
        is_apart: Whether the model's outputs did not have a row for each of its inputs' rows, so that the
            jobs had to be computed each alone.
    """

    outcomes: list[Outcome] = field(repr=False)
    is_apart: bool = False


class Buffers:
    """Memory for batches, used again: pages that are touched once stay few.

    Args:
        per_shape: How many batches run at the same time.
    """

    __slots__ = ("_free", "_lock", "_per_shape")

    def __init__(self, per_shape: int) -> None:
        self._per_shape = per_shape
        self._free: dict[tuple[object, ...], list[Array]] = {}
        self._lock = Lock()

    def take(self, rows: int, like: Array) -> Array:
        """Return memory for `rows` rows of the datatype and shape of those of `like`."""
        with self._lock:
            kept = self._free.get((like.dtype, like.shape[1:]), [])
            for position, array in enumerate(kept):
                if len(array) >= rows:
                    return kept.pop(position)
        return np.empty((rows, *like.shape[1:]), like.dtype)

    def give(self, array: Array) -> None:
        """Take memory back; what there is no place for is let go."""
        key = (array.dtype, array.shape[1:])
        with self._lock:
            if key not in self._free and len(self._free) >= SHAPES_KEPT:
                del self._free[next(iter(self._free))]
            kept = self._free.setdefault(key, [])
            kept.append(array)
            kept.sort(key=len, reverse=True)
            del kept[self._per_shape :]


def compute(runtime: Runtime, jobs: Sequence[Job], buffers: Buffers) -> Computed:
    """Compute jobs of one lane.

    Args:
        runtime: Of their model.
        jobs: At least one.
        buffers: Of their model.
    """
    if len(jobs) == 1:
        return Computed(outcomes=[_compute_alone(runtime, jobs[0])])
    try:
        outcomes = _compute_together(runtime, jobs, buffers)
    except Exception:  # noqa: BLE001 - each job gets its own error below
        return Computed(outcomes=[_compute_alone(runtime, job) for job in jobs])
    if outcomes is None:
        return Computed(outcomes=[_compute_alone(runtime, job) for job in jobs], is_apart=True)
    return Computed(outcomes=outcomes)


def _compute_alone(runtime: Runtime, job: Job) -> Outcome:
    try:
        return runtime.run(job.inputs, job.outputs)
    except Exception as error:  # noqa: BLE001 - it is raised where the result is awaited
        return error


def _compute_together(runtime: Runtime, jobs: Sequence[Job], buffers: Buffers) -> list[Outcome] | None:
    """Return each job's outputs, or None where the outputs' rows are not the inputs'."""
    rows = sum(job.rows for job in jobs)
    names = [spec.name for spec in runtime.outputs if any(spec.name in job.outputs for job in jobs)]
    inputs, taken = _lay(jobs, rows, buffers)
    try:
        results = runtime.run(inputs, names)
        # A runtime may hand an input on as an output; it must not change under whoever encodes it.
        results = [
            result.copy() if any(np.may_share_memory(result, used) for used in taken) else result
            for result in results
        ]
    finally:
        for array in taken:
            buffers.give(array)
    if any(result.shape[:1] != (rows,) for result in results):
        return None
    by_name = dict(zip(names, results, strict=True))
    outcomes: list[Outcome] = []
    start = 0
    for job in jobs:
        outcomes.append([by_name[name][start : start + job.rows] for name in job.outputs])
        start += job.rows
    return outcomes


def _lay(jobs: Sequence[Job], rows: int, buffers: Buffers) -> tuple[Arrays, list[Array]]:
    """Lay the jobs' rows one after the other; return the inputs, and the memory to give back."""
    inputs: dict[str, Array] = {}
    taken: list[Array] = []
    for name, first in jobs[0].inputs.items():
        arrays = [job.inputs[name] for job in jobs]
        if first.dtype == np.object_:
            inputs[name] = np.concatenate(arrays)
            continue
        whole = buffers.take(rows, first)
        taken.append(whole)
        inputs[name] = np.concatenate(arrays, out=whole[:rows])
    return inputs, taken
