"""The profile of a model: what it costs in time and memory, as measured on one machine outside a TEE.

A profile is advice from whoever measured it, and nothing secret: packing takes its suggestions, scheduling
its points. It belongs to files by their digests, so that figures of one model are never used for another. It
lies beside the bundle's documents because model owners, packing and scheduling all read it, and none of them
may import the others; nothing of it is imported where models are served.

Specified in ``docs/spec/profile.md``.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from s3ml.bundle.contents import FILES_LIMIT, Batching, Datatype, ListedFile, Resources
from s3ml.bundle.paging import Paging, check_paging
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.files import read_limited
from s3ml.primitives.units import DAY_S, MIB

PROFILE_LIMIT_BYTES = 4 * MIB
BATCH_LIMIT = 1024
THREADS_LIMIT = 256
POINTS_LIMIT = 1024

Bytes = Annotated[int, msgspec.Meta(ge=0, le=2**50)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=DAY_S)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**40)]
Rate = Annotated[float, msgspec.Meta(ge=0, le=1e15)]
Line = Annotated[str, msgspec.Meta(min_length=1, max_length=400)]
Batch = Annotated[int, msgspec.Meta(ge=1, le=BATCH_LIMIT)]
Threads = Annotated[int, msgspec.Meta(ge=1, le=THREADS_LIMIT)]


class Library(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A library that took part, and its version."""

    name: Line
    version: Line


class Machine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where it was measured; `load_average` over one minute, before and after, tells who else was busy."""

    processor: Line
    cores: Annotated[int, msgspec.Meta(ge=1, le=2**16)]
    memory_bytes: Bytes
    page_bytes: Annotated[int, msgspec.Meta(ge=512, le=2**30)]
    kernel: Line
    system: Line
    python: Line
    libraries: Annotated[tuple[Library, ...], msgspec.Meta(max_length=64)]
    load_average: tuple[Rate, Rate]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How it was measured: the time spent on each point, where inputs came from, and the p99 aimed at."""

    duration_s: Annotated[float, msgspec.Meta(gt=0, le=3600)]
    inputs: Literal["random", "samples"]
    p99_objective_s: Seconds | None


class MeasuredInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An input as it was given at batch 1: the model's name for it, datatype and sizes."""

    name: Annotated[str, msgspec.Meta(max_length=1024)]
    datatype: Datatype
    shape: Annotated[tuple[Annotated[int, msgspec.Meta(ge=0, le=2**40)], ...], msgspec.Meta(max_length=64)]


class ProfiledModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose profile it is: the files, digests included, what computes them, and what was fed to them.

    Attributes:
        is_batched: Whether batches of rows were measured: the first dimension of every input varies.
    """

    name: Line
    platform: Line
    files: Annotated[tuple[ListedFile, ...], msgspec.Meta(min_length=1, max_length=FILES_LIMIT)]
    inputs: Annotated[tuple[MeasuredInput, ...], msgspec.Meta(max_length=1024)]
    is_batched: bool


class Memory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a process holds: resident pages, and those of them that no file backs."""

    resident_bytes: Bytes
    anonymous_bytes: Bytes


