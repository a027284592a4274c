"""The process: one event loop, one listener, one task that keeps the keys, an orderly end.

Nothing here needs more of an operating system than Gramine gives: no child processes, and SIGTERM as the
only signal that ends it in order.
"""

import asyncio
import logging
import random
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
import uvloop

from s3ml.attestation import Attester, Tee
from s3ml.bundle import ModelFiles
from s3ml.modelserver.app import ModelServer, create_app
from s3ml.modelserver.dispatch import Dispatcher
from s3ml.modelserver.enrolment import Enrolment, ReleaseSource
from s3ml.modelserver.events import EventLog, LibraryRecords
from s3ml.modelserver.execution import BulkWorker
from s3ml.modelserver.memory import MemoryBudget
from s3ml.modelserver.releases import KeyServiceReleases
from s3ml.modelserver.repository import Repository
from s3ml.modelserver.runtimes import Runtime
from s3ml.modelserver.serving import Serving
from s3ml.modelserver.settings import Settings
from s3ml.modelserver.store import BundleStore
from s3ml.primitives.clock import Clock, SystemClock
from s3ml.primitives.errors import ConfigurationError

# Includes waiting for a thread. Clients give up after 30 s by default.
INFERENCE_DEADLINE_S = 30.0
# Longer than a request may take, so that what was accepted is answered.
DRAIN_S = 35
# Above the idle time of the gateway's connections, so that the gateway closes first.
KEEP_ALIVE_S = 75
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def run(settings: Settings, attester: Attester) -> None:
    """Serve until SIGTERM or SIGINT, then finish what is in flight and return.

    Args:
        settings: Of this process.
        attester: The TEE that this code runs in.

    Raises:
        ConfigurationError: the address to listen on is taken or not this machine's.
    """
    log = EventLog(settings.replica)
    with _listen(settings) as listener:
        log.write(
            "started",
            address="{}:{}".format(*listener.getsockname()[:2]),
            service=settings.service,
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
    serving = Serving()
    bulk = BulkWorker(deadline_s=INFERENCE_DEADLINE_S)
    dispatcher = Dispatcher(
        threads=settings.inference_threads,
        deadline_s=INFERENCE_DEADLINE_S,
        monotonic_s=clock.monotonic_s,
        observe=lambda _run: None,
        apart=lambda model: log.write("batching-stopped", model=model.name, version=model.version),
    )
    repository = Repository(
        BundleStore(settings.bundles),
        open_runtime=_open_runtime,
        budget=MemoryBudget(settings.model_memory_bytes),
        log=log,
    )
    enrolment = Enrolment(
        source,
        repository=repository,
        serving=serving,
        clock=clock,
        log=log,
        draw=random.random,
    )
    app = create_app(
        settings,
        serving,
        repository=repository,
        dispatcher=dispatcher,
        bulk=bulk,
        clock=clock,
        log=log,
        on_unknown=enrolment.want_renewal,
    )
    server = _Server(_config(app))
    with _library_records(log), _draining_on_signal(server, serving, app, log):
        try:
            async with asyncio.TaskGroup() as group:
                enrolling = group.create_task(enrolment.run())
                warming = group.create_task(bulk.run(_import_runtime))
                await server.serve(sockets=[listener])
                enrolling.cancel()
                warming.cancel()
        finally:
            serving.wipe()
            dispatcher.close()
            bulk.close()


class _Server(uvicorn.Server):
    """Uvicorn without its signal handling, which ends a process by the signal instead of with status 0."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `_draining_on_signal`."""
        yield


def _config(app: ModelServer) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="none",
        http="httptools",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_S,
    )


@contextmanager
def _draining_on_signal(
    server: uvicorn.Server, serving: Serving, app: ModelServer, log: EventLog
) -> Iterator[None]:
    """Turn SIGTERM and SIGINT into an orderly end: unready at once, no new connections, then finish."""

    def drain() -> None:
        if not serving.is_draining:
            log.write("draining", in_flight=app.admission.in_flight)
        serving.is_draining = True
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, drain)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


@contextmanager
def _library_records(log: EventLog) -> Iterator[None]:
    """Send what libraries say, reduced, to the event log."""
    root, handler = logging.getLogger(), LibraryRecords(log)
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)


@contextmanager
def _listen(settings: Settings) -> Iterator[socket.socket]:
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigurationError(
            f"S3ML_LISTEN: cannot listen on {settings.host}:{settings.port}: {error.strerror}"
        ) from error
    with listener:
        yield listener


def _import_runtime() -> None:
    """Import the runtime while the process waits for its keys anyway."""
    from s3ml.modelserver.runtimes import onnx  # noqa: F401, PLC0415


def _open_runtime(files: ModelFiles) -> Runtime:
    from s3ml.modelserver.runtimes.onnx import open_model  # noqa: PLC0415

    return open_model(files)
