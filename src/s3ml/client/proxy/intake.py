"""What is taken from local clients over HTTP: bodies within limits, fields that are known, nobody's web page.

A browser on the same machine reaches loopback as well: a page that it shows must not call with the proxy's
credentials, nor read an answer under a name of its own that it points here.

Source: RFC 9110, section 7.2 (Host); Fetch, "Origin header"; docs/proxy.md, section "Limits".
"""

import asyncio
import ipaddress
import re
import zlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

from s3ml.client.credentials import Credentials, Token
from s3ml.client.proxy.answers import Answer, rejection
from s3ml.primitives.errors import ConfigurationError
from s3ml.wire.oip import HEADER_LENGTH_FIELD
from s3ml.wire.sealed import AUTHORIZATION, DEFAULT_LIMITS

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Fields = tuple[tuple[str, str], ...]

BODY_LIMIT_BYTES = DEFAULT_LIMITS.max_request_bytes
# A few of the largest requests, or very many small ones.
BUDGET_BYTES = 16 * BODY_LIMIT_BYTES
REQUESTS_LIMIT = 512
BODY_DEADLINE_S = 30.0
RETRY_AFTER = ("retry-after", "1")
# Of zlib: how the header of each encoding is read.
_WINDOWS = {"gzip": 31, "deflate": 15}
# Everything else of a request stays on this machine.
_SEALED_FIELDS = ("content-type", HEADER_LENGTH_FIELD)
_READ_FIELDS = (*_SEALED_FIELDS, "host", "origin", "content-encoding", "content-length", AUTHORIZATION)
_BEARER = "bearer "
_HOST = re.compile(r"(?:\[([^\]]+)\]|([^:\[\]]+))(?::[0-9]{1,5})?", re.ASCII)


class RefusedError(Exception):
    """A request is not taken.

    Args:
        answer: What its sender is told.
    """

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.response.status)
        self.answer = answer


def refuse(status: int, message: str, *fields: tuple[str, str]) -> RefusedError:
    """Return the error that ends a request and its connection."""
    return RefusedError(rejection(status, message, *fields, closes=True))


