"""How a model pages when the EPC of its node is short: measured with real processes on an EMULATED one.

Several copies share the EPC and compute at once, because that is how servers live, and because a server
alone that goes through its memory in order falls off a cliff: it pages nothing, or everything. Everything is
evicted first; what comes back is the hot set. Then the EPC shrinks from more than that to half of it.

No figure of it is one of SGX hardware (ADR 24).
"""

import contextlib
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from s3ml.apps.profiling.messages import Repeat, Repeated
from s3ml.apps.profiling.process import CHILD, MeasurementError, MeasuringProcess
from s3ml.apps.profiling.session import LOAD_DEADLINE_S, RUN_LIMIT_S
from s3ml.bundle.paging import Paging, PagingPoint
from s3ml.bundle.profile import ProfiledModel
from s3ml.tee_memory.emulated import EmulatedNode, EmulatedSource
from s3ml.tee_memory.emulated.entry import entry_command
from s3ml.tee_memory.emulated.group import LEAST_BYTES
from s3ml.tee_memory.reading import PAGE_BYTES

HEADROOMS = (1.3, 1.15, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
_SETTLING_SHARE = 0.5
_THREADS = 1
_NS_PER_S = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class PagingWishes:
    """What somebody wants measured.

    Args:
        source: The model whose profile this becomes a part of.
        copies: Servers of it that share the EPC; 2 at least.
        duration_s: Time spent on each point, after half as much to settle.
        samples: An ``.npz`` with rows to feed; random ones where None.
        headrooms: Sizes of the EPC over the hot set, falling.
    """

    source: Path
    copies: int
    duration_s: float
    samples: Path | None
    headrooms: tuple[float, ...] = HEADROOMS


@dataclass(frozen=True, slots=True, kw_only=True)
class PagingStep:
    """What is measured now: `number` of `total`; for people."""

    headroom: float
    number: int
    total: int


def measure_paging(
    wishes: PagingWishes,
    model: ProfiledModel,
    *,
    node: EmulatedNode,
    progress: Callable[[PagingStep], None],
) -> Paging:
    """Bring a node up, measure, and bring it down again.

    Args:
        wishes: What to measure.
        model: As it was profiled: what it is fed.
        node: One that is not up.
        progress: Told before each point.

    Raises:
        ConfigurationError: this machine cannot emulate an EPC, or the model cannot be measured in one.
        UnavailableError: the kernel refuses.
    """
    question = Repeat(
        duration_s=wishes.duration_s,
        shapes={one.name: one.shape for one in model.inputs},
        is_batched=model.is_batched,
        samples=None if wishes.samples is None else str(wishes.samples.absolute()),
    )
    plenty_bytes = node.host.memory_bytes // 2 // PAGE_BYTES * PAGE_BYTES
    node.up(size_bytes=plenty_bytes)
    try:
        with contextlib.ExitStack() as stack:
            copies = [
                stack.enter_context(MeasuringProcess(_command(node, number)))
                for number in range(1, wishes.copies + 1)
            ]
            for copy in copies:
                copy.load(wishes.source, threads=_THREADS, deadline_s=LOAD_DEADLINE_S)
            source = stack.enter_context(contextlib.closing(node.source()))
            bench = _Bench(copies=copies, source=source, question=question)
            bench.ask(wishes.duration_s * _SETTLING_SHARE)
            node.evict()
            bench.ask(wishes.duration_s)
            hot_set_bytes = source.count().resident_bytes or 0
            points = _shrink(wishes, node, bench, hot_set_bytes, progress)
    finally:
        node.down(grace_s=0.0)
    compute_s = points[0].mean_s
    return Paging(
        is_emulated=True,
        copies=wishes.copies,
        threads=_THREADS,
        hot_set_bytes=hot_set_bytes,
        compute_s=compute_s,
        page_cost_s=fit_page_cost(points, compute_s=compute_s),
        points=points,
    )


def fit_page_cost(points: Sequence[PagingPoint], *, compute_s: float) -> float | None:
    """Return the latency that a page adds: the slope through no pages and `compute_s`, by least squares.

    Returns:
        None where the points do not tell: nothing paged, or what did was no slower.
    """
    pages = np.array([point.pages_per_request for point in points])
    excess_s = np.array([point.mean_s for point in points]) - compute_s
    squares = float(pages @ pages)
    slope_s = float(pages @ excess_s) / squares if squares >= 1 else 0.0
    return slope_s if slope_s > 0 else None


def summarise(
    answers: Sequence[Repeated], *, pages: int, limit_bytes: int, hot_set_bytes: int
) -> PagingPoint:
    """Return the point that the answers of all copies make."""
    durations_s = np.concatenate([np.array(answer.durations_ns) for answer in answers]) / _NS_PER_S
    requests = sum(answer.runs for answer in answers)
    p50_s, p99_s = np.percentile(durations_s, (50, 99), method="inverted_cdf")
    return PagingPoint(
        headroom=limit_bytes / hot_set_bytes,
        limit_bytes=limit_bytes,
        requests=requests,
        pages_per_request=pages / requests,
        mean_s=float(durations_s.mean()),
        p50_s=float(p50_s),
        p99_s=float(p99_s),
    )


def plan_limits(hot_set_bytes: int, headrooms: Sequence[float]) -> tuple[int, ...]:
    """Return the sizes of the EPC to measure, in whole pages, falling; none that is too small for a node."""
    limits = {int(hot_set_bytes * headroom) // PAGE_BYTES * PAGE_BYTES for headroom in headrooms}
    return tuple(sorted((limit for limit in limits if limit >= LEAST_BYTES), reverse=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Bench:
    copies: list[MeasuringProcess]
    source: EmulatedSource
    question: Repeat

    def ask(self, duration_s: float) -> list[Repeated]:
        """Have all copies compute at once."""
        question = Repeat(
            duration_s=duration_s,
            shapes=self.question.shapes,
            is_batched=self.question.is_batched,
            samples=self.question.samples,
        )
        deadline_s = 10 * RUN_LIMIT_S + 10 * duration_s
        with ThreadPoolExecutor(len(self.copies)) as pool:
            asked = [pool.submit(copy.repeat, question, deadline_s=deadline_s) for copy in self.copies]
            return [one.result() for one in asked]

    def pages(self) -> int:
        """Return how many pages came back so far."""
        return self.source.count().page_ins or 0


def _shrink(
    wishes: PagingWishes,
    node: EmulatedNode,
    bench: _Bench,
    hot_set_bytes: int,
    progress: Callable[[PagingStep], None],
) -> tuple[PagingPoint, ...]:
    limits = plan_limits(hot_set_bytes, wishes.headrooms)
    if not limits:
        raise MeasurementError(
            f"paging: the hot set of {wishes.copies} copies is {hot_set_bytes} bytes: too little for an EPC"
        )
    points = []
    for number, limit_bytes in enumerate(limits, 1):
        progress(PagingStep(headroom=limit_bytes / hot_set_bytes, number=number, total=len(limits)))
        node.resize(limit_bytes)
        bench.ask(wishes.duration_s * _SETTLING_SHARE)
        before = bench.pages()
        answers = bench.ask(wishes.duration_s)
        points.append(
            summarise(
                answers, pages=bench.pages() - before, limit_bytes=limit_bytes, hot_set_bytes=hot_set_bytes
            )
        )
    return tuple(points)


def _command(node: EmulatedNode, number: int) -> tuple[str, ...]:
    return (*entry_command(node, f"copy-{number}"), sys.executable, *CHILD)
