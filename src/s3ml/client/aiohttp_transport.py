"""Requests to the gateway over aiohttp, which is imported with the first transport.

Source: docs/adr/0003-http-library-of-the-client.md.
"""

import asyncio
import io
from typing import TYPE_CHECKING

from s3ml.client.addresses import no_tls
from s3ml.client.errors import TransientError
from s3ml.client.steps import HEAVY_BYTES, HTTPReply, HTTPRequest
from s3ml.primitives.units import KIB

if TYPE_CHECKING:
    import aiohttp

_CHUNK_BYTES = 64 * KIB
_CONNECTIONS = 128


class AiohttpTransport:
    """Requests to the gateway over kept connections, all in one event loop."""

    def __init__(self, url: str) -> None:
        # A fifth of a second, for asynchronous callers alone, and not out of a call's own time.
        import aiohttp  # noqa: PLC0415

        self._url = url
        self._session: aiohttp.ClientSession | None = None

    async def send(self, request: HTTPRequest) -> HTTPReply:
        """Send one request, once.

        Raises:
            TransientError: no whole reply in time.
            UntrustedServiceError: TLS failed.
        """
        import aiohttp  # noqa: PLC0415 - see above

        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                skip_auto_headers=("accept", "accept-encoding"),
                headers={"user-agent": "s3ml"},
            )
        try:
            async with (
                asyncio.timeout(request.timeout_s),
                self._session.request(
                    request.method,
                    self._url + request.path,
                    data=io.BytesIO(request.body) if len(request.body) >= HEAVY_BYTES else request.body,
                    headers={"content-type": request.content_type},
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=None),
                ) as reply,
            ):
                body = await _read(reply, request.limit_bytes)
                headers = {name.lower(): value for name, value in reply.headers.items()}
                return HTTPReply(status=reply.status, headers=headers, body=body)
        except TimeoutError as error:
            raise TransientError(f"gateway {self._url}: did not answer in time") from error
        except aiohttp.ClientSSLError as error:
            raise no_tls(self._url, error) from error
        except aiohttp.ClientConnectorError as error:
            raise TransientError(f"gateway {self._url}: refuses connections, or is not there") from error
        except (aiohttp.ClientError, OSError) as error:
            raise TransientError(
                f"gateway {self._url}: the connection broke before the reply was whole"
            ) from error

    async def close(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


async def _read(reply: "aiohttp.ClientResponse", limit_bytes: int) -> bytes:
    """Read a body whole, within the limit."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in reply.content.iter_chunked(_CHUNK_BYTES):
        chunks.append(chunk)
        size += len(chunk)
        if size > limit_bytes:
            raise TransientError(f"gateway: expected a reply of at most {limit_bytes} bytes, got more")
    return b"".join(chunks)
