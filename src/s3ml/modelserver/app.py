"""The ASGI application: what is visible outside the seal, and the way into it.

Before a request is open, errors are plain: 400, 404, 413 or 503, alike for everybody. Once it is open, every
answer is an outer 200, and everything about it is sealed. Outer header fields never reach what is inside.

Source: docs/spec/model-server.md; RFC 9458, section 5.
"""

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any

from s3ml.modelserver.admission import Admission, OverloadedError, Reservation
from s3ml.modelserver.bodies import BodyIncompleteError, ClientGoneError, Receive, read_body, unless_gone
from s3ml.modelserver.callers import Gate, open_identified
from s3ml.modelserver.dispatch import Dispatcher
from s3ml.modelserver.events import EventLog
from s3ml.modelserver.execution import BulkWorker, DeadlineError
from s3ml.modelserver.inference import Inference, error_response
from s3ml.modelserver.keys import SharedReplayGuard
from s3ml.modelserver.memory import resident_bytes
from s3ml.modelserver.metrics import Gauges, Metrics, Rejection
from s3ml.modelserver.replies import (
    ENDING,
    FAULT,
    NO_KEYS,
    NOT_FOUND,
    OVERLOADED,
    REJECTED,
    TOO_LARGE,
    UNKNOWN_KEY,
    Reply,
    json_reply,
    sealed_reply,
)
from s3ml.modelserver.repository import Repository
from s3ml.modelserver.repository_endpoints import RepositoryEndpoints
from s3ml.modelserver.samples import MEDIA_TYPE
from s3ml.modelserver.serving import Serving
from s3ml.modelserver.settings import Settings
from s3ml.modelserver.tally import Outcome
from s3ml.modelserver.timing import Timing
from s3ml.modelserver.tracing import Trace
from s3ml.primitives.clock import Clock
from s3ml.primitives.errors import UntrustedPeerError
from s3ml.primitives.units import KIB, MIB
from s3ml.wire.errors import RequestTooLargeError, UnknownKeyError
from s3ml.wire.ohttp import REQUEST_MEDIA_TYPE
from s3ml.wire.oip import Limits
from s3ml.wire.sealed import AnsweredError, InnerResponse, KeyRing, OpenedRequest, SealLimits

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

# Four of the largest requests at a time, whatever their number otherwise.
BUDGET_REQUESTS = 4
MAX_REQUESTS = 512
# Measured: a MiB more to open or seal takes about 0.2 ms, handing it to a thread 0.03 to 0.14 ms.
OFF_LOOP_BYTES = MIB
# What the engine buffers at most without being asked to wait.
LARGE_REPLY_BYTES = 64 * KIB
REPLICA_FIELD = "s3ml-replica"

# What went wrong before opening, the plain reply, and what is counted; the first that fits.
_TABLE: tuple[tuple[type[Exception], Reply, Rejection], ...] = (
    (OverloadedError, OVERLOADED, Rejection.BUDGET),
    (DeadlineError, OVERLOADED, Rejection.BUSY),
    (RequestTooLargeError, TOO_LARGE, Rejection.TOO_LARGE),
    (UnknownKeyError, UNKNOWN_KEY, Rejection.UNKNOWN_KEY),
    (BodyIncompleteError, REJECTED, Rejection.INCOMPLETE),
    (UntrustedPeerError, REJECTED, Rejection.UNOPENED),
    (Exception, FAULT, Rejection.FAULT),
)


def create_app(
    settings: Settings,
    serving: Serving,
    *,
    repository: Repository,
    dispatcher: Dispatcher,
    bulk: BulkWorker,
    metrics: Metrics,
    trace: Trace,
    clock: Clock,
    log: EventLog,
    on_unknown: Callable[[], None],
) -> "ModelServer":
    """Compose the application of one process.

    Args:
        settings: Of this process.
        serving: Keys, models and phase, which enrolment keeps up to date.
        repository: Where models come from and go to.
        dispatcher: Where models compute.
        bulk: Where large bodies are opened, read, written and sealed.
        metrics: Of this process.
        trace: Draws each opened request, once it has ended.
        clock: For dates inside requests, and for leases.
        log: For faults.
        on_unknown: Called when a request names a key or a model that is not here: perhaps it is new.
    """
    inference = Inference(
        lambda: serving.models,
        dispatcher=dispatcher,
        bulk=bulk,
        repository=RepositoryEndpoints(repository, changed=serving.replace_models),
        limits=Limits(content_bytes=settings.max_request_bytes),
        clock=clock,
        log=log,
        on_unknown=on_unknown,
    )
    return ModelServer(
        settings,
        serving,
        inference=inference,
        repository=repository,
        dispatcher=dispatcher,
        bulk=bulk,
        metrics=metrics,
        trace=trace,
        clock=clock,
        log=log,
        on_unknown=on_unknown,
    )


