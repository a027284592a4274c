"""Bodies of requests from untrusted peers: bounded in size, in number and in time.

What is being read is bounded in number. A new body takes the place of the one that has taken the longest, so
that slow ones hold up nobody: a request that arrives whole is read before it could become the oldest.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from s3ml.primitives.errors import ConfigurationError, UnavailableError

BODY_TIMEOUT_S = 10.0
_LENGTH_DIGITS = 20


class BodyTooLargeError(ConfigurationError):
    """A request's body exceeds its route's limit."""


class Readers:
    """The bodies that are being read; for one event loop.

    Args:
        capacity: The most that are read at once.
        timeout_s: How long each may take, in seconds.
    """

    def __init__(self, capacity: int, *, timeout_s: float = BODY_TIMEOUT_S) -> None:
        self._capacity = capacity
        self._timeout_s = timeout_s
        self._reading: dict[asyncio.Timeout, None] = {}

    async def read(self, request: Request, *, limit_bytes: int) -> bytes:
        """Read a request's body, at most `limit_bytes`.

        Raises:
            BodyTooLargeError: announced or sent is more than that.
            UnavailableError: it takes too long, or the longest of too many.
        """
        announced = request.headers.get("content-length", "0")
        is_length = announced.isascii() and announced.isdigit()
        if not is_length or int(announced[:_LENGTH_DIGITS]) > limit_bytes:
            raise BodyTooLargeError(
                f"request: expected at most {limit_bytes} bytes, got {announced[:_LENGTH_DIGITS]}"
            )
        body = bytearray()
        try:
            async with self._place():
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > limit_bytes:
                        raise BodyTooLargeError(f"request: expected at most {limit_bytes} bytes, got more")
        except TimeoutError as error:
            raise UnavailableError("request: its body takes too long") from error
        return bytes(body)

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """Take a place until a deadline, where all are taken the oldest one."""
        if len(self._reading) >= self._capacity:
            oldest = next(iter(self._reading))
            del self._reading[oldest]
            oldest.reschedule(asyncio.get_running_loop().time())
        async with asyncio.timeout(self._timeout_s) as deadline:
            self._reading[deadline] = None
            try:
                yield
            finally:
                self._reading.pop(deadline, None)
