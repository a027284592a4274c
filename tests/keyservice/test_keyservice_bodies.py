"""Bodies are read whole, within a size, a number and a time; slow ones make room for others."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.requests import Request

from s3ml.keyservice.bodies import BodyTooLargeError, Readers
from s3ml.primitives.errors import UnavailableError

Receive = Callable[[], Awaitable[dict[str, Any]]]


def request(receive: Receive, **headers: str) -> Request:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "headers": pairs}, receive)


def sends(*chunks: bytes) -> Receive:
    left = list(chunks)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    return receive


async def never() -> dict[str, Any]:
    await asyncio.get_running_loop().create_future()
    raise AssertionError("nothing ends this")


class TestReaders:
    async def test_a_body_is_put_together(self) -> None:
        assert await Readers(1).read(request(sends(b"a", b"bc")), limit_bytes=3) == b"abc"

    async def test_an_announced_size_is_refused_unread(self) -> None:
        with pytest.raises(BodyTooLargeError, match="at most 3 bytes, got 4"):
            await Readers(1).read(request(never, content_length="4"), limit_bytes=3)

    @pytest.mark.parametrize("length", ["-1", "x", "\u0661"])
    async def test_a_length_that_is_none_is_refused(self, length: str) -> None:
        asked = Request(
            {"type": "http", "method": "POST", "headers": [(b"content-length", length.encode("utf-8"))]},
            never,
        )
        with pytest.raises(BodyTooLargeError):
            await Readers(1).read(asked, limit_bytes=3)

    async def test_what_is_sent_is_counted(self) -> None:
        with pytest.raises(BodyTooLargeError, match="got more"):
            await Readers(1).read(request(sends(b"ab", b"cd")), limit_bytes=3)

    async def test_a_slow_body_has_a_deadline(self) -> None:
        with pytest.raises(UnavailableError, match="takes too long"):
            await Readers(1, timeout_s=0.01).read(request(never), limit_bytes=3)

    async def test_the_slowest_makes_room_for_one_that_arrives(self) -> None:
        readers = Readers(1)
        slow = asyncio.ensure_future(readers.read(request(never), limit_bytes=3))
        await asyncio.sleep(0)
        assert await readers.read(request(sends(b"abc")), limit_bytes=3) == b"abc"
        with pytest.raises(UnavailableError, match="takes too long"):
            await slow
