"""The key service over HTTP: limits first, exact types, one table from errors to statuses.

Every route has a bound on what runs and on what waits; a body is refused by its announced length before it is
read, and reading it has a deadline.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from s3ml.attestation import EvidenceMalformedError, EvidenceRejectedError
from s3ml.keyservice.bodies import BodyTooLargeError, Readers
from s3ml.keyservice.documents import (
    ChallengeReply,
    ChallengeRequest,
    ContributionRequest,
    ControlMessage,
    ErrorReply,
    GenesisRequest,
    Mismatch,
    RecoveryAsk,
    ReleaseRequest,
    TrustBundleRequest,
)
from s3ml.keyservice.documents.joining import (
    JOIN_HELLO_LIMIT_BYTES,
    JOIN_REQUEST_LIMIT_BYTES,
    JoinHello,
    JoinRequest,
)
from s3ml.keyservice.errors import BusyError, ConflictError, NotFoundError, RefusedError, mismatch
from s3ml.keyservice.events import EventLog
from s3ml.keyservice.fields import CONTROL_LIMIT_BYTES, GENESIS_LIMIT_BYTES, REQUEST_LIMIT_BYTES
from s3ml.keyservice.log import LogTamperedError
from s3ml.keyservice.metrics import CONTENT_TYPE as METRICS_TYPE
from s3ml.keyservice.parsing import encode_document, parse_document
from s3ml.keyservice.rates import TooManyRequestsError
from s3ml.keyservice.service import KeyService
from s3ml.primitives.aead import StorageTamperedError
from s3ml.primitives.envelope import Envelope
from s3ml.primitives.errors import ConfigurationError, S3MLError, UnavailableError, UntrustedPeerError

RETRY_AFTER_S = 1.0
READERS = 512  # of at most 256 KiB each
LARGE_READERS = 64  # of up to 4 MiB each
JSON = "application/json"
PLAIN = "text/plain"
OPERATIONAL = frozenset({"/livez", "/readyz", "/metrics"})  # a flood must not look like a failure
_TOO_MANY = 429
_UNAVAILABLE = 503
_LINE_LIMIT = 2000
_INDEX_DIGITS = 18

_T = TypeVar("_T")
_Handler = Callable[[Request], Awaitable[Response]]


# The first that matches, from the most particular on.
STATUSES: tuple[tuple[type[S3MLError], int], ...] = (
    (LogTamperedError, 503),
    (StorageTamperedError, 503),
    (TooManyRequestsError, 429),
    (UnavailableError, 503),
    (BodyTooLargeError, 413),
    (NotFoundError, 404),
    (ConflictError, 409),
    (EvidenceMalformedError, 400),
    (UntrustedPeerError, 403),
    (ConfigurationError, 400),
)


class Gate:
    """Let a bounded number of requests run, and a bounded number wait for that.

    Args:
        running: How many run at once.
        waiting: How many wait at most; one more is turned away.
    """

    def __init__(self, *, running: int, waiting: int) -> None:
        self._slots = asyncio.Semaphore(running)
        self._waiting_limit = waiting
        self._waiting = 0

    @asynccontextmanager
    async def enter(self) -> AsyncIterator[None]:
        """Wait for a slot and hold it.

        Raises:
            BusyError: too many wait already.
        """
        if self._waiting >= self._waiting_limit:
            raise BusyError("key service: too many requests wait", retry_after_s=RETRY_AFTER_S)
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._slots.release()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limits:
    """The limits of one route.

    Args:
        running: How many requests run at once.
        waiting: How many wait at most.
        body_bytes: The largest body.
    """

    running: int = 64
    waiting: int = 256
    body_bytes: int = REQUEST_LIMIT_BYTES


def create_app(service: KeyService, events: EventLog) -> Starlette:
    """Return the ASGI application of `service`, whose background work lives as long as the application."""
    edge = _Edge(service, events)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            background = tasks.create_task(service.run())
            yield
            background.cancel()

    return Starlette(
        routes=edge.routes(), lifespan=lifespan, exception_handlers={HTTPException: edge.no_such_route}
    )


class _Edge:
    """The handlers of one application."""

    def __init__(self, service: KeyService, events: EventLog) -> None:
        self._service = service
        self._events = events
        self._readers, self._large_readers = Readers(READERS), Readers(LARGE_READERS)

    def routes(self) -> list[Route]:
        """Return every route with its limits."""
        service, get = self._service, self._get
        return [
            *self._owners(),
            *self._enclaves(),
            self._post("/v1/trust-bundle", TrustBundleRequest, service.trust_bundle, _Limits(running=4096)),
            get("/v1/deployment", lambda _: encode_document(service.deployment())),
            get("/v1/status", lambda _: encode_document(service.status())),
            self._newest("/v1/authority", lambda _: encode_document(service.authority())),
            self._newest("/v1/resources", lambda _: encode_document(service.resources())),
            Route("/v1/entries", self._guarded("/v1/entries", self._entries), methods=["GET"]),
            Route("/v1/audit", self._guarded("/v1/audit", self._audit), methods=["GET"]),
            self._newest("/v1/checkpoint", lambda _: service.checkpoint().encode(), PLAIN),
            get("/livez", lambda _: b"live\n", PLAIN),
            Route("/readyz", self._guarded("/readyz", self._ready), methods=["GET"]),
            get("/metrics", lambda _: service.metrics.render(service.gauges()).encode(), METRICS_TYPE),
        ]

    def _owners(self) -> list[Route]:
        """Return what owners and holders of shares ask."""
        service, post = self._service, self._post
        one = _Limits(running=1, waiting=16)
        begins = replace(one, body_bytes=GENESIS_LIMIT_BYTES)
        changes = replace(one, body_bytes=CONTROL_LIMIT_BYTES)
        shares = "/v1/recovery/shares"
        return [
            post("/v1/genesis", GenesisRequest, service.genesis, begins),
            post("/v1/control", ControlMessage, service.control, changes),
            post("/v1/acknowledge", Envelope, service.acknowledge, one),
            post("/v1/recovery/request", RecoveryAsk, service.restorer.request, one),
            post("/v1/recovery/contribution", ContributionRequest, service.restorer.contribute, one),
            Route(shares, self._guarded(shares, self._shares), methods=["GET"]),
            self._get("/v1/recovery/status", lambda _: encode_document(service.restorer.status())),
        ]

    def _enclaves(self) -> list[Route]:
        """Return what model servers and other replicas ask."""
        service, post = self._service, self._post
        hello = _Limits(body_bytes=JOIN_HELLO_LIMIT_BYTES)
        join = _Limits(running=4, body_bytes=JOIN_REQUEST_LIMIT_BYTES)
        return [
            post("/v1/challenge", ChallengeRequest, self._challenge, _Limits()),
            post("/v1/release", ReleaseRequest, service.release, _Limits(running=16)),
            post("/v1/join/offer", JoinHello, service.door.offer, hello),
            post("/v1/join", JoinRequest, service.door.join, join),
        ]

    def _post(
        self,
        path: str,
        kind: type[_T],
        answer: Callable[[_T], Awaitable[msgspec.Struct | bytes]],
        limits: "_Limits",
    ) -> Route:
        gate, limit_bytes = Gate(running=limits.running, waiting=limits.waiting), limits.body_bytes
        readers = self._readers if limit_bytes <= REQUEST_LIMIT_BYTES else self._large_readers

        async def handle(request: Request) -> Response:
            body = await readers.read(request, limit_bytes=limit_bytes)
            async with gate.enter():
                found = await answer(parse_document(body, kind, what="request", limit_bytes=limit_bytes))
            return _json(found if isinstance(found, bytes) else encode_document(found))

        return Route(path, self._guarded(path, handle), methods=["POST"])

    def _get(self, path: str, answer: Callable[[Request], bytes], media_type: str = JSON) -> Route:
        async def handle(request: Request) -> Response:
            return Response(answer(request), media_type=media_type)

        return Route(path, self._guarded(path, handle), methods=["GET"])

    def _newest(self, path: str, answer: Callable[[Request], bytes], media_type: str = JSON) -> Route:
        """Answer from what is committed now, by whichever replica."""

        async def handle(request: Request) -> Response:
            await self._service.replica.ledger.refresh()
            return Response(answer(request), media_type=media_type)

        return Route(path, self._guarded(path, handle), methods=["GET"])

    async def _challenge(self, request: ChallengeRequest) -> ChallengeReply:
        """Answer from what was read, or from what is committed now where that knows no such service."""
        try:
            return self._service.challenge(request)
        except (NotFoundError, ConflictError):
            await self._service.replica.ledger.refresh()
            return self._service.challenge(request)

    async def _audit(self, request: Request) -> Response:
        start, end = (_index(request, name) for name in ("start", "end"))
        await self._service.replica.ledger.refresh()
        return _json(encode_document(await self._service.audit_records(start, end)))

    async def _entries(self, request: Request) -> Response:
        start, end = (_index(request, name) for name in ("start", "end"))
        await self._service.replica.ledger.refresh()
        return _json(encode_document(await self._service.entries(start, end)))

    async def _shares(self, _: Request) -> Response:
        return _json(encode_document(await self._service.restorer.shares()))

    async def _ready(self, _: Request) -> Response:
        is_ready = self._service.is_ready
        return PlainTextResponse("ready\n" if is_ready else "not ready\n", 200 if is_ready else 503)

    async def no_such_route(self, _: Request, error: Exception) -> Response:
        """Answer what no route answers."""
        status = error.status_code if isinstance(error, HTTPException) else 500
        return _error(ErrorReply(error="no such path or method"), status)

    def _guarded(self, path: str, handle: _Handler) -> _Handler:
        """Map every error of `handle` to a reply, and count it."""

        async def guarded(request: Request) -> Response:
            try:
                if path not in OPERATIONAL:
                    self._service.admit(request.client.host if request.client is not None else "")
                response = await handle(request)
            except S3MLError as error:
                response = self._failure(path, error)
            except ClientDisconnect:
                response = Response(status_code=400)
            except Exception as error:  # noqa: BLE001 - the edge: nothing of a bug's detail leaves
                self._events.emit("failure", detail=path, error=type(error).__name__)
                response = _error(ErrorReply(error="key service: internal error"), 500)
            status = str(response.status_code)
            self._service.metrics.count("s3ml_keyservice_requests_total", route=path, status=status)
            return response

        return guarded

    def _failure(self, path: str, error: S3MLError) -> Response:
        status = next(status for kind, status in STATUSES if isinstance(error, kind))
        told, line, headers = _told(error), str(error)[:_LINE_LIMIT], {}
        if status in {_TOO_MANY, _UNAVAILABLE}:
            wait_s = error.retry_after_s if isinstance(error, UnavailableError) else None
            headers["retry-after"] = str(math.ceil(wait_s or RETRY_AFTER_S))
        if status == _UNAVAILABLE:
            self._events.emit("unavailable", detail=path, error=line)
        elif status != _TOO_MANY and (path != "/v1/release" or not isinstance(error, EvidenceRejectedError)):
            self._events.emit("refused", detail=path, status=status, error=line)
        return _error(ErrorReply(error=line, mismatches=told), status, headers)


def _told(error: S3MLError) -> tuple[Mismatch, ...]:
    if isinstance(error, RefusedError):
        return error.mismatches
    if isinstance(error, EvidenceRejectedError):
        return tuple(mismatch(m.claim, expected=m.expected, got=m.got) for m in error.mismatches)
    return ()


def _index(request: Request, name: str) -> int:
    text = request.query_params.get(name, "")
    if not text.isascii() or not text.isdigit() or len(text) > _INDEX_DIGITS:
        raise ConfigurationError(f"{name}: expected a whole number, got {text[:40]!r}")
    return int(text)


def _json(data: bytes) -> Response:
    return Response(data, media_type=JSON)


def _error(reply: ErrorReply, status: int, headers: Mapping[str, str] | None = None) -> Response:
    return Response(encode_document(reply), status_code=status, headers=headers, media_type=JSON)
