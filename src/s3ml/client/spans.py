"""Spans of calls, for applications that trace themselves with OpenTelemetry.

Nothing is imported here: where the application did not import OpenTelemetry there are no spans. A span holds
the service, when attempts began, and the kind of an error; no input, output, model, id, credential or
message. No context is handed on: an id on both sides of the seal would tell the operator whose request it is.

Source: docs/operations.md, "Spans of clients".
"""

import sys
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import s3ml
from s3ml.client.steps import Program, Send

if TYPE_CHECKING:
    from opentelemetry.trace import Span

P = ParamSpec("P")
Self = TypeVar("Self")
Result = TypeVar("Result")

CALL_SPAN = "s3ml.infer"
ATTEMPT_EVENT = "s3ml.attempt"


def spanned(
    call: Callable[Concatenate[Self, str, P], Program[Result]],
) -> Callable[Concatenate[Self, str, P], Program[Result]]:
    """Draw a span around each run of a call whose first argument is the service."""

    @wraps(call)
    def drawn(self: Self, service: str, /, *args: P.args, **kwargs: P.kwargs) -> Program[Result]:
        return _in_span(service, call(self, service, *args, **kwargs))

    return drawn


def _in_span(service: str, program: Program[Result]) -> Program[Result]:
    span = _begin(service)
    if span is None:
        return (yield from program)
    try:
        return (yield from _watched(program, span))
    except BaseException as error:
        _fail(span, error)
        raise
    finally:
        span.end()


def _begin(service: str) -> "Span | None":
    """Begin a span below the application's present one, where it traces at all."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    tracer = trace.get_tracer("s3ml", s3ml.__version__)
    span: Span = tracer.start_span(
        CALL_SPAN, kind=trace.SpanKind.CLIENT, attributes={"s3ml.service": service}
    )
    return span


def _fail(span: "Span", error: BaseException) -> None:
    """Say of what kind an error was, and not what it says."""
    trace = sys.modules["opentelemetry.trace"]
    span.set_status(trace.StatusCode.ERROR, type(error).__name__)


def _watched(program: Program[Result], span: "Span") -> Program[Result]:
    """Run `program`, and note each sealed request that it sends."""
    answer: Any = None
    failure: BaseException | None = None
    while True:
        try:
            step = program.send(answer) if failure is None else program.throw(failure)
        except StopIteration as end:
            result: Result = end.value
            return result
        answer = failure = None
        if isinstance(step, Send):
            span.add_event(ATTEMPT_EVENT)
        try:
            answer = yield step
        except GeneratorExit:
            program.close()
            raise
        except BaseException as error:  # noqa: BLE001 - it is the program's, as `yield from` would have it
            failure = error
