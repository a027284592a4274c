"""Requests as spans of OpenTelemetry, sent to a collector over OTLP/HTTP.

Imported only where ``S3ML_OTLP_ENDPOINT`` is set: the libraries take 4 MB and a thread. Export can fail, hang
or lag, and no request notices: spans wait in a bounded queue, and what does not fit is dropped.

Source: OpenTelemetry, "Tracing SDK"; OTLP 1.
"""

from threading import Thread

import requests
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import SpanKind, set_span_in_context

import s3ml
from s3ml.modelserver.tally import Outcome
from s3ml.modelserver.timing import Timing
from s3ml.modelserver.tracing import LEAST_GAP_S, REQUEST_SPAN, STAGES
from s3ml.primitives.clock import Clock

QUEUE_SPANS = 2048
BATCH_SPANS = 256
EXPORT_EVERY_MS = 5000
EXPORT_TIMEOUT_S = 5.0
# What is still queued at the end has this long to leave.
LAST_EXPORT_S = 2.0
_PATH = "/v1/traces"
_NS_PER_S = 1_000_000_000


class SpanTrace:
    """Draws requests as spans, ten a second at most.

    Args:
        exporter: Where spans go, on a thread of their own.
        service: The one service.
        replica: The name of this process.
        clock: Its monotonic time is what requests were timed with.
    """

    __slots__ = ("_clock", "_next_s", "_provider", "_service", "_tracer")

    def __init__(self, exporter: SpanExporter, *, service: str, replica: str, clock: Clock) -> None:
        # Their constructors: what makes them from the environment would let the host add to it.
        attributes = {
            "service.name": "s3ml-model-server",
            "service.version": s3ml.__version__,
            "service.instance.id": replica,
        }
        self._provider = TracerProvider(
            sampler=ALWAYS_ON, resource=Resource(attributes), shutdown_on_exit=False
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(
                exporter,
                max_queue_size=QUEUE_SPANS,
                max_export_batch_size=BATCH_SPANS,
                schedule_delay_millis=EXPORT_EVERY_MS,
            )
        )
        self._tracer = self._provider.get_tracer("s3ml", s3ml.__version__)
        self._service = service
        self._clock = clock
        self._next_s = 0.0

    def __call__(self, outcome: Outcome, timing: Timing) -> None:
        """Draw one request that has ended, unless another was drawn a moment ago."""
        now_s = self._clock.monotonic_s()
        if timing.finished_s is None or now_s < self._next_s:
            return
        self._next_s = now_s + LEAST_GAP_S
        epoch_s = self._clock.now().timestamp() - now_s

        def ns(at_s: float) -> int:
            return int((epoch_s + at_s) * _NS_PER_S)

        request = self._tracer.start_span(
            REQUEST_SPAN,
            context=Context(),
            kind=SpanKind.SERVER,
            start_time=ns(timing.begun_s),
            attributes={
                "s3ml.service": self._service,
                "s3ml.outcome": str(outcome),
                "http.request.body.size": timing.body_bytes,
            },
        )
        inside = set_span_in_context(request, Context())
        for name, first, last in STAGES:
            begin_s, end_s = getattr(timing, first), getattr(timing, last)
            if begin_s is not None and end_s is not None:
                self._tracer.start_span(name, context=inside, start_time=ns(begin_s)).end(ns(end_s))
        request.end(ns(timing.finished_s))

    def close(self) -> None:
        """Send what is queued, within two seconds, and stop the thread."""
        last = Thread(target=self._provider.shutdown, name="last-export", daemon=True)
        last.start()
        last.join(LAST_EXPORT_S)


def otlp_exporter(endpoint: str) -> SpanExporter:
    """Return what sends spans to a collector.

    Args:
        endpoint: The collector's base URL; spans go to ``/v1/traces`` below it.
    """
    session = requests.Session()
    session.trust_env = False  # Neither proxies nor credentials from the environment.
    return OTLPSpanExporter(
        endpoint=endpoint.rstrip("/") + _PATH, headers={}, timeout=EXPORT_TIMEOUT_S, session=session
    )
