"""A whole profile: which points to measure, one process after the other, and the document of all of them."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

from s3ml.apps.profiling.inputs import Feeding, Shapes, check_samples, plan_feeding, read_samples
from s3ml.apps.profiling.machine import available_cores, describe_machine, load_average
from s3ml.apps.profiling.messages import Loaded, Measure
from s3ml.apps.profiling.process import MeasurementError, MeasuringProcess
from s3ml.apps.profiling.suggesting import suggest
from s3ml.bundle import ListedFile, inspect_source
from s3ml.bundle.profile import (
    BATCH_LIMIT,
    Loading,
    MeasuredInput,
    Memory,
    Point,
    Profile,
    ProfiledModel,
    Settings,
    Skipped,
)
from s3ml.primitives.errors import ConfigurationError

LOAD_DEADLINE_S = 300.0
# A model server answers nothing that takes longer (docs/spec/model-server.md, 504).
RUN_LIMIT_S = 30.0
_REASON_LIMIT = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What somebody wants measured.

    Args:
        source: A plaintext model, as `s3ml model pack` takes it.
        max_batch: The largest batch, where the model is batched.
        threads: Numbers of threads; the powers of two up to the cores where empty.
        duration_s: Time spent on each point.
        shapes: Of inputs whose dimensions vary; whole, the first dimension included.
        samples: An ``.npz`` with rows to feed; random ones where None.
        objective_s: The p99 to stay within.
    """

    source: Path
    max_batch: int = 32
    threads: tuple[int, ...] = ()
    duration_s: float = 2.0
    shapes: Shapes = field(default_factory=lambda: MappingProxyType({}))
    samples: Path | None = None
    objective_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What is measured now: `number` of `total`; for people."""

    threads: int
    batch: int
    number: int
    total: int


def measure_profile(
    wishes: Wishes, *, progress: Callable[[Step], None], now: Callable[[], datetime]
) -> Profile:
    """Measure a model, each point in a fresh process, one after the other.

    Args:
        wishes: What to measure.
        progress: Told before each point.
        now: Aware UTC time.

    Raises:
        ConfigurationError: there is no usable model, its inputs are not settled by `wishes`, more threads
            than cores, or not one row could be computed.
    """
    load_before = load_average()
    threads = wishes.threads or doubling(available_cores())
    _check(wishes, threads)
    listed = list_files(wishes.source)
    with MeasuringProcess() as process:
        first = process.load(wishes.source, threads=threads[0], deadline_s=LOAD_DEADLINE_S)
    feeding = _settle_inputs(wishes, first)
    batches = doubling(wishes.max_batch) if feeding.is_batched else (1,)
    measured = _measure_points(wishes, feeding, threads, batches, progress)
    loading = summarise_loading(measured.loads)
    return Profile(
        version=1,
        tee="none",
        measured_at=now().replace(microsecond=0),
        machine=describe_machine(first.libraries, load_before=load_before),
        settings=Settings(
            duration_s=wishes.duration_s,
            inputs="random" if wishes.samples is None else "samples",
            p99_objective_s=wishes.objective_s,
        ),
        model=ProfiledModel(
            name=wishes.source.name or str(wishes.source.absolute().name),
            platform=first.platform,
            files=listed,
            inputs=tuple(
                MeasuredInput(name=one.name, datatype=one.datatype, shape=feeding.shapes[one.name])
                for one in first.inputs
            ),
            is_batched=feeding.is_batched,
        ),
        loading=loading,
        points=measured.points,
        skipped=measured.skipped,
        suggestion=suggest(
            measured.points,
            process_bytes=loading.process.resident_bytes,
            objective_s=wishes.objective_s,
        ),
    )


def doubling(limit: int) -> tuple[int, ...]:
    """Return 1, 2, 4 and so on up to `limit`, and `limit` itself."""
    powers = [1 << exponent for exponent in range(limit.bit_length())]
    return tuple(sorted({*powers, limit}))


def list_files(source: Path) -> tuple[ListedFile, ...]:
    """Return the files of a model with their digests.

    Raises:
        ConfigurationError: there is no model, or it cannot be read.
    """
    return tuple(
        ListedFile(name=file.name, size_bytes=file.size_bytes, sha256=file.sha256(lambda _: None))
        for file in inspect_source(source).files
    )


def summarise_loading(loads: Sequence[Loaded]) -> Loading:
    """Return the medians of what opening the model cost in each process."""

    def median(values: Sequence[int]) -> int:
        return int(statistics.median_low(values))

    return Loading(
        process=Memory(
            resident_bytes=median([one.process.resident_bytes for one in loads]),
            anonymous_bytes=median([one.process.anonymous_bytes for one in loads]),
        ),
        model=Memory(
            resident_bytes=median([one.model.resident_bytes for one in loads]),
            anonymous_bytes=median([one.model.anonymous_bytes for one in loads]),
        ),
        peak_bytes=median([one.peak_bytes for one in loads]),
        duration_s=statistics.median([one.duration_s for one in loads]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    points: tuple[Point, ...]
    skipped: tuple[Skipped, ...]
    loads: tuple[Loaded, ...]


def _measure_points(
    wishes: Wishes,
    feeding: Feeding,
    threads: tuple[int, ...],
    batches: tuple[int, ...],
    progress: Callable[[Step], None],
) -> _Measured:
    points: list[Point] = []
    skipped: list[Skipped] = []
    loads: list[Loaded] = []
    for row, count in enumerate(threads):
        for column, batch in enumerate(batches):
            number = row * len(batches) + column + 1
            progress(Step(threads=count, batch=batch, number=number, total=len(threads) * len(batches)))
            try:
                loaded, point = _measure_point(wishes, feeding, threads=count, batch=batch)
            except MeasurementError as error:
                if not points:
                    raise
                reason = str(error)[:_REASON_LIMIT]
                skipped.append(Skipped(threads=count, batch=batch, reason=reason))
                break
            points.append(point)
            loads.append(loaded)
            if point.p50_s * 2 > RUN_LIMIT_S and batch != batches[-1]:
                reason = f"a run of twice the size would take longer than {RUN_LIMIT_S:.0f} s"
                skipped.append(Skipped(threads=count, batch=batches[column + 1], reason=reason))
                break
    return _Measured(points=tuple(points), skipped=tuple(skipped), loads=tuple(loads))


def _measure_point(wishes: Wishes, feeding: Feeding, *, threads: int, batch: int) -> tuple[Loaded, Point]:
    question = Measure(
        batch=batch,
        duration_s=wishes.duration_s,
        shapes=dict(feeding.shapes),
        is_batched=feeding.is_batched,
        samples=None if wishes.samples is None else str(wishes.samples.absolute()),
    )
    with MeasuringProcess() as process:
        loaded = process.load(wishes.source, threads=threads, deadline_s=LOAD_DEADLINE_S)
        deadline_s = 10 * RUN_LIMIT_S + 10 * wishes.duration_s
        return loaded, process.measure(question, deadline_s=deadline_s).point


def _settle_inputs(wishes: Wishes, loaded: Loaded) -> Feeding:
    """Return the inputs at batch 1; where no batches are wanted, random ones have the whole given shape."""
    shapes = wishes.shapes
    if wishes.samples is not None:
        if shapes:
            raise ConfigurationError("inputs: expected --shape or --samples, got both")
        shapes = check_samples(read_samples(wishes.samples), loaded.inputs)
    feeding = plan_feeding(loaded.inputs, shapes, is_batchable=loaded.is_batchable)
    if not feeding.is_batched:
        return feeding
    if wishes.max_batch == 1 and wishes.samples is None:
        return Feeding(shapes=feeding.shapes, is_batched=False)
    rows = {name: (1, *shape[1:]) for name, shape in feeding.shapes.items()}
    return Feeding(shapes=MappingProxyType(rows), is_batched=True)


def _check(wishes: Wishes, threads: tuple[int, ...]) -> None:
    if not 1 <= wishes.max_batch <= BATCH_LIMIT:
        raise ConfigurationError(f"--max-batch: expected 1 to {BATCH_LIMIT}, got {wishes.max_batch}")
    cores = available_cores()
    if list(threads) != sorted(set(threads)) or not 1 <= threads[0] <= threads[-1] <= cores:
        told = ",".join(map(str, threads))
        raise ConfigurationError(f"--threads: expected 1 to {cores} (the cores here), rising, got {told}")
