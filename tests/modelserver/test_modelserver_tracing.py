"""Traces show stages and times; whatever was sealed stays inside, and nothing waits for a collector."""

import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from s3ml.modelserver import Settings
from s3ml.modelserver.server import serve
from s3ml.modelserver.spans import BATCH_SPANS, QUEUE_SPANS, SpanTrace
from s3ml.modelserver.tally import Outcome
from s3ml.modelserver.timing import Timing
from s3ml.modelserver.tracing import ATTRIBUTES, LEAST_GAP_S, REQUEST_SPAN, STAGES
from s3ml.primitives.errors import ConfigurationError
from s3ml.wire.sealed import InnerRequest, seal_request
from tests.modelserver.conftest import START, ManualClock, Replica, World, linear
from tests.ports import refusing_port

DEADLINE_S = 300.0
CHILD = Path(__file__).with_name("child_server.py")
SECRET = "marzipan-4711"
RESOURCE = {"service.name", "service.version", "service.instance.id"}


class Drawn:
    """A trace into memory."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.exporter = InMemorySpanExporter()
        self.trace = SpanTrace(self.exporter, service="tumours", replica="replica-1", clock=self.clock)

    def request(self, outcome: Outcome = Outcome.ANSWERED, **stages: float | None) -> Timing:
        """Draw a request that ended now and took a millisecond for each stage."""
        end_s = self.clock.monotonic_s()
        named = ("begun_s", "opened_s", "queued_s", "started_s", "computed_s", "encoded_s", "finished_s")
        values: dict[str, Any] = {n: end_s - (6 - i) / 1000 for i, n in enumerate(named)}
        timing = Timing(is_inference=True, rows=3, body_bytes=1024, **{**values, **stages})
        self.trace(outcome, timing)
        return timing

    def spans(self) -> dict[str, ReadableSpan]:
        """Return what was exported, by name; every name once."""
        self.trace.close()
        found = self.exporter.get_finished_spans()
        assert len({span.name for span in found}) == len(found)
        return {span.name: span for span in found}


def took_ns(span: ReadableSpan) -> int:
    assert span.start_time is not None
    assert span.end_time is not None
    return span.end_time - span.start_time


@pytest.fixture
def drawn() -> Iterator[Drawn]:
    made = Drawn()
    yield made
    made.trace.close()


class TestSpans:
    """One for the request, one for each stage below it."""

    def test_each_stage_is_a_child_of_the_request(self, drawn: Drawn) -> None:
        drawn.request()
        spans = drawn.spans()
        request = spans.pop(REQUEST_SPAN)
        assert request.parent is None
        assert set(spans) == {name for name, _, _ in STAGES}
        for span in spans.values():
            assert span.parent is not None
            assert span.parent.span_id == request.context.span_id
            assert not span.attributes

    def test_times_are_those_of_the_stages(self, drawn: Drawn) -> None:
        drawn.request()
        spans = drawn.spans()
        request = spans.pop(REQUEST_SPAN)
        end_ns = int(START.timestamp() * 1e9)
        assert request.end_time == pytest.approx(end_ns, abs=1000)
        assert took_ns(request) == pytest.approx(6e6, abs=2000)
        for span in spans.values():
            assert took_ns(span) == pytest.approx(1e6, abs=2000), span.name

    def test_a_stage_that_was_not_reached_is_not_drawn(self, drawn: Drawn) -> None:
        drawn.request(Outcome.OVERLOADED, started_s=None, computed_s=None, encoded_s=None)
        assert set(drawn.spans()) == {REQUEST_SPAN, "s3ml.open", "s3ml.decode"}

    def test_attributes_are_on_the_list_and_say_no_more_than_that(self, drawn: Drawn) -> None:
        drawn.request(Outcome.FAILED)
        request = drawn.spans()[REQUEST_SPAN]
        assert dict(request.attributes or {}) == {
            "s3ml.service": "tumours",
            "s3ml.outcome": "failed",
            "http.request.body.size": 1024,
        }
        assert set(request.attributes or {}) == ATTRIBUTES
        assert set(request.resource.attributes) == RESOURCE

    def test_the_environment_adds_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", f"note={SECRET}")
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
        drawn = Drawn()
        drawn.request()
        request = drawn.spans()[REQUEST_SPAN]
        assert set(request.resource.attributes) == RESOURCE

    def test_ten_a_second_are_enough(self, drawn: Drawn) -> None:
        for _ in range(50):
            drawn.request()
        drawn.clock.elapsed_s += LEAST_GAP_S
        drawn.request()
        drawn.trace.close()
        names = [span.name for span in drawn.exporter.get_finished_spans()]
        assert names.count(REQUEST_SPAN) == 2

    def test_a_queue_that_is_full_drops_and_does_not_wait(self) -> None:
        gate, drawn = threading.Event(), Drawn()
        export = drawn.exporter.export

        def hanging(spans: Any) -> Any:
            gate.wait(DEADLINE_S)
            return export(spans)

        drawn.exporter.export = hanging  # type: ignore[method-assign]
        for _ in range(QUEUE_SPANS):
            drawn.request()
            drawn.clock.elapsed_s += LEAST_GAP_S
        gate.set()
        drawn.trace.close()
        spans = drawn.exporter.get_finished_spans()
        assert QUEUE_SPANS / 2 < len(spans) <= QUEUE_SPANS + BATCH_SPANS

    def test_a_request_without_an_end_is_not_drawn(self, drawn: Drawn) -> None:
        drawn.request(finished_s=None)
        assert drawn.spans() == {}


class TestReplica:
    """What a whole replica draws."""

    async def test_a_request_is_drawn_with_its_outcome_and_size(self, serving_replica: Replica) -> None:
        seen: list[tuple[Outcome, Timing]] = []
        serving_replica.app._trace = lambda outcome, timing: seen.append((outcome, timing))
        rows = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 1, 1]}
        await serving_replica.ask_json("POST", "/v2/models/tumours/infer", {"inputs": [rows]})
        await serving_replica.ask_json("POST", "/v2/models/tumours/infer", {})
        await serving_replica.post(b"nothing that opens")

        (first, computed), (second, mistake) = seen
        assert (first, second) == (Outcome.ANSWERED, Outcome.ANSWERED)
        assert None not in (computed.started_s, computed.computed_s, computed.encoded_s, computed.finished_s)
        assert (mistake.queued_s, mistake.started_s) == (None, None)
        assert computed.body_bytes > 0


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes what is exported."""

    received: ClassVar[list[tuple[str, bytes]]] = []
    arrived: ClassVar[threading.Condition] = threading.Condition()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        with self.arrived:
            self.received.append((f"{self.path}\n{self.headers}", body))
            self.arrived.notify_all()
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""

    @classmethod
    def wait_for(cls, *, requests: int) -> None:
        """Wait until the spans of so many requests have come."""
        with cls.arrived:
            assert cls.arrived.wait_for(
                lambda: sum(span.name == REQUEST_SPAN for span in exported()) >= requests, DEADLINE_S
            )


