"""Coarse figures for outside the seal: per service, renewed no faster than every 10 seconds.

Finer or fresher figures would let an observer tell requests apart. What becomes known only by opening
requests is therefore shown in groups of at least 20 answers, and never by model: which model a request asks
for is sealed. What anybody sees from outside (plain replies, sizes, connections) is shown at each renewal.

Recording belongs to the event loop. Label values are members of the enumerations below and nothing else.

Source: docs/spec/model-server.md, "Metrics".
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import s3ml
from s3ml.modelserver.samples import Key, exposition
from s3ml.modelserver.tally import Outcome, Tally
from s3ml.modelserver.timing import Timing
from s3ml.wire.oip import ModelState

RENEWAL_S = 10.0
# As many as `health` needs before readiness tells anything of sealed answers.
LEAST_ANSWERS = 20


class Rejection(StrEnum):
    """Why a request got a plain reply: no more than the reply itself tells."""

    NO_KEYS = "no-keys"
    TOO_MANY = "too-many"
    BUDGET = "budget"
    BUSY = "busy"
    ENDING = "ending"
    MEDIA_TYPE = "media-type"
    TOO_LARGE = "too-large"
    INCOMPLETE = "incomplete"
    UNKNOWN_KEY = "unknown-key"
    UNOPENED = "unopened"
    FAULT = "fault"

    @property
    def outcome(self) -> Outcome:
        """What it counts as."""
        return _OUTCOMES.get(self, Outcome.REJECTED)


_OUTCOMES = {
    Rejection.NO_KEYS: Outcome.OVERLOADED,
    Rejection.TOO_MANY: Outcome.OVERLOADED,
    Rejection.BUDGET: Outcome.OVERLOADED,
    Rejection.BUSY: Outcome.OVERLOADED,
    Rejection.ENDING: Outcome.OVERLOADED,
    Rejection.FAULT: Outcome.FAILED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges:
    """The present of a replica, as far as it may be seen from outside.

    Args:
        is_ready: Whether traffic should come.
        is_draining: Whether the process is about to end.
        models: How many model versions are in each state.
        in_flight: Requests under way, queued ones included.
        pending: Those of them that wait for their turn to be computed.
        reserved_bytes: What they hold of the budget of bytes.
        budget_bytes: That budget.
        lease_s: What is left of the lease on the keys; 0 without one.
        memory_bytes: What loaded models hold of their budget.
        memory_budget_bytes: That budget, or None where there is none.
        resident_bytes: The process's resident memory, or None where the system does not tell.
    """

    is_ready: bool
    is_draining: bool = False
    models: Mapping[ModelState, int] = field(default_factory=dict)
    in_flight: int = 0
    pending: int = 0
    reserved_bytes: int = 0
    budget_bytes: int = 0
    lease_s: float = 0.0
    memory_bytes: int = 0
    memory_budget_bytes: int | None = None
    resident_bytes: int | None = None

    def values(self) -> dict[Key, float]:
        """Return them as samples."""
        plain: dict[str, float | None] = {
            "s3ml_ready": self.is_ready,
            "s3ml_draining": self.is_draining,
            "s3ml_in_flight_requests": self.in_flight,
            "nv_inference_pending_request_count": self.pending,
            "s3ml_reserved_bytes": self.reserved_bytes,
            "s3ml_budget_bytes": self.budget_bytes,
            "s3ml_lease_seconds": round(max(self.lease_s, 0.0)),
            "s3ml_model_memory_bytes": self.memory_bytes,
            "s3ml_model_memory_budget_bytes": self.memory_budget_bytes,
            "process_resident_memory_bytes": self.resident_bytes,
        }
        states = {("s3ml_models", str(state)): float(self.models.get(state, 0)) for state in ModelState}
        return {(name, ""): float(value) for name, value in plain.items() if value is not None} | states


class Metrics:
    """Records what happens, and renders it at most once per 10 seconds.

    Args:
        service: The label that every sample carries.
        started_at_s: When the process began, in seconds since 1970.
    """

    __slots__ = (
        "_fixed",
        "_plain",
        "_rendered",
        "_rendered_at_s",
        "_service",
        "_shown",
        "_shown_answers",
        "_tally",
    )

    def __init__(self, service: str, *, started_at_s: float = 0.0) -> None:
        self._service = service
        self._fixed: dict[Key, float] = {
            ("process_start_time_seconds", ""): started_at_s,
            ("s3ml_build_info", s3ml.__version__): 1.0,
        }
        self._plain: Counter[Rejection] = Counter()
        self._tally = Tally()
        self._shown = self._tally.values()
        self._shown_answers = 0
        self._rendered = b""
        self._rendered_at_s: float | None = None

    def reject(self, rejection: Rejection) -> None:
        """Count a request that got a plain reply."""
        self._plain[rejection] += 1

    def answer(self, status: int, timing: Timing) -> None:
        """Count a sealed answer.

        Args:
            status: The inner one.
            timing: Of the request, at its end.
        """
        self._tally.add(status, timing)

    def cancel(self, timing: Timing) -> None:
        """Count an opened request whose caller went away before its answer."""
        self._tally.abandon(timing)

    def execute(self, *, rows: int) -> None:
        """Count one execution of a model over `rows` inferences, of one request or of a batch of them."""
        self._tally.executions += 1
        self._tally.rows += rows

    def render(self, gauges: Callable[[], Gauges], *, now_s: float) -> bytes:
        """Return the samples as they stood at the last renewal.

        Args:
            gauges: Returns the present; asked at a renewal only.
            now_s: Monotonic.
        """
        if self._rendered_at_s is None or now_s - self._rendered_at_s >= RENEWAL_S:
            self._rendered_at_s = now_s
            self._rendered = self._renew(gauges())
        return self._rendered

    def _renew(self, gauges: Gauges) -> bytes:
        if self._tally.answers - self._shown_answers >= LEAST_ANSWERS:
            self._shown_answers = self._tally.answers
            self._shown = self._tally.values()
        values = dict(self._shown)
        for rejection in Rejection:
            values["s3ml_rejections_total", rejection] = self._plain[rejection]
            values["s3ml_requests_total", rejection.outcome] += self._plain[rejection]
        return exposition({**values, **self._fixed, **gauges.values()}, service=self._service)
