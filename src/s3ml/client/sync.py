"""The blocking client: the shared core, urllib3, and threads that may share one client.

Source: docs/adr/0003-http-library-of-the-client.md.
"""

import secrets
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import urllib3

from s3ml.client.addresses import gateway_url, no_tls
from s3ml.client.core import DEFAULT_TIMEOUT_S, Core
from s3ml.client.credentials import Credentials
from s3ml.client.errors import TransientError
from s3ml.client.inputs import Array, ArrayLike
from s3ml.client.log_state import LogState
from s3ml.client.statistics import Statistics
from s3ml.client.steps import Alone, Compute, HTTPReply, HTTPRequest, Pause, Program, Result, Send, Step
from s3ml.client.trust import Trust
from s3ml.keyservice.client import VerifiedService
from s3ml.primitives.clock import SystemClock
from s3ml.primitives.errors import S3MLError
from s3ml.primitives.units import KIB
from s3ml.wire.sealed import InnerRequest, InnerResponse

_CHUNK_BYTES = 64 * KIB
_CONNECTIONS = 32
_LOCK_TIMEOUT_LIMIT_S = 3600.0


class Client:
    """A client of one deployment; a context manager. Threads may share it.

    Args:
        url: The gateway, such as ``http://127.0.0.1:8080``; it is trusted with nothing.
        trust: The trust file of the deployment's owners, or what it holds.
        credentials: Who calls, for services that ask: a `Token`, a `CallerKey`, or a function that returns a
            token, called for each attempt. They leave sealed only.
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
        self._locks: dict[str, threading.Lock] = {}

    @property
    def statistics(self) -> Statistics:
        """What this client has done so far."""
        return self._core.statistics

    def infer(
        self,
        service: str,
        inputs: Mapping[str, ArrayLike],
        *,
        model: str | None = None,
        version: str | None = None,
        outputs: Iterable[str] | None = None,
        timeout_s: float | None = None,
    ) -> dict[str, Array]:
        """Run one inference on a service that was verified.

        Args:
            service: The service's name.
            inputs: Arrays by input name, sent as they are; lists get the datatype that the model declares.
            model: May be left out when the service has one model only.
            version: The server chooses when not given.
            outputs: The outputs that are wanted; all when not given.
            timeout_s: How long this call may take in all, in seconds.

        Returns:
            Writable arrays by output name. BYTES are arrays of `bytes`, BF16 is its raw 16 bits.

        Raises:
            InvalidInputError: the service says, sealed, what is wrong with the input.
            UnknownServiceError: the deployment has no such service.
            CredentialsRefusedError: the service admits no caller with these credentials.
            ConfigurationError: the trust file says nothing of the service, or a malformed name.
            UntrustedPeerError: a check failed; nothing was sent that others could read.
            DeadlineExceededError: no answer in time.
            ModelError: the model failed.
        """
        return self._run(
            self._core.infer(
                service, inputs, model=model, version=version, outputs=outputs, timeout_s=timeout_s
            )
        )

    def verify(self, service: str, *, timeout_s: float | None = None) -> VerifiedService:
        """Verify `service` now and return what was verified, step by step.

        Raises:
            UnknownServiceError: the deployment has no such service.
            ConfigurationError: the trust file says nothing of the service.
            UntrustedPeerError: a check failed.
            DeadlineExceededError: no answer in time.
        """
        return self._run(self._core.verify(service, timeout_s=timeout_s))

    def metadata(
        self,
        service: str,
        model: str | None = None,
        *,
        version: str | None = None,
        timeout_s: float | None = None,
    ) -> dict[str, Any]:
        """Return the metadata of `model`, or of the server when none is named. Raises what `infer` raises."""
        return self._run(self._core.metadata(service, model, version=version, timeout_s=timeout_s))

    def forward(
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
        """Send a request of the Open Inference Protocol as it is, sealed to a service that was verified.

        Nothing of it is decoded or checked here but its path; the service does that. What failed for the
        moment is tried again as `infer` does, and the last answer is returned when the time is over.

        Args:
            service: The service's name.
            method: GET or POST.
            path: An endpoint of the protocol, such as ``/v2/models/resnet50/infer``.
            fields: Lower-case names and ASCII values: of `content-type`, `accept`,
                `inference-header-content-length` and `user-agent`, each at most once.
            content: Of a POST; goes into the seal byte for byte.
            credentials: Who calls, instead of the client's own.
            timeout_s: How long this call may take in all, in seconds.

        Returns:
            What the verified service answered, whatever its status; its content may be a view.

        Raises:
            OIPError: there is no such endpoint.
            UnknownServiceError: the deployment has no such service.
            CredentialsRefusedError: the service admits no caller with these credentials; nothing was sent.
            InvalidInputError: the request is larger than the service accepts.
            ConfigurationError: the trust file says nothing of the service, or a malformed name.
            UntrustedPeerError: a check failed; nothing was sent that others could read.
            DeadlineExceededError: no answer in time.
        """
        request = InnerRequest(method=method, path=path, fields=tuple(fields), content=content)
        return self._run(self._core.forward(service, request, credentials=credentials, timeout_s=timeout_s))

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, program: Program[Result]) -> Result:
        """Perform the steps of `program`; what a step raises that is ours goes back into it."""
        try:
            step = next(program)
            while True:
                try:
                    answer = self._perform(step)
                except S3MLError as error:
                    step = program.throw(error)
                else:
                    step = program.send(answer)
        except StopIteration as stop:
            result: Result = stop.value
            return result
        finally:
            program.close()

    def _perform(self, step: Step) -> Any:
        match step:
            case Send(request=request):
                return self._transport.send(request)
            case Compute(work=work):
                return work()
            case Pause(duration_s=duration_s):
                return time.sleep(duration_s)
            case Alone():
                return self._run_alone(step)

    def _run_alone(self, step: Alone) -> Any:
        lock = self._locks.setdefault(step.name, threading.Lock())
        if not lock.acquire(timeout=min(step.timeout_s, _LOCK_TIMEOUT_LIMIT_S)):
            if step.timeout_s == 0:
                return None
            raise TransientError(f"service {step.name!r}: another call is still verifying it")
        try:
            return self._run(step.program())
        finally:
            lock.release()


class _Transport:
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
