"""The process: one event loop, one listener, one task that keeps the keys, an orderly end.

Nothing here needs more of an operating system than Gramine gives: no child processes, and SIGTERM as the
only signal that ends it in order.
"""

import asyncio
import logging
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvloop

import s3ml
from s3ml.attestation import Attester, Tee
from s3ml.listening import DrainingServer, http_config, listen
from s3ml.modelserver.app import ModelServer, create_app
from s3ml.modelserver.dispatch import Dispatcher
from s3ml.modelserver.enrolment import Enrolment, ReleaseSource
from s3ml.modelserver.events import EventLog, LibraryRecords
from s3ml.modelserver.execution import BulkWorker
from s3ml.modelserver.memory import MemoryBudget
from s3ml.modelserver.metrics import Metrics
from s3ml.modelserver.releases import KeyServiceReleases
from s3ml.modelserver.repository import Repository
from s3ml.modelserver.runtimes import import_only_runtime, open_model
from s3ml.modelserver.serving import Serving
from s3ml.modelserver.settings import Settings
from s3ml.modelserver.store import BundleStore
from s3ml.modelserver.tracing import Trace, untraced
from s3ml.primitives.clock import Clock, SystemClock
from s3ml.primitives.errors import ConfigurationError

# Includes waiting for a thread. Clients give up after 30 s by default.
INFERENCE_DEADLINE_S = 30.0


def run(settings: Settings, attester: Attester) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in flight and return.

    Args:
        settings: Of this process.
        attester: The TEE that this code runs in.

    Raises:
        ConfigurationError: the address to listen on is taken or not this machine's.
    """
    log = EventLog(settings.replica)
    with listen(settings.host, settings.port, setting="S3ML_LISTEN") as listener:
        log.write(
            "started",
            address="{}:{}".format(*listener.getsockname()[:2]),
            service=settings.service,
            version=s3ml.__version__,
            simulated=attester.tee is Tee.SIMULATED,
        )
        source = KeyServiceReleases(settings.key_service, settings.service, attester)
        uvloop.run(serve(settings, source, listener=listener, clock=SystemClock(), log=log))
    log.write("stopped")


async def serve(
    settings: Settings, source: ReleaseSource, *, listener: socket.socket, clock: Clock, log: EventLog
) -> None:
    """Serve on `listener` until the process is asked to end.

    Args:
        settings: Of this process.
        source: Where keys come from.
        listener: Bound and listening.
        clock: Of this machine.
        log: For everything.
    """
    with _tracing(settings, clock) as trace:
        await _serve(settings, _compose(settings, source, trace=trace, clock=clock, log=log), listener, log)


async def _serve(settings: Settings, parts: "_Parts", listener: socket.socket, log: EventLog) -> None:
    """Serve until the end, in order."""

    def announce() -> None:
        log.write("draining", in_flight=parts.app.admission.in_flight, wait_s=settings.drain_s)
        parts.serving.is_draining = True

    config = http_config(app=parts.app, grace_s=settings.drain_s, lifespan="off")
    server = DrainingServer(config, announce=announce)
    with _library_records(log):
        try:
            async with asyncio.TaskGroup() as group:
                enrolling = group.create_task(parts.enrolment.run())
                warming = group.create_task(parts.bulk.run(import_only_runtime))
                await server.serve(sockets=[listener])
                if given_up := len(server.server_state.tasks):
                    log.write("given-up", in_flight=given_up)
                enrolling.cancel()
                warming.cancel()
        finally:
            parts.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What one process consists of."""

    serving: Serving
    enrolment: Enrolment
    dispatcher: Dispatcher
    bulk: BulkWorker
    app: ModelServer

    def close(self) -> None:
        """Let go of keys, models and threads."""
        self.serving.wipe()
        self.dispatcher.close()
        self.bulk.close()


def _compose(
    settings: Settings, source: ReleaseSource, *, trace: Trace, clock: Clock, log: EventLog
) -> _Parts:
    serving = Serving()
    metrics = Metrics(settings.service, started_at_s=clock.now().timestamp())
    bulk = BulkWorker(deadline_s=INFERENCE_DEADLINE_S)
    dispatcher = Dispatcher(
        threads=settings.inference_threads,
        deadline_s=INFERENCE_DEADLINE_S,
        monotonic_s=clock.monotonic_s,
        observe=lambda run: metrics.execute(rows=run.rows),
        apart=lambda model: log.write("batching-stopped", model=model.name, version=model.version),
    )
    repository = Repository(
        BundleStore(settings.bundles),
        open_runtime=open_model,
        budget=MemoryBudget(settings.model_memory_bytes),
        log=log,
    )
    enrolment = Enrolment(
        source, repository=repository, serving=serving, clock=clock, log=log, draw=random.random
    )
    app = create_app(
        settings,
        serving,
        repository=repository,
        dispatcher=dispatcher,
        bulk=bulk,
        metrics=metrics,
        trace=trace,
        clock=clock,
        log=log,
        on_unknown=enrolment.want_renewal,
    )
    return _Parts(serving=serving, enrolment=enrolment, dispatcher=dispatcher, bulk=bulk, app=app)


@contextmanager
def _tracing(settings: Settings, clock: Clock) -> Iterator[Trace]:
    """Draw requests for a collector where there is one; the libraries are imported only then.

    Raises:
        ConfigurationError: the libraries are not here.
    """
    if settings.otlp_endpoint is None:
        yield untraced
        return
    try:
        from s3ml.modelserver.spans import SpanTrace, otlp_exporter  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError(
            "S3ML_OTLP_ENDPOINT: this installation has no OpenTelemetry: leave it out, or install s3ml[otel]"
        ) from error
    exporter = otlp_exporter(settings.otlp_endpoint)
    trace = SpanTrace(exporter, service=settings.service, replica=settings.replica, clock=clock)
    try:
        yield trace
    finally:
        trace.close()


@contextmanager
def _library_records(log: EventLog) -> Iterator[None]:
    """Send what libraries say, reduced, to the event log."""
    root, handler = logging.getLogger(), LibraryRecords(log)
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
