"""Reading a request body within limits, admitted before it is there; and noticing that nobody waits."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any, TypeVar

from s3ml.modelserver.admission import Reservation
from s3ml.wire.errors import RequestTooLargeError

T = TypeVar("T")
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]

# A body that takes longer holds its reservation for nothing.
BODY_DEADLINE_S = 30.0


class BodyIncompleteError(Exception):
    """The client left, or was too slow, or had to make place, or its Content-Length is no number."""


class ClientGoneError(Exception):
    """The client closed its connection before there was an answer."""


async def read_body(
    receive: Receive, content_length: bytes | None, *, reservation: Reservation, limit_bytes: int
) -> bytes:
    """Read a whole body.

    1. A stated length is compared with the limit, and paid for, before anything is read.
    2. A body without one is counted, and paid for, piece by piece.
    3. One that arrives slowly makes place when others need it.

    Args:
        receive: ASGI's; from an untrusted peer.
        content_length: The field's value, or None for a chunked body.
        reservation: Grows with the body.
        limit_bytes: The largest body.

    Raises:
        RequestTooLargeError: the body is, or says that it is, larger than the limit.
        OverloadedError: the budget is spent.
        BodyIncompleteError: it does not arrive in whole.
    """
    if content_length is not None:  # (1)
        if not content_length.isdigit():
            raise BodyIncompleteError
        stated = int(content_length[:20])
        _check_size(stated, limit_bytes)
        reservation.grow_to(stated)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(BODY_DEADLINE_S) as deadline:
            with reservation.arriving(lambda: deadline.reschedule(loop.time())):  # (3)
                return await _collect(receive, reservation=reservation, limit_bytes=limit_bytes)
    except TimeoutError:
        raise BodyIncompleteError from None


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Do `work` for a client whose request was read, and cancel it when the client leaves.

    Args:
        receive: ASGI's; after the body it has nothing but the end of the connection.
        work: What the client waits for.

    Raises:
        ClientGoneError: the client left first.
    """
    this = asyncio.current_task()
    watch = asyncio.ensure_future(receive())
    is_gone = False

    def leave(watch: asyncio.Future[Message]) -> None:
        nonlocal is_gone
        if not watch.cancelled() and this is not None:
            is_gone = True
            this.cancel()

    watch.add_done_callback(leave)
    try:
        return await work
    except asyncio.CancelledError:
        if is_gone and this is not None and this.uncancel() == 0:
            raise ClientGoneError from None
        raise
    finally:
        watch.remove_done_callback(leave)
        watch.cancel()


async def _collect(receive: Receive, *, reservation: Reservation, limit_bytes: int) -> bytes:
    pieces: list[bytes] = []
    size_bytes = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise BodyIncompleteError
        piece: bytes = message.get("body", b"")
        size_bytes += len(piece)
        _check_size(size_bytes, limit_bytes)
        reservation.grow_to(size_bytes)  # (2)
        reservation.count_arrived(size_bytes)
        pieces.append(piece)
        if not message.get("more_body", False):
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _check_size(size_bytes: int, limit_bytes: int) -> None:
    if size_bytes > limit_bytes:
        raise RequestTooLargeError(size_bytes=size_bytes, limit_bytes=limit_bytes)
