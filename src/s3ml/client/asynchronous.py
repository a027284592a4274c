"""The asynchronous client: the shared core and aiohttp, which is imported with the first client.

Source: docs/adr/0003-http-library-of-the-client.md.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from s3ml.client.addresses import gateway_url
from s3ml.client.aiohttp_transport import AiohttpTransport
from s3ml.client.assembly import assemble
from s3ml.client.budget import DEFAULT_TIMEOUT_S
from s3ml.client.credentials import Credentials
from s3ml.client.errors import TransientError
from s3ml.client.inputs import Inputs
from s3ml.client.many import DEFAULT_CONCURRENCY
from s3ml.client.many_awaited import infer_each_awaited
from s3ml.client.results import InferFailure, InferResult
from s3ml.client.statistics import Statistics
from s3ml.client.steps import HEAVY_BYTES, Alone, Compute, Pause, Program, Result, Send, Step
from s3ml.client.trust import Trust
from s3ml.client.windows import Window
from s3ml.keyservice.client import VerifiedService
from s3ml.primitives.errors import S3MLError
from s3ml.wire.oip import IndexEntry, Parameters
from s3ml.wire.sealed import InnerRequest, InnerResponse


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
        self._transport = AiohttpTransport(gateway_url(url))
        self._core = assemble(trust, credentials=credentials, timeout_s=timeout_s, log_state=log_state)
        self._locks: dict[str, asyncio.Lock] = {}

    @property
    def statistics(self) -> Statistics:
        """What this client has done so far."""
        return self._core.statistics

    async def infer(
        self,
        service: str,
        inputs: Inputs,
        *,
        model: str | None = None,
        version: str | None = None,
        outputs: Iterable[str] | None = None,
        parameters: Parameters | None = None,
        request_id: str | None = None,
        timeout_s: float | None = None,
    ) -> InferResult:
        """Run one inference on a service that was verified; as `Client.infer`."""
        return await self._run(
            self._core.infer(
                service,
                inputs,
                model=model,
                version=version,
                outputs=outputs,
                parameters=parameters,
                request_id=request_id,
                timeout_s=timeout_s,
            )
        )

    async def stream(
        self,
        service: str,
        inputs: Inputs,
        *,
        model: str | None = None,
        version: str | None = None,
        outputs: Iterable[str] | None = None,
        parameters: Parameters | None = None,
        request_id: str | None = None,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[InferResult, None]:
        """Run one inference and iterate its responses, today one; as `Client.stream`."""
        yield await self.infer(
            service,
            inputs,
            model=model,
            version=version,
            outputs=outputs,
            parameters=parameters,
            request_id=request_id,
            timeout_s=timeout_s,
        )

    def infer_many(
        self,
        service: str,
        inputs: Iterable[Inputs] | AsyncIterable[Inputs],
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        ordered: bool = True,
        on_failure: Callable[[InferFailure], None] | None = None,
        model: str | None = None,
        version: str | None = None,
        outputs: Iterable[str] | None = None,
        parameters: Parameters | None = None,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[InferResult, None]:
        """Run an inference for each of `inputs`, several at once, and iterate the results.

        As `Client.infer_many`, with tasks in place of threads; `inputs` may be asynchronous. Leaving the loop
        cancels what is under way: at once within `contextlib.aclosing`, and otherwise when the event loop
        finds that nobody holds the iterator any more.
        """
        window = Window(concurrency=concurrency, ordered=ordered)
        wanted = None if outputs is None else tuple(outputs)

        async def call(item: Inputs) -> InferResult:
            return await self.infer(
                service,
                item,
                model=model,
                version=version,
                outputs=wanted,
                parameters=parameters,
                timeout_s=timeout_s,
            )

        return infer_each_awaited(call, inputs, window, on_failure)

    async def live(self, service: str, *, timeout_s: float | None = None) -> bool:
        """Tell whether a verified replica says that it lives; as `Client.live`."""
        return await self._run(self._core.is_live(service, timeout_s=timeout_s))

    async def ready(
        self,
        service: str,
        model: str | None = None,
        *,
        version: str | None = None,
        timeout_s: float | None = None,
    ) -> bool:
        """Tell whether a verified replica says that it, or `model` on it, is ready; as `Client.ready`."""
        return await self._run(self._core.is_ready(service, model, version=version, timeout_s=timeout_s))

    async def models(
        self, service: str, *, ready: bool = False, timeout_s: float | None = None
    ) -> tuple[IndexEntry, ...]:
        """Return the index of the replica that answers; as `Client.models`."""
        return await self._run(self._core.models(service, ready=ready, timeout_s=timeout_s))

    async def load_model(self, service: str, model: str, *, timeout_s: float | None = None) -> None:
        """Load `model` on the replica that answers; as `Client.load_model`."""
        await self._run(self._core.change(service, model, "load", timeout_s=timeout_s))

    async def unload_model(self, service: str, model: str, *, timeout_s: float | None = None) -> None:
        """Unload `model` on the replica that answers; as `Client.unload_model`."""
        await self._run(self._core.change(service, model, "unload", timeout_s=timeout_s))

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