class ModelServer:
    """A bare ASGI application; see `create_app`."""

    __slots__ = (
        "_bulk",
        "_clock",
        "_dispatcher",
        "_inference",
        "_limits",
        "_log",
        "_metrics",
        "_on_unknown",
        "_path",
        "_replays",
        "_replica",
        "_repository",
        "_serving",
        "_trace",
        "admission",
    )

    def __init__(
        self,
        settings: Settings,
        serving: Serving,
        *,
        inference: Inference,
        repository: Repository,
        dispatcher: Dispatcher,
        bulk: BulkWorker,
        metrics: Metrics,
        trace: Trace,
        clock: Clock,
        log: EventLog,
        on_unknown: Callable[[], None],
    ) -> None:
        self._on_unknown = on_unknown
        self._serving = serving
        self._inference = inference
        self._repository = repository
        self._dispatcher = dispatcher
        self._bulk = bulk
        self._clock = clock
        self._log = log
        self._path = f"/services/{settings.service}/ohttp"
        self._replica = ((REPLICA_FIELD, settings.replica),)
        self._limits = SealLimits(max_request_bytes=settings.max_request_bytes)
        self._metrics = metrics
        self._trace = trace
        self._replays = SharedReplayGuard()
        self.admission = Admission(
            budget_bytes=2 * BUDGET_REQUESTS * settings.max_request_bytes,
            max_requests=MAX_REQUESTS,
            monotonic_s=clock.monotonic_s,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        if scope["type"] != "http":
            return
        match scope["method"], scope["path"]:
            case "POST", path if path == self._path:
                await self._sealed(scope, receive, send)
            case "GET", "/v2/health/live":
                await self._send(send, json_reply(200, {"live": True}))
            case "GET", "/v2/health/ready":
                await self._send(send, self._readiness())
            case "GET", "/metrics":
                await self._send(send, self._samples())
            case _:
                await self._send(send, NOT_FOUND)

    def _readiness(self) -> Reply:
        phase = self._serving.unready_phase(self._clock.monotonic_s())
        if phase is None:
            return json_reply(200, {"ready": True})
        return json_reply(503, {"ready": False, "phase": phase})

    def _samples(self) -> Reply:
        now_s = self._clock.monotonic_s()
        content = self._metrics.render(partial(self._gauges, now_s), now_s=now_s)
        return Reply(status=200, media_type=MEDIA_TYPE, content=content)

    def _gauges(self, now_s: float) -> Gauges:
        budget = self._repository.budget
        return Gauges(
            is_ready=self._serving.unready_phase(now_s) is None,
            is_draining=self._serving.is_draining,
            models=Counter(entry.state for entry in self._repository.index()),
            in_flight=self.admission.in_flight,
            pending=self._dispatcher.pending,
            reserved_bytes=self.admission.reserved_bytes,
            budget_bytes=self.admission.budget_bytes,
            lease_s=self._serving.lease_left_s(now_s),
            memory_bytes=budget.held_bytes,
            memory_budget_bytes=budget.capacity_bytes,
            resident_bytes=resident_bytes(),
        )

    async def _sealed(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Admit and reply; the reservation lasts until the reply is on its way."""
        try:
            with self.admission.reserve() as reservation:
                try:
                    reply = await self._reply(scope, receive, reservation)
                except asyncio.CancelledError:
                    # The process ends, and this took too long: so told, the client goes to another replica.
                    self._metrics.reject(Rejection.ENDING)
                    await self._send(send, ENDING)
                    raise
                await self._send(send, reply)
        except OverloadedError:
            self._metrics.reject(Rejection.TOO_MANY)
            await self._send(send, OVERLOADED)
        except ClientGoneError:
            return

    async def _reply(self, scope: Scope, receive: Receive, reservation: Reservation) -> Reply:
        """Read, open, answer and seal; whatever fails before opening becomes the plain reply of the table."""
        door = self._serving.door(self._clock.monotonic_s())
        if door is None:
            self._metrics.reject(Rejection.NO_KEYS)
            return NO_KEYS
        headers = dict(scope["headers"])
        if headers.get(b"content-type", b"").lower() != REQUEST_MEDIA_TYPE.encode():
            self._metrics.reject(Rejection.MEDIA_TYPE)
            return REJECTED
        reading = partial(
            read_body,
            receive,
            headers.get(b"content-length"),
            reservation=reservation,
            limit_bytes=self._limits.max_request_bytes,
        )
        try:
            return sealed_reply(await self._answer(*door, reading, receive))
        except ClientGoneError:
            raise
        except Exception as error:  # noqa: BLE001 - the last line: no traceback leaves with a request in it
            reply, rejection = next((r, o) for kind, r, o in _TABLE if isinstance(error, kind))
            if reply is UNKNOWN_KEY:
                self._on_unknown()
            if reply is FAULT:
                self._log.write("fault", error=type(error).__name__)
            self._metrics.reject(rejection)
            return reply

    async def _answer(
        self, ring: KeyRing, gate: Gate, reading: Callable[[], Awaitable[bytes]], receive: Receive
    ) -> bytes:
        """Return the sealed answer to a sealed request; only what precedes its opening raises.

        The sealed body is held by nobody once it is open: while a model computes there are the plaintext and,
        where it is batched, its place in the batch.
        """
        body = await reading()
        timing = Timing(begun_s=self._clock.monotonic_s(), body_bytes=len(body))
        opening = self._open(ring, gate, body)
        del body
        try:
            opened = await opening
        except AnsweredError as error:
            sealed = error.sealed_answer()
            self._record(error.response.status, timing)
            return sealed
        timing.opened_s = self._clock.monotonic_s()
        answering = self._inference.answer(opened.route, opened.request, timing)
        try:
            # Who waits may leave, and should free their place then.
            response = await (unless_gone(receive, answering) if self._dispatcher.is_slow else answering)
        except ClientGoneError:
            timing.finished_s = self._clock.monotonic_s()
            self._metrics.cancel(timing)
            self._trace(Outcome.ABANDONED, timing)
            raise
        status, sealed = await self._seal(opened, response)
        self._record(status, timing)
        return sealed

    async def _open(self, ring: KeyRing, gate: Gate, body: bytes) -> OpenedRequest:
        work = partial(
            open_identified,
            ring,
            gate,
            body,
            limiter=self._serving.rates,
            clock=self._clock,
            replays=self._replays,
            limits=self._limits,
        )
        return work() if len(body) < OFF_LOOP_BYTES else await self._bulk.run(work)

    async def _seal(self, opened: OpenedRequest, response: InnerResponse) -> tuple[int, bytes]:
        """Return a sealed answer with its status, which is another one where sealing takes too long."""
        response = dataclasses.replace(response, fields=(*response.fields, *self._replica))
        if len(response.content) < OFF_LOOP_BYTES:
            return response.status, opened.seal_response(response)
        try:
            return response.status, await self._bulk.run(opened.seal_response, response)
        except DeadlineError as error:
            late = error_response(504, f"reply: {error}", *self._replica)
            return late.status, opened.seal_response(late)

    def _record(self, status: int, timing: Timing) -> None:
        timing.finished_s = self._clock.monotonic_s()
        if not timing.was_turned_away(status):
            self._serving.health.record(status, now_s=timing.finished_s)
        self._metrics.answer(status, timing)
        self._trace(Outcome.of(status), timing)

    async def _send(self, send: Send, reply: Reply) -> None:
        """Send a reply; a large one is sent when its receiver has taken most of it."""
        headers = reply.headers(is_draining=self._serving.is_draining)
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        is_large = len(reply.content) > LARGE_REPLY_BYTES
        await send({"type": "http.response.body", "body": reply.content, "more_body": is_large})
        if is_large:
            await send({"type": "http.response.body"})
