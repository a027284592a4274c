"""Requests to the gateway over urllib3, for callers who block; threads may share one transport.

Source: docs/adr/0003-http-library-of-the-client.md.
"""

import time

import urllib3

from s3ml.client.addresses import no_tls
from s3ml.client.errors import TransientError
from s3ml.client.steps import HTTPReply, HTTPRequest
from s3ml.primitives.units import KIB

_CHUNK_BYTES = 64 * KIB
_CONNECTIONS = 128


class Urllib3Transport:
    """Requests to the gateway over kept connections."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool = urllib3.PoolManager(maxsize=_CONNECTIONS, retries=False)

    def send(self, request: HTTPRequest) -> HTTPReply:
        """Send one request, once.

        Raises:
            TransientError: no whole reply in time.
            UntrustedServiceError: TLS failed.
        """
        deadline_s = time.monotonic() + request.timeout_s
        try:
            reply = self._pool.request(
                request.method,
                self._url + request.path,
                body=request.body,
                headers={"content-type": request.content_type, "user-agent": "s3ml"},
                timeout=request.timeout_s,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
            try:
                body = _read(reply, deadline_s, request.limit_bytes)
            except BaseException:
                reply.close()
                raise
            reply.release_conn()
        except urllib3.exceptions.SSLError as error:
            raise no_tls(self._url, error) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise TransientError(f"gateway {self._url}: {_reason(error)}") from error
        headers = {name.lower(): value for name, value in reply.headers.items()}
        return HTTPReply(status=reply.status, headers=headers, body=body)

    def close(self) -> None:
        """Close all connections."""
        self._pool.clear()


def _read(reply: urllib3.BaseHTTPResponse, deadline_s: float, limit_bytes: int) -> bytes:
    """Read a body whole, however slowly it drips in, within the deadline and the limit."""
    chunks: list[bytes] = []
    size = 0
    while chunk := reply.read1(_CHUNK_BYTES, decode_content=False):
        chunks.append(chunk)
        size += len(chunk)
        if size > limit_bytes:
            raise TransientError(f"gateway: expected a reply of at most {limit_bytes} bytes, got more")
        if time.monotonic() > deadline_s:
            raise TransientError("gateway: the reply did not arrive in time")
    return b"".join(chunks)


def _reason(error: Exception) -> str:
    """Say in a few words what a library says in many."""
    if isinstance(error, urllib3.exceptions.NameResolutionError):
        return "its name does not resolve"
    if isinstance(error, urllib3.exceptions.NewConnectionError):  # A kind of TimeoutError, for urllib3.
        return "refuses connections, or is not there"
    if isinstance(error, urllib3.exceptions.TimeoutError):
        return "did not answer in time"
    return "the connection broke before the reply was whole"
