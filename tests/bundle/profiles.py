"""Profiles for tests: whole ones, and what may be changed in them."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from s3ml.bundle import Batching, ListedFile, Resources
from s3ml.bundle.paging import Paging, PagingPoint
from s3ml.bundle.profile import (
    Library,
    Loading,
    Machine,
    MeasuredInput,
    Memory,
    Point,
    Profile,
    ProfiledModel,
    Settings,
    Skipped,
    Suggestion,
)

MB = 1_000_000
FILE = ListedFile(name="model.onnx", size_bytes=5 * MB, sha256="ab" * 32)


def point(threads: int = 1, batch: int = 1, p50_ms: float = 10.0, **changes: Any) -> Point:
    """Return a point whose throughput follows from its median duration."""
    figures: dict[str, Any] = {
        "threads": threads,
        "batch": batch,
        "runs": 200,
        "p50_s": p50_ms / 1e3,
        "p99_s": p50_ms / 1e3 * 1.5,
        "rows_per_s": batch / p50_ms * 1e3,
        "compute_s": p50_ms / 1e3 * threads,
        "memory": Memory(resident_bytes=(90 + 8 * batch) * MB, anonymous_bytes=(40 + 8 * batch) * MB),
        "peak_bytes": (95 + 8 * batch) * MB,
        "working_set_bytes": (12 + 4 * batch) * MB,
        "minor_faults_per_run": 0.5,
        "major_faults_per_run": 0.0,
    }
    return Point(**(figures | changes))


def profile(**changes: Any) -> Profile:
    """Return a profile of a batched model on one and two threads."""
    figures: dict[str, Any] = {
        "version": 1,
        "tee": "none",
        "measured_at": datetime(2026, 11, 23, 8, 0, tzinfo=UTC),
        "machine": Machine(
            processor="A Processor",
            cores=2,
            memory_bytes=8_000 * MB,
            page_bytes=4096,
            kernel="6.18",
            system="A System",
            python="3.11.2",
            libraries=(Library(name="onnxruntime", version="1.32.0"),),
            load_average=(0.1, 1.2),
        ),
        "settings": Settings(duration_s=2.0, inputs="random", p99_objective_s=None),
        "model": ProfiledModel(
            name="resnet50.onnx",
            platform="onnx_onnxv1",
            files=(FILE,),
            inputs=(MeasuredInput(name="x", datatype="FP32", shape=(1, 3, 224, 224)),),
            is_batched=True,
        ),
        "loading": Loading(
            process=Memory(resident_bytes=70 * MB, anonymous_bytes=30 * MB),
            model=Memory(resident_bytes=90 * MB, anonymous_bytes=45 * MB),
            peak_bytes=110 * MB,
            duration_s=0.2,
        ),
        "points": tuple(
            point(threads, batch, (4 + 6 * batch) / threads) for threads in (1, 2) for batch in (1, 2, 4)
        ),
        "skipped": (Skipped(threads=2, batch=8, reason="too little memory"),),
        "suggestion": Suggestion(
            batching=Batching(max_size=2, max_delay_us=100),
            resources=Resources(memory_bytes=64 << 20, threads=1),
            memory_margin=0.1,
        ),
    }
    return Profile(**(figures | changes))


def paging(**changes: Any) -> Paging:
    """Return how a model pages whose pages cost 20 µs each."""
    counts = {1.3: 0.0, 1.0: 2.0, 0.9: 100.0, 0.8: 400.0, 0.7: 900.0, 0.5: 2_500.0}
    figures: dict[str, Any] = {
        "is_emulated": True,
        "copies": 2,
        "threads": 1,
        "hot_set_bytes": 40 * MB,
        "compute_s": 0.01,
        "page_cost_s": 20e-6,
        "points": tuple(
            PagingPoint(
                headroom=headroom,
                limit_bytes=int(headroom * 40 * MB),
                requests=100,
                pages_per_request=pages,
                mean_s=0.01 + pages * 20e-6,
                p50_s=0.01 + pages * 18e-6,
                p99_s=0.02 + pages * 40e-6,
            )
            for headroom, pages in counts.items()
        ),
    }
    return Paging(**(figures | changes))


def as_json(document: Profile) -> dict[str, Any]:
    """Return a profile as plain values."""
    plain: dict[str, Any] = msgspec.to_builtins(document)
    return plain