@pytest.fixture
def collector() -> Iterator[str]:
    Collector.received.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@dataclass
class Child:
    """A traced model server in a process of its own."""

    world: World
    folder: Path
    errors: str = ""
    answered: list[int] = field(default_factory=list)

    @contextmanager
    def running(self, endpoint: str) -> Iterator["Child"]:
        """Serve until the block ends, then end in order."""
        self.world.publish(linear())
        self.config = self.world.begin_epoch()
        release = self.folder / "release.json"
        release.write_bytes(msgspec.json.encode(self.world.release()))
        command = [sys.executable, str(CHILD), "0", str(self.world.store), str(release), "35", endpoint]
        environment = {"HOME": str(self.folder), "PATH": os.environ["PATH"]}
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stderr is not None
            try:
                self.port = int(json.loads(process.stderr.readline())["address"].rpartition(":")[2])
                self.wait_until_ready()
                yield self
                process.send_signal(signal.SIGTERM)
                assert process.wait(timeout=DEADLINE_S) == 0
                self.errors = process.stderr.read()
            finally:
                process.kill()

    def wait_until_ready(self) -> None:
        deadline_s = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline_s:
            connection = HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
            connection.request("GET", "/v2/health/ready")
            reply = connection.getresponse()
            reply.read()
            connection.close()
            if reply.status == 200:
                return
            threading.Event().wait(0.02)
        raise AssertionError

    def ask(self, path: str, document: Any, **headers: str) -> None:
        fields = (("authorization", f"Bearer {SECRET}"),)
        content = json.dumps(document).encode()
        request = InnerRequest(method="POST", path=path, fields=fields, content=content)
        sealed = seal_request(self.config, request, date=datetime.now(UTC))
        connection = HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        fields_outside = {"content-type": "message/ohttp-req", **headers}
        connection.request("POST", "/services/tumours/ohttp", sealed.body, fields_outside)
        answer = sealed.open_response(connection.getresponse().read())
        connection.close()
        self.answered.append(answer.status)


