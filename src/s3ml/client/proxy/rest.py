"""The protocol over HTTP, as a bare ASGI application: a body goes on byte for byte, and so does the answer.

Source: Open Inference Protocol v2, "HTTP/REST"; docs/proxy.md.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from s3ml.client.proxy.answers import Answer, of_error
from s3ml.client.proxy.forwarding import Call, Proxy
from s3ml.client.proxy.intake import (
    Intake,
    Receive,
    RefusedError,
    bearer_credentials,
    check_sender,
    read_fields,
    sealed_fields,
)
from s3ml.client.proxy.metrics import MEDIA_TYPE, ProxyMetrics
from s3ml.client.proxy.namespace import parse_target
from s3ml.primitives.errors import S3MLError
from s3ml.wire.oip import HEADER_LENGTH_FIELD
from s3ml.wire.sealed import AUTHORIZATION

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

PROTOCOL = "rest"
METRICS_PATH = "/metrics"
# What a local client gets to see of a sealed answer's fields.
_HANDED_ON = frozenset(
    {
        "allow",
        "connection",
        "content-type",
        HEADER_LENGTH_FIELD,
        "retry-after",
        "s3ml-replica",
        "www-authenticate",
    }
)


class RestApplication:
    """Answers HTTP requests of local clients.

    Args:
        proxy: Answers what they ask.
        metrics: Counts.
        intake: What may be under way.
        is_local: Whether it listens on loopback alone.
        forwards_authorization: Whether a local client's own token is presented instead of the proxy's.
    """

    def __init__(
        self,
        proxy: Proxy,
        metrics: ProxyMetrics,
        *,
        intake: Intake,
        is_local: bool = True,
        forwards_authorization: bool = False,
    ) -> None:
        self._proxy = proxy
        self._metrics = metrics
        self._intake = intake
        self._is_local = is_local
        self._forwards_authorization = forwards_authorization

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        try:
            fields = read_fields(scope["headers"])
            check_sender(fields, is_local=self._is_local)
            if (scope["method"], scope["path"]) == ("GET", METRICS_PATH):
                await _send(send, 200, [(b"content-type", MEDIA_TYPE)], self._metrics.render())
                return
            with self._intake.admit() as body:
                call = await self._call(scope, fields, lambda: body.read(receive, fields))
                answer = await self._answer(call, receive)
        except RefusedError as refused:
            answer = refused.answer
        if answer is not None:
            self._metrics.count(answer, PROTOCOL)
            await self._reply(send, answer)

    async def _call(self, scope: Scope, fields: dict[str, str], read: Callable[[], Awaitable[bytes]]) -> Call:
        """Bring a request into its form; what no endpoint has is refused before its body is read."""
        try:
            parse_target(scope["method"], scope["path"])
        except S3MLError as error:
            raise RefusedError(of_error(error)) from None
        credentials = bearer_credentials(fields.get(AUTHORIZATION)) if self._forwards_authorization else None
        is_posted = scope["method"] == "POST"
        return Call(
            method=scope["method"],
            path=scope["path"],
            fields=sealed_fields(fields) if is_posted else (),
            content=await read() if is_posted else b"",
            credentials=credentials,
        )

    async def _answer(self, call: Call, receive: Receive) -> Answer | None:
        """Answer, unless the local client leaves first: then what is under way is given up."""
        async with asyncio.TaskGroup() as group:
            answering = group.create_task(self._proxy.answer(call))
            watching = group.create_task(_cancel_when_gone(receive, answering))
            answering.add_done_callback(lambda _: watching.cancel())
        return None if answering.cancelled() else answering.result()

    async def _reply(self, send: Send, answer: Answer) -> None:
        response = answer.response
        fields = [(name.encode(), value.encode()) for name, value in response.fields if name in _HANDED_ON]
        if self._proxy.is_draining:
            fields.append((b"connection", b"close"))
        await _send(send, response.status, fields, bytes(response.content))


async def _cancel_when_gone(receive: Receive, answering: asyncio.Task[Answer]) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue
    answering.cancel()


async def _send(send: Send, status: int, fields: list[tuple[bytes, bytes]], content: bytes) -> None:
    headers = [*fields, (b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
