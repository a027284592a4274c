"""The ASGI application: what is visible outside the seal, and the way into it.

Before a request is open, errors are plain: 400, 404, 413 or 503, alike for everybody. Once it is open, every
answer is an outer 200, and everything about it is sealed. Outer header fields never reach what is inside.

Source: docs/spec/model-server.md; RFC 9458, section 5.
"""

import dataclasses
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
from s3ml.modelserver.metrics import MEDIA_TYPE, Metrics, Outcome
from s3ml.modelserver.replies import (
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
from s3ml.modelserver.serving import Serving
from s3ml.modelserver.settings import Settings
from s3ml.primitives.clock import Clock
from s3ml.primitives.errors import UntrustedPeerError
from s3ml.primitives.units import MIB
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
REPLICA_FIELD = "s3ml-replica"
_SERVER_ERROR = 500
_REFUSALS = (401, 403, 429)

# What went wrong before opening, the plain reply, and what is counted; the first that fits.
_TABLE: tuple[tuple[tuple[type[Exception], ...], Reply, Outcome], ...] = (
    ((OverloadedError, DeadlineError), OVERLOADED, Outcome.OVERLOADED),
    ((RequestTooLargeError,), TOO_LARGE, Outcome.REJECTED),
    ((UnknownKeyError,), UNKNOWN_KEY, Outcome.REJECTED),
    ((UntrustedPeerError, BodyIncompleteError), REJECTED, Outcome.REJECTED),
    ((Exception,), FAULT, Outcome.FAILED),
)


def create_app(
    settings: Settings,
    serving: Serving,
    *,
    repository: Repository,
    dispatcher: Dispatcher,
    bulk: BulkWorker,
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
        log=log,
        on_unknown=on_unknown,
    )
    return ModelServer(
        settings,
        serving,
        inference=inference,
        dispatcher=dispatcher,
        bulk=bulk,
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
        "_serving",
        "admission",
    )

    def __init__(
        self,
        settings: Settings,
        serving: Serving,
        *,
        inference: Inference,
        dispatcher: Dispatcher,
        bulk: BulkWorker,
        clock: Clock,
        log: EventLog,
        on_unknown: Callable[[], None],
    ) -> None:
        self._on_unknown = on_unknown
        self._serving = serving
        self._inference = inference
        self._dispatcher = dispatcher
        self._bulk = bulk
        self._clock = clock
        self._log = log
        self._path = f"/services/{settings.service}/ohttp"
        self._replica = ((REPLICA_FIELD, settings.replica),)
        self._limits = SealLimits(max_request_bytes=settings.max_request_bytes)
        self._metrics = Metrics(settings.service)
        self._replays = SharedReplayGuard()
        self.admission = Admission(
            budget_bytes=2 * BUDGET_REQUESTS * settings.max_request_bytes, max_requests=MAX_REQUESTS
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
        content = self._metrics.render(
            is_ready=self._serving.unready_phase(now_s) is None, models=len(self._serving.models), now_s=now_s
        )
        return Reply(status=200, media_type=MEDIA_TYPE, content=content)

    async def _sealed(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Admit and reply; the reservation lasts until the reply is on its way."""
        try:
            with self.admission.reserve() as reservation:
                await self._send(send, await self._reply(scope, receive, reservation))
        except OverloadedError:
            self._metrics.count(Outcome.OVERLOADED)
            await self._send(send, OVERLOADED)
        except ClientGoneError:
            self._metrics.count(Outcome.ABANDONED)

    async def _reply(self, scope: Scope, receive: Receive, reservation: Reservation) -> Reply:
        """Read, open, answer and seal; whatever fails before opening becomes the plain reply of the table."""
        door = self._serving.door(self._clock.monotonic_s())
        if door is None:
            self._metrics.count(Outcome.OVERLOADED)
            return NO_KEYS
        headers = dict(scope["headers"])
        if headers.get(b"content-type", b"").lower() != REQUEST_MEDIA_TYPE.encode():
            self._metrics.count(Outcome.REJECTED)
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
            reply, outcome = next((r, o) for kinds, r, o in _TABLE if isinstance(error, kinds))
            if reply is UNKNOWN_KEY:
                self._on_unknown()
            if reply is FAULT:
                self._log.write("fault", error=type(error).__name__)
            self._metrics.count(outcome)
            return reply

    async def _answer(
        self, ring: KeyRing, gate: Gate, reading: Callable[[], Awaitable[bytes]], receive: Receive
    ) -> bytes:
        """Return the sealed answer to a sealed request; only what precedes its opening raises.

        The sealed body is held by nobody once it is open: while a model computes there are the plaintext and,
        where it is batched, its place in the batch.
        """
        try:
            opened = await self._open(ring, gate, await reading())
        except AnsweredError as error:
            self._record(error.response.status)
            return error.sealed_answer()
        answering = self._inference.answer(opened.route, opened.request)
        if self._dispatcher.is_busy:  # Who waits may leave, and should free their place then.
            response = await unless_gone(receive, answering)
        else:
            response = await answering
        return await self._seal(opened, response)

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

    async def _seal(self, opened: OpenedRequest, response: InnerResponse) -> bytes:
        response = dataclasses.replace(response, fields=(*response.fields, *self._replica))
        if len(response.content) >= OFF_LOOP_BYTES:
            try:
                sealed = await self._bulk.run(opened.seal_response, response)
            except DeadlineError as error:
                response = error_response(504, f"reply: {error}", *self._replica)
            else:
                self._record(response.status)
                return sealed
        self._record(response.status)
        return opened.seal_response(response)

    def _record(self, status: int) -> None:
        self._serving.health.record(status, now_s=self._clock.monotonic_s())
        if status in _REFUSALS:
            self._metrics.count(Outcome.REFUSED)
        else:
            self._metrics.count(Outcome.FAILED if status >= _SERVER_ERROR else Outcome.ANSWERED)

    async def _send(self, send: Send, reply: Reply) -> None:
        headers = reply.headers(is_draining=self._serving.is_draining)
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.content})
