"""Requests to a key service and its replies over HTTP, blocking; the other side is trusted with nothing.

Replies are read up to a limit and up to a deadline, and parsed into exact types; nothing in them is verified.
"""

from collections.abc import Callable
from typing import TypeVar

import msgspec
import urllib3

from s3ml.keyservice.documents import ErrorReply, Mismatch
from s3ml.keyservice.fields import REPLY_LIMIT_BYTES
from s3ml.keyservice.parsing import encode_document, parse_document
from s3ml.primitives.deadline import POOL_CLASSES, Deadline
from s3ml.primitives.errors import UnavailableError, UntrustedPeerError
from s3ml.primitives.units import KIB

RETRY_AFTER_LIMIT_S = 3600.0
_CHUNK_BYTES = 64 * KIB
_OK = 200
_TOO_MANY = 429
_SERVER_ERROR = 500

_T = TypeVar("_T")


class KeyServiceRefusedError(UntrustedPeerError):
    """The key service refuses: another try with the same request is refused again.

    Args:
        message: What it says.
        status: The HTTP status.
        mismatches: The checks that failed, as it lists them.
    """

    def __init__(self, message: str, *, status: int, mismatches: tuple[Mismatch, ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.mismatches = mismatches


class KeyServiceUnavailableError(UnavailableError):
    """The key service does not answer, or asks to come again later."""


class Exchange:
    """Requests to one address; safe to use from several threads.

    Args:
        url: Up to before ``/v1``, such as ``http://127.0.0.1:8080/keyservice``.
        timeout_s: For a whole exchange, in seconds, however the other side spreads its reply.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        self.url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._pool = urllib3.PoolManager(
            retries=False, timeout=urllib3.Timeout(total=timeout_s), num_pools=1, maxsize=4
        )
        self._pool.pool_classes_by_scheme = POOL_CLASSES

    def get(self, path: str, kind: type[_T], *, limit_bytes: int = REPLY_LIMIT_BYTES) -> _T:
        """Get a document; raises what `send` and `parse_document` raise."""
        return _parse(path, kind, self.send("GET", path, limit_bytes=limit_bytes), limit_bytes)

    def post(
        self, path: str, document: msgspec.Struct, kind: type[_T], *, limit_bytes: int = REPLY_LIMIT_BYTES
    ) -> _T:
        """Post a document and get another; raises what `send` and `parse_document` raise."""
        body = encode_document(document)
        return _parse(path, kind, self.send("POST", path, body, limit_bytes=limit_bytes), limit_bytes)

    def send(
        self, method: str, path: str, body: bytes | None = None, *, limit_bytes: int = REPLY_LIMIT_BYTES
    ) -> bytes:
        """Send one request and return the body of a reply with status 200, at most `limit_bytes`.

        Raises:
            KeyServiceRefusedError: a status of 300 to 499, except 429.
            KeyServiceUnavailableError: no answer in time, or a status that asks to come again.
            UntrustedPeerError: the reply is too large.
        """
        headers = {"content-type": "application/json"} if body is not None else {}
        with Deadline(self._timeout_s) as deadline:
            try:
                reply = self._pool.request(
                    method, self.url + path, body=body, headers=headers, preload_content=False, redirect=False
                )
                try:
                    data = _read(reply.read, limit_bytes)
                    status, retry_after = int(reply.status), reply.headers.get("retry-after")
                finally:
                    reply.close()
            except (urllib3.exceptions.HTTPError, OSError) as error:
                what = "its reply takes too long" if deadline.is_over else _reason(error)
                raise KeyServiceUnavailableError(
                    f"key service {self.url}: does not answer: {what}"
                ) from error
            if deadline.is_over:
                raise KeyServiceUnavailableError(
                    f"key service {self.url}: does not answer: its reply takes too long"
                )
        if status == _OK:
            return data
        line, mismatches = _told(data)
        message = f"key service: {line or f'answered {status}'}"
        if status >= _SERVER_ERROR or status == _TOO_MANY:
            raise KeyServiceUnavailableError(message, retry_after_s=_seconds(retry_after))
        raise KeyServiceRefusedError(message, status=status, mismatches=mismatches)

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()


def _parse(path: str, kind: type[_T], data: bytes, limit_bytes: int) -> _T:
    return parse_document(data, kind, what=f"key service {path}", limit_bytes=limit_bytes)


def _reason(error: Exception) -> str:
    if isinstance(error, urllib3.exceptions.NewConnectionError):
        return "it refuses connections, or is not there"
    return type(error).__name__


def _read(read: Callable[[int], bytes], limit_bytes: int) -> bytes:
    """Read a whole reply, unless it is larger than any reply may be."""
    data = bytearray()
    while chunk := read(_CHUNK_BYTES):
        data += chunk
        if len(data) > limit_bytes:
            raise UntrustedPeerError(f"key service: expected a reply of at most {limit_bytes} bytes")
    return bytes(data)


def _told(data: bytes) -> tuple[str, tuple[Mismatch, ...]]:
    """Return what an error reply says; nothing where it is none of the key service's."""
    try:
        reply = msgspec.json.decode(data, type=ErrorReply)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return "", ()
    return reply.error[:2000], reply.mismatches


def _seconds(text: str | None) -> float | None:
    """Return the seconds of a Retry-After field, where it names a sensible number of them."""
    if text is None or not text.isascii() or not text.isdigit():
        return None
    return min(float(text), RETRY_AFTER_LIMIT_S)
