"""Coarse figures for outside the seal: per service, renewed no faster than every 10 seconds.

Finer or fresher figures would let an observer tell requests apart. What becomes known only by opening
requests is therefore shown in steps of at least 20 answers, and never by model: which model a request asks
for is sealed. What anybody sees from outside (plain replies, sizes, connections) is shown at each renewal.

Recording is safe from any thread. Label values are members of the enumerations below and nothing else.

Source: docs/spec/model-server.md, "Metrics".
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from threading import Lock

import s3ml
from s3ml.modelserver.samples import SEALED, Key, exposition
from s3ml.modelserver.timing import Timing
from s3ml.wire.oip import ModelState

RENEWAL_S = 10.0
# As many as `health` needs before readiness tells anything of sealed answers.
LEAST_ANSWERS = 20
_US_PER_S = 1e6
_REFUSALS = (401, 403, 429)
_OVERLOADED = 503
_TOO_LATE = 504
_FAULT = 500
_MISTAKE = 400
_UNLABELLED = tuple(
    name + suffix for name, family in SEALED.items() if family.label is None for suffix in family.suffixes()
)


class Outcome(StrEnum):
    """What became of a request."""

    ANSWERED = "answered"
    FAILED = "failed"
    REFUSED = "refused"
    REJECTED = "rejected"
    OVERLOADED = "overloaded"
    ABANDONED = "abandoned"

    @classmethod
    def of(cls, status: int) -> "Outcome":
        """Return the outcome that a sealed answer's status stands for."""
        if status in _REFUSALS:
            return cls.REFUSED
        if status == _OVERLOADED:
            return cls.OVERLOADED
        return cls.FAILED if status >= _FAULT else cls.ANSWERED


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


class Failure(StrEnum):
    """Why an inference request got no result, in Triton's words."""

    REJECTED = "REJECTED"
    CANCELED = "CANCELED"
    BACKEND = "BACKEND"
    OTHER = "OTHER"

    @classmethod
    def of(cls, status: int, timing: Timing) -> "Failure":
        """Return the reason behind an inner status: turned away, failed while computing, or the caller's."""
        if status in (_OVERLOADED, _TOO_LATE):
            return cls.REJECTED if timing.started_s is None else cls.BACKEND
        return cls.BACKEND if status >= _FAULT else cls.OTHER


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
        "_answers",
        "_fixed",
        "_lock",
        "_outer",
        "_rendered",
        "_rendered_at_s",
        "_sealed",
        "_service",
        "_shown",
    )

    def __init__(self, service: str, *, started_at_s: float = 0.0) -> None:
        self._service = service
        self._lock = Lock()
        self._fixed: dict[Key, float] = {
            ("process_start_time_seconds", ""): started_at_s,
            ("s3ml_build_info", s3ml.__version__): 1.0,
        }
        self._outer = _zeros(("s3ml_requests_total", Outcome), ("s3ml_rejections_total", Rejection))
        self._sealed = _zeros(("s3ml_requests_total", Outcome), ("nv_inference_request_failure", Failure))
        self._sealed |= {(name, ""): 0.0 for name in _UNLABELLED}
        self._shown = dict(self._sealed)
        self._answers = 0
        self._rendered = b""
        self._rendered_at_s: float | None = None

    def reject(self, rejection: Rejection) -> None:
        """Count a request that got a plain reply."""
        with self._lock:
            self._outer["s3ml_rejections_total", rejection] += 1
            self._outer["s3ml_requests_total", rejection.outcome] += 1

    def answer(self, status: int, timing: Timing) -> None:
        """Count a sealed answer.

        Args:
            status: The inner one.
            timing: Of the request, at its end.
        """
        with self._lock:
            self._answers += 1
            self._sealed["s3ml_requests_total", Outcome.of(status)] += 1
            if timing.is_inference:
                self._inference(status, timing)

    def cancel(self, timing: Timing) -> None:
        """Count an opened request whose caller went away before its answer."""
        with self._lock:
            self._sealed["s3ml_requests_total", Outcome.ABANDONED] += 1
            if timing.is_inference:
                self._sealed["nv_inference_request_failure", Failure.CANCELED] += 1

    def execute(self, *, rows: int) -> None:
        """Count one execution of a model over `rows` inferences, of one request or of a batch of them."""
        with self._lock:
            self._sealed["nv_inference_exec_count", ""] += 1
            self._sealed["nv_inference_count", ""] += rows

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
        with self._lock:
            if self._answers >= LEAST_ANSWERS:
                self._answers = 0
                self._shown = dict(self._sealed)
            values = dict(self._outer)
            for key, value in self._shown.items():
                values[key] = values.get(key, 0.0) + value
        return exposition({**values, **self._fixed, **gauges.values()}, service=self._service)

    def _inference(self, status: int, timing: Timing) -> None:
        """Sum up where a request's time went; of results alone, as Triton does."""
        if status >= _MISTAKE:
            self._sealed["nv_inference_request_failure", Failure.of(status, timing)] += 1
            return
        values = self._sealed
        values["nv_inference_request_success", ""] += 1
        values["nv_inference_request_duration_us", ""] += _US_PER_S * timing.between_s(
            "begun_s", "finished_s"
        )
        values["nv_inference_queue_duration_us", ""] += _US_PER_S * timing.between_s("queued_s", "started_s")
        compute_us = _US_PER_S * timing.between_s("started_s", "computed_s")
        values["nv_inference_compute_infer_duration_us", ""] += compute_us
        output_us = _US_PER_S * timing.between_s("computed_s", "encoded_s")
        values["nv_inference_compute_output_duration_us", ""] += output_us
        self._observe("request_preprocess_seconds", timing.between_s("begun_s", "queued_s"))
        self._observe("request_predict_seconds", timing.between_s("queued_s", "computed_s"))
        self._observe("request_postprocess_seconds", timing.between_s("computed_s", "finished_s"))

    def _observe(self, name: str, seconds: float) -> None:
        self._sealed[f"{name}_sum", ""] += seconds
        self._sealed[f"{name}_count", ""] += 1


def _zeros(*families: tuple[str, type[StrEnum]]) -> dict[Key, float]:
    return {(name, str(value)): 0.0 for name, values in families for value in values}
