"""Spans of calls: there where the application traces, and never with what was sealed."""

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from s3ml.client.core import Core
from s3ml.client.errors import InvalidInputError
from s3ml.client.spans import ATTEMPT_EVENT, CALL_SPAN
from s3ml.wire.sealed import InnerRequest
from tests.client.world import MODEL, SERVICE, Driver, World, status

ROWS = np.array([[1.0, 2.0]], dtype=np.float32)


class Spans:
    """An application that traces."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def only(self) -> ReadableSpan:
        (span,) = (span for span in self.exporter.get_finished_spans() if span.name == CALL_SPAN)
        return span


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Spans]:
    application = Spans()
    monkeypatch.setattr(trace, "get_tracer", application.provider.get_tracer)
    yield application
    application.provider.shutdown()


def attempts(span: ReadableSpan) -> int:
    return sum(event.name == ATTEMPT_EVENT for event in span.events)


class TestCalls:
    """One span a call."""

    def test_a_call_is_a_client_span_with_its_service_alone(
        self, core: Core, driver: Driver, spans: Spans
    ) -> None:
        driver.run(core.infer(SERVICE, {"x": ROWS}, request_id="marzipan"))
        span = spans.only()
        assert span.kind is SpanKind.CLIENT
        assert dict(span.attributes or {}) == {"s3ml.service": SERVICE}
        assert attempts(span) == 1
        assert span.status.status_code is StatusCode.UNSET
        text = span.to_json()
        for secret in ("marzipan", MODEL, "FP32"):
            assert secret not in text

    def test_it_is_a_child_of_the_applications_own(self, core: Core, driver: Driver, spans: Spans) -> None:
        with spans.provider.get_tracer("application").start_as_current_span("request") as own:
            driver.run(core.infer(SERVICE, {"x": ROWS}))
        parent = spans.only().parent
        assert parent is not None
        assert parent.span_id == own.get_span_context().span_id

    def test_each_attempt_is_an_event(self, core: Core, driver: Driver, world: World, spans: Spans) -> None:
        world.sealed.extend([status(503), status(503)])
        driver.run(core.infer(SERVICE, {"x": ROWS}))
        assert attempts(spans.only()) == 3

    def test_an_error_is_told_by_its_kind(self, core: Core, driver: Driver, spans: Spans) -> None:
        with pytest.raises(InvalidInputError):
            driver.run(core.infer(SERVICE, {"x": ROWS}, outputs=["marzipan", "marzipan"]))
        span = spans.only()
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "InvalidInputError")
        assert "marzipan" not in span.to_json()

    def test_what_is_forwarded_is_drawn_too(self, core: Core, driver: Driver, spans: Spans) -> None:
        driver.run(core.forward(SERVICE, InnerRequest(method="GET", path="/v2")))
        assert attempts(spans.only()) == 1

    def test_a_call_that_is_given_up_ends_its_span(self, core: Core, spans: Spans) -> None:
        program = core.infer(SERVICE, {"x": ROWS})
        next(program)
        program.close()
        assert spans.only().status.description == "GeneratorExit"

    def test_nothing_of_the_context_leaves(
        self, core: Core, driver: Driver, world: World, spans: Spans
    ) -> None:
        driver.run(core.infer(SERVICE, {"x": ROWS}))
        context = spans.only().context
        marks = (f"{context.trace_id:032x}".encode(), context.trace_id.to_bytes(16, "big"))
        for opened in world.opened:
            assert not any(name in {"traceparent", "tracestate"} for name, _ in opened.request.fields)
        for request in world.seen:
            assert not any(mark in request.body for mark in marks)


class TestSteps:
    """The span changes nothing of what is asked and answered."""

    def test_failures_reach_the_program_and_results_the_caller(
        self, core: Core, driver: Driver, world: World, spans: Spans
    ) -> None:
        world.sealed.append(status(503))
        result = driver.run(core.infer(SERVICE, {"x": ROWS}))
        assert result["y"].tolist() == [[2.0, 4.0]]
        assert core.statistics.retries == 1


class TestOff:
    """Without OpenTelemetry in the application there is nothing."""

    def test_nothing_is_imported(self) -> None:
        code = (
            "import sys, s3ml.client.core, s3ml.client.spans as spans\n"
            "print(spans._begin('tumours'), 'opentelemetry' in sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True
        )
        assert done.stdout.split() == ["None", "False"]
