"""The process that makes one measurement: a fresh one each, so that its memory tells of one setting alone.

It opens the model with the model server's own runtime, from bytes in memory as a bundle would give them, and
speaks `messages` over its standard input and output. It dies with the process that started it.

Usage: ``python -m s3ml.apps.profiling.child PARENT_PID``.
"""

import ctypes
import hashlib
import importlib
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO

import msgspec

from s3ml.apps.profiling.inputs import Feeding, make_feeds, read_samples
from s3ml.apps.profiling.memory import (
    disable_huge_pages,
    forget_peak,
    read_memory,
    read_peak_bytes,
    touched_bytes,
)
from s3ml.apps.profiling.messages import (
    DURATIONS_LIMIT,
    LINE_LIMIT_BYTES,
    Answer,
    Declared,
    Failed,
    Load,
    Loaded,
    Measure,
    Measured,
    Repeat,
    Repeated,
    encode_line,
    parse_question,
)
from s3ml.apps.profiling.timing import time_runs, warm_up
from s3ml.bundle import ListedFile, ModelConfig, ModelFiles, Resources, Source, inspect_source
from s3ml.bundle.profile import Library, Point
from s3ml.modelserver.batching import is_batchable
from s3ml.modelserver.memory import large_pieces_apart, return_free_memory
from s3ml.modelserver.runtimes import Runtime, TensorSpec, is_installed, missing_runtime, open_model
from s3ml.modelserver.runtimes.selection import RUNTIMES
from s3ml.primitives.errors import S3MLError

_PR_SET_PDEATHSIG = 1
_WARM_UP_SHARE = 0.2
_WARM_UP_LIMIT_S = 1.0
_TOUCHING_RUNS = 3
_NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A model that is ready to be measured."""

    runtime: Runtime
    threads: int


def main(arguments: list[str], source: BinaryIO, destination: BinaryIO) -> int:
    """Answer the questions of one measurement.

    Returns:
        The exit status: 0 also where the answer was `Failed`.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != int(arguments[0]):  # It died before the request took effect.
        return 1
    disable_huge_pages()
    opened: Opened | None = None
    while line := source.readline(LINE_LIMIT_BYTES):
        question = parse_question(line)
        answer: Answer
        try:
            if isinstance(question, Load):
                opened, answer = load(question)
            elif opened is None:
                answer = Failed(reason="expected to load a model first")
            elif isinstance(question, Repeat):
                answer = repeat(opened, question)
            else:
                answer = measure(opened, question)
        except S3MLError as error:
            answer = Failed(reason=str(error))
        except MemoryError:
            answer = Failed(reason="too little memory")
        destination.write(encode_line(answer))
        destination.flush()
    return 0


def load(question: Load) -> tuple[Opened, Loaded]:
    """Open a model and tell what that took.

    Raises:
        ConfigurationError: there is no usable model.
        MemoryError: there was too little memory.
    """
    source = inspect_source(Path(question.path))
    choice = RUNTIMES[source.runtime]
    if not is_installed(source.runtime):
        raise missing_runtime(source.runtime)
    importlib.import_module(choice.module)
    process = read_memory()
    forget_peak()
    begin = time.perf_counter()
    with large_pieces_apart():
        runtime = open_model(read_model(source, threads=question.threads))
    return_free_memory()
    duration_s = time.perf_counter() - begin
    loaded = Loaded(
        platform=runtime.platform,
        inputs=tuple(map(_declared, runtime.inputs)),
        is_batchable=is_batchable(runtime.inputs, runtime.outputs),
        process=process,
        model=read_memory(),
        peak_bytes=read_peak_bytes(),
        duration_s=duration_s,
        libraries=tuple(
            Library(name=name, version=metadata.version(name)) for name in ("s3ml", "numpy", choice.package)
        ),
    )
    return Opened(runtime=runtime, threads=question.threads), loaded


def measure(opened: Opened, question: Measure) -> Measured:
    """Run one batch size again and again, and tell what it costs.

    Raises:
        RuntimeRefusedError: the model cannot be evaluated on these inputs.
        MemoryError: there was too little memory.
    """
    work = _work(opened, question, batch=question.batch)
    return_free_memory()
    forget_peak()
    warm_up(work, duration_s=min(_WARM_UP_LIMIT_S, question.duration_s * _WARM_UP_SHARE))
    timed = time_runs(work, duration_s=question.duration_s)
    memory, peak_bytes = read_memory(), read_peak_bytes()
    touched = [found for _ in range(_TOUCHING_RUNS) if (found := touched_bytes(work)) is not None]
    return Measured(
        point=Point(
            threads=opened.threads,
            batch=question.batch,
            runs=timed.runs,
            p50_s=timed.p50_s,
            p99_s=timed.p99_s,
            rows_per_s=question.batch * timed.runs / timed.elapsed_s,
            compute_s=timed.compute_s,
            memory=memory,
            peak_bytes=peak_bytes,
            working_set_bytes=int(statistics.median(touched)) if touched else None,
            minor_faults_per_run=timed.minor_faults,
            major_faults_per_run=timed.major_faults,
        )
    )


def repeat(opened: Opened, question: Repeat) -> Repeated:
    """Run one row again and again, and tell each duration.

    Raises:
        RuntimeRefusedError: the model cannot be evaluated on these inputs.
        MemoryError: there was too little memory.
    """
    work = _work(opened, question, batch=1)
    durations_ns: list[int] = []
    runs, now = 0, time.perf_counter_ns()
    end = now + int(question.duration_s * _NS_PER_S)
    while runs == 0 or now < end:
        work()
        before, now = now, time.perf_counter_ns()
        runs += 1
        if runs <= DURATIONS_LIMIT:
            durations_ns.append(now - before)
    return Repeated(runs=runs, durations_ns=tuple(durations_ns))


def _work(opened: Opened, question: Measure | Repeat, *, batch: int) -> Callable[[], None]:
    """Return one run of the model on what the question says."""
    samples = read_samples(Path(question.samples)) if question.samples is not None else None
    feeding = Feeding(shapes=MappingProxyType(question.shapes), is_batched=question.is_batched)
    runtime = opened.runtime
    inputs = tuple(map(_declared, runtime.inputs))
    feeds = make_feeds(inputs, feeding, batch=batch, samples=samples)
    outputs = [spec.name for spec in runtime.outputs]

    def work() -> None:
        runtime.run(feeds, outputs)

    return work


def read_model(source: Source, *, threads: int) -> ModelFiles:
    """Read a plaintext model as opening its bundle would give it.

    Raises:
        ConfigurationError: it cannot be read, or has changed.
    """
    contents = {file.name: b"".join(file.chunks()) for file in source.files}
    listed = tuple(
        ListedFile(name=name, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
        for name, data in contents.items()
    )
    # What it will take is to be measured: the least that can be stated takes the place of that.
    resources = Resources(memory_bytes=1, threads=threads)
    config = ModelConfig(runtime=source.runtime, files=listed, resources=resources)
    return ModelFiles(config=config, files=MappingProxyType(contents))


def _declared(spec: TensorSpec) -> Declared:
    fields = {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}
    return msgspec.convert(fields, type=Declared)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], sys.stdin.buffer, sys.stdout.buffer))