def read_fields(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return the fields that the proxy looks at, by lower-case name.

    Raises:
        RefusedError: one of them stands twice, or is not ASCII; 400.
    """
    found: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name = raw_name.decode("latin-1").lower()
        if name not in _READ_FIELDS:
            continue
        if name in found or not raw_value.isascii():
            raise refuse(400, f"{name}: expected the field once, in ASCII")
        found[name] = raw_value.decode("ascii").strip()
    return found


def check_sender(fields: dict[str, str], *, is_local: bool) -> None:
    """Refuse what a web page made a browser send.

    Args:
        fields: From `read_fields`.
        is_local: Whether the proxy listens on loopback alone, and so goes by no name but ``localhost``.

    Raises:
        RefusedError: 403.
    """
    if "origin" in fields:
        raise refuse(403, "origin: web pages are not answered")
    host = fields.get("host")
    if is_local and host is not None and not is_local_name(host):
        raise refuse(403, "host: expected localhost or an address; set it so where a name was made for it")


def is_local_name(host: str) -> bool:
    """Tell whether a Host field has an address or ``localhost``, which no foreign name can be pointed at."""
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    bracketed, name = match.groups()
    if name is not None and name.lower().rstrip(".") == "localhost":
        return True
    try:
        ipaddress.ip_address(name if bracketed is None else bracketed)
    except ValueError:
        return False
    return True


def sealed_fields(fields: dict[str, str]) -> Fields:
    """Return what goes into the seal with the content."""
    return tuple((name, fields[name]) for name in _SEALED_FIELDS if name in fields)


def bearer_credentials(authorization: str | None) -> Credentials | None:
    """Return the local client's own credentials.

    Raises:
        RefusedError: they are no bearer token; 401.
    """
    if authorization is None:
        return None
    if not authorization.lower().startswith(_BEARER):
        raise refuse(401, "authorization: expected Bearer and a token")
    try:
        return Token(authorization[len(_BEARER) :])
    except ConfigurationError as error:
        raise refuse(401, f"authorization: {error}") from None


class Intake:
    """A budget of requests and of bytes under way.

    Args:
        budget_bytes: For the bodies of all requests together.
        requests_limit: For the requests.
        deadline_s: For one body.
    """

    __slots__ = ("_deadline_s", "_free_bytes", "_free_requests")

    def __init__(
        self,
        *,
        budget_bytes: int = BUDGET_BYTES,
        requests_limit: int = REQUESTS_LIMIT,
        deadline_s: float = BODY_DEADLINE_S,
    ) -> None:
        self._free_bytes = budget_bytes
        self._free_requests = requests_limit
        self._deadline_s = deadline_s

    @contextmanager
    def admit(self) -> Iterator["Body"]:
        """Count one request until the block ends; its body is read within.

        Raises:
            RefusedError: there are too many; 503.
        """
        if self._free_requests <= 0:
            raise refuse(503, "proxy: too many requests are under way", RETRY_AFTER)
        self._free_requests -= 1
        body = Body(self._take, self._deadline_s)
        try:
            yield body
        finally:
            self._free_requests += 1
            self._free_bytes += body.paid_bytes

    def _take(self, size_bytes: int) -> None:
        if size_bytes > self._free_bytes:
            raise refuse(503, "proxy: too many bytes are under way", RETRY_AFTER)
        self._free_bytes -= size_bytes


class Body:
    """The body of an admitted request."""

    __slots__ = ("_deadline_s", "_take", "paid_bytes")

    def __init__(self, take: Callable[[int], None], deadline_s: float) -> None:
        self._take = take
        self._deadline_s = deadline_s
        self.paid_bytes = 0

    async def read(self, receive: Receive, fields: Mapping[str, str]) -> bytes:
        """Read all of it, and undo its compression, which nothing inside the seal may have.

        What is stated is paid for before anything is read; what it expands to, before it is kept.

        Args:
            receive: ASGI's.
            fields: From `read_fields`.

        Raises:
            RefusedError: it is too large (413), too slow (408), does not fit the budget (503), is compressed
                in a way that is not known (415), or its sender left.
        """
        stated, encoding = fields.get("content-length"), fields.get("content-encoding", "identity").lower()
        if encoding != "identity" and encoding not in _WINDOWS:
            raise refuse(415, f"content-encoding: expected {', '.join(_WINDOWS)} or none")
        if stated is not None and stated.isdigit():
            self._pay(int(stated[:20]))
        try:
            async with asyncio.timeout(self._deadline_s):
                content = await self._collect(receive)
        except TimeoutError:
            raise refuse(408, f"body: expected all of it within {self._deadline_s:g} s") from None
        return content if encoding == "identity" else await self._expand(content, encoding)

    async def _expand(self, content: bytes, encoding: str) -> bytes:
        self._take(BODY_LIMIT_BYTES)
        self.paid_bytes += BODY_LIMIT_BYTES
        expanded = await asyncio.to_thread(_decompress, content, _WINDOWS[encoding])
        if expanded is None:
            raise refuse(400, f"body: expected {encoding}, whole and alone")
        if len(expanded) > BODY_LIMIT_BYTES:
            raise refuse(413, f"body: expected at most {BODY_LIMIT_BYTES} bytes, expanded")
        return expanded

    async def _collect(self, receive: Receive) -> bytes:
        pieces: list[bytes] = []
        size_bytes = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise refuse(400, "body: its sender left")
            piece: bytes = message.get("body", b"")
            size_bytes += len(piece)
            self._pay(size_bytes)
            pieces.append(piece)
            if not message.get("more_body", False):
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _pay(self, size_bytes: int) -> None:
        if size_bytes > BODY_LIMIT_BYTES:
            raise refuse(413, f"body: expected at most {BODY_LIMIT_BYTES} bytes")
        if size_bytes > self.paid_bytes:
            self._take(size_bytes - self.paid_bytes)
            self.paid_bytes = size_bytes


def _decompress(content: bytes, window: int) -> bytes | None:
    """Return what `content` expands to, cut one byte above the limit; None where it is damaged."""
    decompressor = zlib.decompressobj(window)
    try:
        expanded = decompressor.decompress(content, BODY_LIMIT_BYTES + 1)
    except zlib.error:
        return None
    is_whole = decompressor.eof and not decompressor.unused_data
    return expanded if is_whole or len(expanded) > BODY_LIMIT_BYTES else None