class Loading(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What opening the model costs, medians over the processes that measured the points.

    Attributes:
        process: Before: interpreter, libraries and the runtime, without the model.
        model: After, freed memory given back.
        peak_bytes: The most that was resident meanwhile, the process included.
        duration_s: From reading the files to a model that can compute.
    """

    process: Memory
    model: Memory
    peak_bytes: Bytes
    duration_s: Seconds


class Point(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What runs of one batch size on one number of threads cost, in a process of their own.

    Attributes:
        threads: Of the runtime, for one run.
        batch: Rows of one run.
        runs: How many were timed.
        p50_s: Median duration of a run.
        p99_s: At p99; the slowest run where there were less than a hundred.
        rows_per_s: Throughput of runs one after the other.
        compute_s: Processor time of one run over all threads; apart from waiting, and from other processes.
        memory: While runs go on.
        peak_bytes: The most that was resident during runs, the process included.
        working_set_bytes: Pages that one run touched, the process's included, times their size; None where
            the kernel cannot tell.
        minor_faults_per_run: Pages that a run got afresh: what the runtime gives back and takes again.
        major_faults_per_run: Pages that a run had to wait for from a disk; 0 unless memory was short.
    """

    threads: Threads
    batch: Batch
    runs: Annotated[int, msgspec.Meta(ge=1, le=2**40)]
    p50_s: Seconds
    p99_s: Seconds
    rows_per_s: Rate
    compute_s: Seconds
    memory: Memory
    peak_bytes: Bytes
    working_set_bytes: Bytes | None
    minor_faults_per_run: Rate
    major_faults_per_run: Rate


class Skipped(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A point that could not be measured, and why; larger batches of the same threads were not tried."""

    threads: Threads
    batch: Batch
    reason: Line


class Suggestion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the figures suggest; `docs/spec/profile.md` has the rules.

    Attributes:
        batching: None where joining requests gains too little.
        resources: Threads, and the memory of one run at a time of at most the suggested batch.
        memory_margin: The share that was added to what was measured.
    """

    batching: Batching | None
    resources: Resources
    memory_margin: Annotated[float, msgspec.Meta(ge=0, le=10)]


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A profile: measured figures, what they suggest, and, where it was measured, how the model pages."""

    version: Literal[1]
    tee: Literal["none"]
    measured_at: Annotated[datetime, msgspec.Meta(tz=True)]
    machine: Machine
    settings: Settings
    model: ProfiledModel
    loading: Loading
    points: Annotated[tuple[Point, ...], msgspec.Meta(min_length=1, max_length=POINTS_LIMIT)]
    skipped: Annotated[tuple[Skipped, ...], msgspec.Meta(max_length=POINTS_LIMIT)]
    suggestion: Suggestion
    paging: Paging | None = None


def encode_profile(profile: Profile) -> bytes:
    """Return the document, laid out for people to read and to compare."""
    return msgspec.json.format(msgspec.json.encode(profile), indent=1) + b"\n"


def parse_profile(data: bytes) -> Profile:
    """Parse a profile of whatever origin.

    Args:
        data: At most 4 MiB.

    Raises:
        ConfigurationError: it is too large, is no profile of version 1, has a field that is unknown, missing
            or out of its range, or contradicts itself.
    """
    if len(data) > PROFILE_LIMIT_BYTES:
        raise ConfigurationError(f"profile: expected at most {PROFILE_LIMIT_BYTES} bytes, got {len(data)}")
    try:
        profile = msgspec.json.decode(data, type=Profile)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(f"profile: {error}") from error
    _check_consistency(profile)
    return profile


def read_profile(path: Path) -> Profile:
    """Read a profile from a file.

    Raises:
        ConfigurationError: it cannot be read, or `parse_profile` rejects it.
    """
    data = read_limited(path, limit_bytes=PROFILE_LIMIT_BYTES, what="profile")
    try:
        return parse_profile(data)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def check_profile_of(profile: Profile, files: Sequence[ListedFile]) -> None:
    """Check that a profile was measured with exactly these files.

    Raises:
        ConfigurationError: another name, size or digest, or other files.
    """
    expected = {(file.name, file.sha256) for file in files}
    got = {(file.name, file.sha256) for file in profile.model.files}
    if different := sorted(name for name, _ in expected ^ got):
        raise ConfigurationError(
            f"profile of {profile.model.name}: was measured with another {different[0]}: measure this model"
        )


def _check_consistency(profile: Profile) -> None:
    places = [(point.threads, point.batch) for point in profile.points]
    if places != sorted(set(places)):
        raise ConfigurationError("profile: expected points by threads, then batch, each once")
    for point in profile.points:
        if point.p50_s > point.p99_s:
            raise ConfigurationError(
                f"profile: threads {point.threads}, batch {point.batch}: expected p50 below p99, "
                f"got {point.p50_s:g} s and {point.p99_s:g} s"
            )
    if profile.paging is not None:
        check_paging(profile.paging)
    size, threads = suggested_place(profile.suggestion)
    if not any(point.threads == threads and point.batch >= size for point in profile.points):
        raise ConfigurationError(
            f"profile: suggests batch {size} on {threads} threads, which was not measured"
        )


def suggested_place(suggestion: Suggestion) -> tuple[int, int]:
    """Return the largest batch that a suggestion allows, and its threads."""
    batching = suggestion.batching
    return (1 if batching is None else batching.max_size), suggestion.resources.threads
