"""A witness over HTTP: limits first, one table from verdicts to statuses.

Decisions run one after the other on a thread of their own; what waits for it, and what sends its body, is
bounded. A request is refused by its announced length before it is read, and reading it has a deadline.

Source: C2SP tlog-witness v1.0.0.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Protocol

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from s3ml.primitives.errors import S3MLError
from s3ml.transparency.witness.decision import Latest, Verdict
from s3ml.transparency.witness.logs import LogsFile
from s3ml.transparency.witness.observing import METRICS_TYPE, EventLog, Metrics
from s3ml.transparency.witness.request import REQUEST_LIMIT_BYTES
from s3ml.transparency.witness.service import Answer, Witness

BODY_TIMEOUT_S = 10.0
LOOK_PERIOD_S = 1.0
READERS = 256
WAITING = 256
SIZE_TYPE = "text/x.tlog.size"
STATUSES: Mapping[Verdict, HTTPStatus] = {
    Verdict.COSIGN: HTTPStatus.OK,
    Verdict.MALFORMED: HTTPStatus.BAD_REQUEST,
    Verdict.UNSIGNED: HTTPStatus.FORBIDDEN,
    Verdict.UNKNOWN_LOG: HTTPStatus.NOT_FOUND,
    Verdict.STALE: HTTPStatus.CONFLICT,
    Verdict.INCONSISTENT: HTTPStatus.UNPROCESSABLE_ENTITY,
}


class State(Protocol):
    """What the server asks of the state beside the decisions."""

    @property
    def is_halted(self) -> bool:
        """Whether an error left the state in doubt."""
        ...

    def heads(self) -> Mapping[str, Latest]:
        """Return every newest head by origin."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What a server serves.

    Args:
        witness: Makes the decisions.
        logs: Which logs it watches; looked at every second.
        state: Shown to the operator.
        events: Where its log lines go.
    """

    witness: Witness
    logs: LogsFile
    state: State
    events: EventLog


class _RefusedError(Exception):
    """A request that gets no further than its limits."""

    def __init__(self, status: HTTPStatus, line: str) -> None:
        super().__init__(line)
        self.status = status


def create_app(served: Served) -> Starlette:
    """Return the ASGI application of a witness."""
    edge = _Edge(served)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            looking = tasks.create_task(edge.look())
            yield
            looking.cancel()

    return Starlette(routes=edge.routes(), lifespan=lifespan)


class _Edge:
    """The handlers of one application."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._metrics = Metrics()
        self._decisions = asyncio.Lock()
        self._readers = 0
        self._waiting = 0

    def routes(self) -> list[Route]:
        """Return every route."""
        return [
            Route("/add-checkpoint", self._add_checkpoint, methods=["POST"]),
            Route("/{origin_sha256:str}/checkpoint", self._checkpoint, methods=["GET"]),
            Route("/status", self._status, methods=["GET"]),
            Route("/livez", self._live, methods=["GET"]),
            Route("/metrics", self._show_metrics, methods=["GET"]),
        ]

    async def look(self) -> None:
        """Notice a changed configuration, also while nobody asks."""
        while True:
            self._served.logs.current()
            await asyncio.sleep(LOOK_PERIOD_S)

    async def _add_checkpoint(self, request: Request) -> Response:
        try:
            body = await self._body(request)
            answer = await self._decide(body)
        except _RefusedError as error:
            return PlainTextResponse(f"{error}\n", error.status)
        except ClientDisconnect:
            return Response(status_code=HTTPStatus.BAD_REQUEST)
        except S3MLError as error:
            self._metrics.count_unavailable()
            self._served.events.emit("unavailable", error=f"{error}")
            return _unavailable("the witness cannot keep its state")
        self._metrics.count(answer.outcome.verdict)
        self._served.events.emit("checkpoint", **_told(answer))
        return _reply(answer)

    async def _body(self, request: Request) -> bytes:
        announced = request.headers.get("content-length", "0")
        limit = REQUEST_LIMIT_BYTES
        if not announced.isascii() or not announced.isdigit() or int(announced[:20]) > limit:
            raise _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected at most {limit} bytes")
        if self._readers >= READERS:
            raise _RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests are being read")
        body = bytearray()
        self._readers += 1
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > limit:
                        raise _RefusedError(
                            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected at most {limit} bytes"
                        )
        except TimeoutError as error:
            raise _RefusedError(HTTPStatus.REQUEST_TIMEOUT, "the request takes too long") from error
        finally:
            self._readers -= 1
        return bytes(body)

    async def _decide(self, body: bytes) -> Answer:
        if self._waiting >= WAITING:
            raise _RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests wait")
        self._waiting += 1
        try:
            async with self._decisions:
                return await asyncio.to_thread(self._served.witness.add_checkpoint, body)
        finally:
            self._waiting -= 1

    async def _checkpoint(self, request: Request) -> Response:
        found = None
        with suppress(S3MLError):
            found = self._served.witness.checkpoint(request.path_params["origin_sha256"])
        if found is None:
            return PlainTextResponse("no checkpoint of this log was cosigned\n", HTTPStatus.NOT_FOUND)
        return PlainTextResponse(found)

    async def _status(self, _: Request) -> Response:
        watched = self._served.logs.current()
        try:
            heads = self._served.state.heads()
        except S3MLError as error:
            return _unavailable(f"{error}")
        logs = [
            {
                "origin": origin,
                "is_watched": origin in watched,
                "size": heads[origin].size if origin in heads else 0,
                "root": heads[origin].root.hex() if origin in heads else None,
                "time": heads[origin].time.isoformat() if origin in heads else None,
            }
            for origin in sorted({*watched, *heads})
        ]
        public = self._served.witness.public
        status = {
            "name": public.name,
            "key": str(public),
            "is_configuration_usable": self._served.logs.is_usable,
            "logs": logs,
        }
        return Response(json.dumps(status), media_type="application/json")

    async def _live(self, _: Request) -> Response:
        if self._served.state.is_halted:
            return _unavailable("the state is in doubt: restart the witness")
        return PlainTextResponse("live\n")

    async def _show_metrics(self, _: Request) -> Response:
        gauges = {
            "s3ml_witness_logs": len(self._served.logs.current()),
            "s3ml_witness_configuration_usable": int(self._served.logs.is_usable),
            "s3ml_witness_state_usable": int(not self._served.state.is_halted),
        }
        return Response(self._metrics.render(gauges), media_type=METRICS_TYPE)


def _told(answer: Answer) -> dict[str, str | int]:
    """Return the fields of an answer's log line."""
    outcome = answer.outcome
    told: dict[str, str | int] = {"verdict": outcome.verdict, "status": STATUSES[outcome.verdict]}
    if answer.origin:
        told |= {"origin": answer.origin, "size": answer.size, "known_size": outcome.known_size}
    if outcome.detail:
        told["detail"] = outcome.detail
    return told


def _reply(answer: Answer) -> Response:
    verdict, outcome = answer.outcome.verdict, answer.outcome
    if verdict is Verdict.COSIGN:
        return PlainTextResponse(f"{answer.line}\n")
    if verdict is Verdict.STALE:
        # Set as a header, because a media type would be given a character set.
        return Response(f"{outcome.known_size}\n", STATUSES[verdict], headers={"content-type": SIZE_TYPE})
    return PlainTextResponse(f"{outcome.detail}\n", STATUSES[verdict])


def _unavailable(line: str) -> Response:
    return PlainTextResponse(f"{line}\n", HTTPStatus.SERVICE_UNAVAILABLE, headers={"retry-after": "1"})
