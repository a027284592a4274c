"""What is known only inside the seal, summed up: cheap to add to, made into samples at a renewal.

Added to on the event loop alone.

Source: Triton Inference Server, "Metrics"; KServe, "Prometheus metrics".
"""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from s3ml.modelserver.samples import Key
from s3ml.modelserver.timing import Timing
from s3ml.primitives.units import US_PER_S

_REFUSALS = (401, 403, 429)
_MISTAKE, _FAULT, _OVERLOADED, _TOO_LATE = 400, 500, 503, 504


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


@dataclass(slots=True)
class Tally:
    """Sums over opened requests since the process began.

    Args:
        answers: Sealed answers.
        outcomes: Opened requests by outcome.
        failures: Inference requests without a result.
        results: Inference requests with one, of which the times are summed up.
        executions: Of models.
        rows: Of all executions.
        before_s: Opening, letting through and decoding.
        queue_s: Waiting.
        compute_s: Being computed.
        encode_s: Encoding.
        seal_s: Sealing.
    """

    answers: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    failures: Counter[Failure] = field(default_factory=Counter)
    results: int = 0
    executions: int = 0
    rows: int = 0
    before_s: float = 0.0
    queue_s: float = 0.0
    compute_s: float = 0.0
    encode_s: float = 0.0
    seal_s: float = 0.0

    def add(self, status: int, timing: Timing) -> None:
        """Add a request with its answer's inner status; the times of results alone, as Triton does."""
        self.answers += 1
        self.outcomes[Outcome.of(status)] += 1
        if not timing.is_inference:
            return
        if status >= _MISTAKE:
            self.failures[Failure.of(status, timing)] += 1
            return
        self.results += 1
        queued_s, started_s, computed_s = timing.queued_s, timing.started_s, timing.computed_s
        encoded_s, finished_s = timing.encoded_s, timing.finished_s
        if queued_s and started_s and computed_s and encoded_s and finished_s:
            self.before_s += queued_s - timing.begun_s
            self.queue_s += started_s - queued_s
            self.compute_s += computed_s - started_s
            self.encode_s += encoded_s - computed_s
            self.seal_s += finished_s - encoded_s

    def abandon(self, timing: Timing) -> None:
        """Add a request whose caller left before its answer."""
        self.outcomes[Outcome.ABANDONED] += 1
        if timing.is_inference:
            self.failures[Failure.CANCELED] += 1

    def values(self) -> dict[Key, float]:
        """Return everything as samples."""
        after_s, predict_s = self.encode_s + self.seal_s, self.queue_s + self.compute_s
        plain: dict[str, float] = {
            "nv_inference_request_success": self.results,
            "nv_inference_count": self.rows,
            "nv_inference_exec_count": self.executions,
            "nv_inference_request_duration_us": US_PER_S * (self.before_s + predict_s + after_s),
            "nv_inference_queue_duration_us": US_PER_S * self.queue_s,
            "nv_inference_compute_infer_duration_us": US_PER_S * self.compute_s,
            "nv_inference_compute_output_duration_us": US_PER_S * self.encode_s,
            "request_preprocess_seconds_sum": self.before_s,
            "request_preprocess_seconds_count": self.results,
            "request_predict_seconds_sum": predict_s,
            "request_predict_seconds_count": self.results,
            "request_postprocess_seconds_sum": after_s,
            "request_postprocess_seconds_count": self.results,
        }
        return (
            {(name, ""): value for name, value in plain.items()}
            | {("s3ml_requests_total", str(o)): float(self.outcomes[o]) for o in Outcome}
            | {("nv_inference_request_failure", str(f)): float(self.failures[f]) for f in Failure}
        )