@pytest.fixture
def child(world: World, tmp_path: Path) -> Child:
    return Child(world, tmp_path)


@pytest.mark.integration
class TestCollector:
    """What really leaves a process."""

    def test_nothing_that_was_sealed_is_exported(self, child: Child, collector: str) -> None:
        trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
        rows = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 1, 1]}
        with child.running(collector):
            good = {"id": SECRET, "inputs": [rows], "parameters": {"note": SECRET}}
            child.ask("/v2/models/tumours/infer", good, traceparent=f"00-{trace_id}-00f067aa0ba902b7-01")
            threading.Event().wait(LEAST_GAP_S)
            child.ask("/v2/models/tumours/infer", {"inputs": [{**rows, "name": SECRET}]})
            threading.Event().wait(LEAST_GAP_S)
            child.ask(f"/v2/models/{SECRET}/infer", good)
            Collector.wait_for(requests=3)  # at the end there are two seconds alone
        assert child.answered == [200, 400, 404]

        everything = b"".join(head.encode() + body for head, body in Collector.received)
        for marker in (SECRET, trace_id, "traceparent", "FP32", "models/tumours", "authorization"):
            assert marker.lower().encode() not in everything.lower(), marker
        assert bytes.fromhex(trace_id) not in everything
        assert {head.partition("\n")[0] for head, _ in Collector.received} == {"/v1/traces"}
        spans = list(exported())
        requests = [span for span in spans if span.name == REQUEST_SPAN]
        assert len(requests) == 3
        assert {attribute.key for span in spans for attribute in span.attributes} == ATTRIBUTES
        assert {span.name for span in spans} == {REQUEST_SPAN, *(name for name, _, _ in STAGES)}

    def test_a_collector_that_is_gone_disturbs_nobody(self, child: Child) -> None:
        rows = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 1, 1]}
        with refusing_port() as port, child.running(f"http://127.0.0.1:{port}"):
            for _ in range(20):
                child.ask("/v2/models/tumours/infer", {"inputs": [rows]})
        assert child.answered == [200] * 20

    def test_a_collector_that_hangs_does_not_hold_the_end(self, child: Child) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            rows = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 1, 1]}
            with child.running(f"http://127.0.0.1:{silent.getsockname()[1]}"):
                child.ask("/v2/models/tumours/infer", {"inputs": [rows]})
        assert child.answered == [200]
        assert "Traceback" not in child.errors


def exported() -> Iterator[Any]:
    for _, body in Collector.received:
        message = ExportTraceServiceRequest.FromString(body)
        for resource in message.resource_spans:
            assert {attribute.key for attribute in resource.resource.attributes} == RESOURCE
            for scope in resource.scope_spans:
                yield from scope.spans


class TestOff:
    """Without a collector there is nothing."""

    def test_nothing_is_imported(self) -> None:
        code = (
            "import sys, s3ml.modelserver.server\n"
            "print([name for name in sys.modules if name.partition('.')[0] in ('opentelemetry', 'requests')])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE_S, check=True
        )
        assert done.stdout.strip() == "[]"

    async def test_missing_libraries_are_one_clear_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "s3ml.modelserver.spans", None)
        settings = Settings(
            host="127.0.0.1",
            port=0,
            key_service=("http://127.0.0.1:1",),
            service="tumours",
            bundles="/absent",
            otlp_endpoint="http://127.0.0.1:4318",
        )
        nothing: Any = None
        with pytest.raises(ConfigurationError, match=r"no OpenTelemetry: .* s3ml\[otel\]"):
            await serve(settings, nothing, listener=nothing, clock=ManualClock(), log=nothing)
