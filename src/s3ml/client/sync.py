"""The blocking client: the shared core, urllib3, and threads that may share one client.

Source: docs/adr/0003-http-library-of-the-client.md; docs/adr/0021-iterators-of-results.md.
"""

import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from s3ml.client.addresses import gateway_url
from s3ml.client.budget import DEFAULT_TIMEOUT_S
from s3ml.client.credentials import Credentials
from s3ml.client.inputs import Inputs
from s3ml.client.many import DEFAULT_CONCURRENCY, infer_each
from s3ml.client.results import InferFailure, InferResult
from s3ml.client.statistics import Statistics
from s3ml.client.windows import Window
from s3ml.wire.oip import IndexEntry, Parameters

if TYPE_CHECKING:
    from s3ml.client.trust import Trust
    from s3ml.keyservice.client import VerifiedService
    from s3ml.wire.sealed import InnerResponse


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
        trust: "Trust | Path | str",
        *,
        credentials: Credentials | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        log_state: Path | None = None,
    ) -> None:
        # Everything that verifies and sends, loaded with the first client and not with the module.
        from s3ml.client.assembly import assemble  # noqa: PLC0415
        from s3ml.client.blocking_shell import BlockingShell  # noqa: PLC0415

        self._core = assemble(trust, credentials=credentials, timeout_s=timeout_s, log_state=log_state)
        self._shell = BlockingShell(gateway_url(url))

    @property
    def statistics(self) -> Statistics:
        """What this client has done so far."""
        return self._core.statistics

    def infer(
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
        """Run one inference on a service that was verified.

        Args:
            service: The service's name.
            inputs: By input name: numpy arrays and `BFloat16`, sent as they are; lists, and tables and
                columns of pandas, which get the datatype that the model declares. Or one table: the rows of a
                model with one input; otherwise each input takes the column of its name.
            model: May be left out when the service has one model only.
            version: The server chooses when not given.
            outputs: The outputs that are wanted; all when not given.
            parameters: For the model or the server, beside the inputs; at most 62.
            request_id: Comes back with the result; at most 256 characters.
            timeout_s: How long this call may take in all, in seconds. The server is told what is left of it,
                so that it can refuse at once what it could not answer in time.

        Returns:
            A mapping of output names to writable arrays. BYTES are arrays of `bytes`; BF16 is raw 16 bits.

        Raises:
            InvalidInputError: what is wrong with the input; said by the client, or by the service, sealed.
            UnknownServiceError: the deployment has no such service.
            CredentialsRefusedError: the service admits no caller with these credentials.
            ConfigurationError: the trust file says nothing of the service, or a malformed name.
            UntrustedPeerError: a check failed; nothing was sent that others could read.
            DeadlineExceededError: no answer in time.
            ModelError: the model failed.
        """
        return self._shell.run(
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

    def stream(
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
    ) -> Iterator[InferResult]:
        """Run one inference and iterate its responses as they come. Takes and raises what `infer` does.

        Today's wire carries one response for each request, so this yields one result, with `index` 0. A loop
        over it goes on to work where models will answer piece by piece. The request leaves with the first
        step of the iteration.

        Source: docs/adr/0021-iterators-of-results.md.
        """
        yield self.infer(
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
        inputs: Iterable[Inputs],
        *,
        concurrency: int = DEFAULT_CONCURRENCY,
        ordered: bool = True,
        on_failure: Callable[[InferFailure], None] | None = None,
        model: str | None = None,
        version: str | None = None,
        outputs: Iterable[str] | None = None,
        parameters: Parameters | None = None,
        timeout_s: float | None = None,
    ) -> Iterator[InferResult]:
        """Run an inference for each of `inputs`, several at once, and iterate the results.

        `inputs` may be endless: it is read in the caller's thread, one element when there is room for it. At
        most twice `concurrency` inputs and results are held. Leaving the loop stops what was not sent yet,
        and waits for what is under way.

        Args:
            service: The service's name.
            inputs: Each as `infer` takes it.
            concurrency: How many requests are under way at once, on threads of their own; 1 to 128.
            ordered: Yield in the order of `inputs`, or as results come; `index` says whose a result is.
            on_failure: Called instead of a result for an input that failed, and the others go on. Without it
                the first failure is raised, with a note that says which input it was.
            model: As for `infer`.
            version: As for `infer`.
            outputs: As for `infer`.
            parameters: Of each request.
            timeout_s: For each input, from when it is begun, in seconds.

        Raises:
            InvalidInputError: `concurrency` is out of range; or what `infer` raises.
        """
        window = Window(concurrency=concurrency, ordered=ordered)
        wanted = None if outputs is None else tuple(outputs)

        def call(item: Inputs, stop: threading.Event) -> InferResult:
            program = self._core.infer(
                service,
                item,
                model=model,
                version=version,
                outputs=wanted,
                parameters=parameters,
                timeout_s=timeout_s,
            )
            return self._shell.run(program, stop)

        return infer_each(call, inputs, window, concurrency, on_failure)

    def live(self, service: str, *, timeout_s: float | None = None) -> bool:
        """Tell whether a verified replica says that it lives; the gateway's word does not count.

        Raises:
            UnavailableError: no replica answered in time; and what `infer` raises.
        """
        return self._shell.run(self._core.is_live(service, timeout_s=timeout_s))

    def ready(
        self,
        service: str,
        model: str | None = None,
        *,
        version: str | None = None,
        timeout_s: float | None = None,
    ) -> bool:
        """Tell whether a verified replica says that it, or `model` on it, is ready to infer.

        False is the word of the replica that answered. Others may differ for a moment.

        Raises:
            UnavailableError: no replica answered in time; and what `infer` raises.
        """
        return self._shell.run(self._core.is_ready(service, model, version=version, timeout_s=timeout_s))

    def models(
        self, service: str, *, ready: bool = False, timeout_s: float | None = None
    ) -> tuple[IndexEntry, ...]:
        """Return the index of the replica that answers: each version of each model, and its state.

        Args:
            service: The service's name.
            ready: Only what is ready.
            timeout_s: How long this call may take in all, in seconds.

        Raises:
            S3MLError: what `infer` raises.
        """
        return self._shell.run(self._core.models(service, ready=ready, timeout_s=timeout_s))

    def load_model(self, service: str, model: str, *, timeout_s: float | None = None) -> None:
        """Load every released version of `model` on the replica that answers; needs the role `models`.

        It is tried again like an inference: loading what is loaded changes nothing.

        Raises:
            InvalidInputError: the owners released no such model, or it cannot be used.
            ModelError: there is no room for it, or its bundle cannot be had; says which.
            CredentialsRefusedError: the caller lacks the role.
            S3MLError: what else `infer` raises.
        """
        self._shell.run(self._core.change(service, model, "load", timeout_s=timeout_s))

    def unload_model(self, service: str, model: str, *, timeout_s: float | None = None) -> None:
        """Unload `model` on the replica that answers; needs the role `models`.

        Requests that are under way are still answered. It is tried again like an inference: unloading what is
        not loaded changes nothing.

        Raises:
            InvalidInputError: the owners released no such model.
            CredentialsRefusedError: the caller lacks the role.
            S3MLError: what else `infer` raises.
        """
        self._shell.run(self._core.change(service, model, "unload", timeout_s=timeout_s))

    def verify(self, service: str, *, timeout_s: float | None = None) -> "VerifiedService":
        """Verify `service` now and return what was verified, step by step.

        Raises:
            UnknownServiceError: the deployment has no such service.
            ConfigurationError: the trust file says nothing of the service.
            UntrustedPeerError: a check failed.
            DeadlineExceededError: no answer in time.
        """
        return self._shell.run(self._core.verify(service, timeout_s=timeout_s))

    def metadata(
        self,
        service: str,
        model: str | None = None,
        *,
        version: str | None = None,
        timeout_s: float | None = None,
    ) -> dict[str, Any]:
        """Return the metadata of `model`, or of the server when none is named. Raises what `infer` raises."""
        return self._shell.run(self._core.metadata(service, model, version=version, timeout_s=timeout_s))

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
    ) -> "InnerResponse":
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
        from s3ml.wire.sealed import InnerRequest  # noqa: PLC0415 - see the constructor

        request = InnerRequest(method=method, path=path, fields=tuple(fields), content=content)
        return self._shell.run(
            self._core.forward(service, request, credentials=credentials, timeout_s=timeout_s)
        )

    def close(self) -> None:
        """Close all connections."""
        self._shell.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
