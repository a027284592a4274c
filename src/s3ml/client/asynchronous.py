"""The asynchronous client: the shared core and aiohttp, which is imported with the first client.

Source: docs/adr/0003-http-library-of-the-client.md.
"""

import asyncio
import io
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from s3ml.client.addresses import gateway_url, no_tls
from s3ml.client.core import DEFAULT_TIMEOUT_S, Core
from s3ml.client.credentials import Credentials
from s3ml.client.errors import TransientError
from s3ml.client.inputs import Array, ArrayLike
from s3ml.client.log_state import LogState
from s3ml.client.statistics import Statistics
from s3ml.client.steps import (
    HEAVY_BYTES,
    Alone,
    Compute,
    HTTPReply,
    HTTPRequest,
    Pause,
    Program,
    Result,
    Send,
    Step,
)
from s3ml.client.trust import Trust
from s3ml.keyservice.client import VerifiedService
from s3ml.primitives.clock import SystemClock
from s3ml.primitives.errors import S3MLError
from s3ml.primitives.units import KIB
from s3ml.wire.sealed import InnerRequest, InnerResponse

if TYPE_CHECKING:
    import aiohttp

_CHUNK_BYTES = 64 * KIB
_CONNECTIONS = 128


class AsyncClient:
    """A client of one deployment; an asynchronous context manager. Tasks of one event loop may share it.

    Args:
        url: The gateway, such as ``http://127.0.0.1:8080``; it is trusted with nothing.
        trust: The trust file of the deployment's owners, or what it holds.
        credentials: Who calls, for services that ask: a `Token`, a `CallerKey`, or a function that returns a
            token, called for each attempt on its own thread. They leave sealed only.
        timeout_s: How long a call may take that does not say otherwise, retries included.
        log_state: A file in which the newest verified log outlives this client; none when not given.

    Raises:
        ConfigurationError: a malformed URL or file.
    """

    def __init__(
        self,
        url: str,
        trust: Trust | Path | str,
        *,
        credentials: Credentials | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        log_state: Path | None = None,
    ) -> None:
        self._transport = _Transport(gateway_url(url))
        pinned = trust if isinstance(trust, Trust) else Trust.read(Path(trust))
        self._core = Core(
            trust=pinned,
            log_state=LogState(pinned.deployment, log_state),
            clock=SystemClock(),
            random_bytes=secrets.token_bytes,
            jitter=secrets.SystemRandom().random,
            timeout_s=timeout_s,
            credentials=credentials,
        )
        self._locks: dict[str, asyncio.Lock] = {}

    @property
    def statistics(self) -> Statistics:
        """What this client has done so far."""
        return self._core.statistics

    async def infer(
        self,
        service: str,
        inputs: Mapping[str, ArrayLike],
        *,
        model: str | None = None,
        version: str | None = None,
        outputs: Iterable[str] | None = None,
        timeout_s: float | None = None,
    ) -> dict[str, Array]:
        """Run one inference on a service that was verified; as `Client.infer`."""
        return await self._run(
            self._core.infer(
                service, inputs, model=model, version=version, outputs=outputs, timeout_s=timeout_s
            )
        )

    async def verify(self, service: str, *, timeout_s: float | None = None) -> VerifiedService:
        """Verify `service` now and return what was verified; as `Client.verify`."""
        return await self._run(self._core.verify(service, timeout_s=timeout_s))

    async def metadata(
        self,
        service: str,
        model: str | None = None,
        *,
        version: str | None = None,
        timeout_s: float | None = None,
    ) -> dict[str, Any]:
        """Return the metadata of `model`, or of the server when none is named; as `Client.metadata`."""
        return await self._run(self._core.metadata(service, model, version=version, timeout_s=timeout_s))

    async def forward(
        self,
        service: str,
        *,
        method: str,
        path: str,
        fields: Iterable[tuple[str, str]] = (),
        content: bytes | memoryview = b"",
        credentials: Credentials | None = None,
        timeout_s: float | None = None,
    ) -> InnerResponse:
        """Send a request of the Open Inference Protocol as it is; as `Client.forward`."""
        request = InnerRequest(method=method, path=path, fields=tuple(fields), content=content)
        return await self._run(
            self._core.forward(service, request, credentials=credentials, timeout_s=timeout_s)
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, program: Program[Result]) -> Result:
        """Perform the steps of `program`; what a step raises that is ours goes back into it."""
        try:
            step = next(program)
            while True:
                try:
                    answer = await self._perform(step)
                except S3MLError as error:
                    step = program.throw(error)
                else:
                    step = program.send(answer)
        except StopIteration as stop:
            result: Result = stop.value
            return result
        finally:
            program.close()

    async def _perform(self, step: Step) -> Any:
        match step:
            case Send(request=request):
                return await self._transport.send(request)
            case Compute(work=work, size_bytes=size_bytes):
                return await asyncio.to_thread(work) if size_bytes >= HEAVY_BYTES else work()
            case Pause(duration_s=duration_s):
                return await asyncio.sleep(duration_s)
            case Alone():
                return await self._run_alone(step)

    async def _run_alone(self, step: Alone) -> Any:
        lock = self._locks.setdefault(step.name, asyncio.Lock())
        try:
            async with asyncio.timeout(step.timeout_s):
                await lock.acquire()
        except TimeoutError as error:
            if step.timeout_s == 0:
                return None
            raise TransientError(f"service {step.name!r}: another call is still verifying it") from error
        try:
            return await self._run(step.program())
        finally:
            lock.release()


class _Transport:
    """Requests to the gateway over kept connections, all in one event loop."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session: aiohttp.ClientSession | None = None

    async def send(self, request: HTTPRequest) -> HTTPReply:
        """Send one request, once.

        Raises:
            TransientError: no whole reply in time.
            UntrustedServiceError: TLS failed.
        """
        import aiohttp  # noqa: PLC0415 - a fifth of a second, for asynchronous callers alone

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
