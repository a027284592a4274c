"""What a client does, without doing it: its calls as generators of steps, shared by both shells.

Plaintext leaves only sealed to a key that was verified for the service. Every attempt is sealed afresh: a
replica that saw a request refuses its copy. The gateway's word is never trusted, only waited for.

Source: docs/spec/sealed-request.md.
"""

from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Literal

import msgspec

from s3ml.client.budget import DEFAULT_TIMEOUT_S, Budget
from s3ml.client.credentials import Credentials
from s3ml.client.errors import InvalidInputError, ModelError, TransientError, UntrustedServiceError
from s3ml.client.exchanges import DateOffsets, Exchange
from s3ml.client.inference import asked, check_parameters, check_request_id, to_result
from s3ml.client.inputs import (
    DeclaredInput,
    Inputs,
    declared_inputs,
    needs_metadata,
    to_requested,
    to_tensors,
)
from s3ml.client.log_state import LogState
from s3ml.client.replies import error_line
from s3ml.client.results import InferResult
from s3ml.client.spans import spanned
from s3ml.client.statistics import Counters, Statistics
from s3ml.client.steps import Program, Result
from s3ml.client.trust import Trust
from s3ml.client.trusting import Trusting
from s3ml.keyservice.client import VerifiedService
from s3ml.primitives.clock import Clock
from s3ml.primitives.errors import S3MLError
from s3ml.primitives.names import check_name
from s3ml.wire.oip import (
    INDEX_PATH,
    IndexEntry,
    InferRequest,
    OIPError,
    Parameters,
    decode_index,
    metadata_path,
    parse_path,
    repository_path,
)
from s3ml.wire.sealed import InnerRequest, InnerResponse

_JSON = (("content-type", "application/json"),)
# A replica that lacks a model asks for it within 5 s; one that has unloaded it never does.
MODEL_PATIENCE_S = 6.0
Ask = Callable[[float], InnerRequest]


class Core:
    """The calls of one client as programs; a shell runs them.

    Args:
        trust: What the client pins.
        log_state: The newest log that it has seen.
        clock: Its own clock.
        random_bytes: Returns so many fresh random bytes.
        jitter: Returns a number from 0 to 1, evenly distributed.
        timeout_s: How long a call may take that does not say otherwise.
        credentials: Who calls, for services that ask.
    """

    def __init__(
        self,
        *,
        trust: Trust,
        log_state: LogState,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        jitter: Callable[[], float],
        timeout_s: float = DEFAULT_TIMEOUT_S,
        credentials: Credentials | None = None,
    ) -> None:
        self._counters = Counters()
        self._trusting = Trusting(trust, log_state, clock, random_bytes, self._counters)
        self._dates = DateOffsets(clock.now)
        self._clock = clock
        self._jitter = jitter
        self._timeout_s = timeout_s
        self._credentials = credentials
        self._inputs: dict[tuple[str, str, str | None], tuple[int, Mapping[str, DeclaredInput]]] = {}
        self._budget(None)

    @property
    def statistics(self) -> Statistics:
        """What was done so far."""
        return self._counters.statistics

    def verify(self, service: str, *, timeout_s: float | None = None) -> Program[VerifiedService]:
        """Verify `service` now, whatever was verified before."""
        check_name(service, what="service")
        budget = self._budget(timeout_s)
        trusted = yield from self._persist(budget, lambda: self._trusting.renew(service, budget))
        return trusted.verified

    @spanned
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
    ) -> Program[InferResult]:
        """Run one inference."""
        check_name(service, what="service")
        budget = self._budget(timeout_s)
        requested, extra = to_requested(outputs), check_parameters(parameters)
        identity = check_request_id(request_id)
        chosen = model if model is not None else (yield from self._only_model(service, budget))
        declared: Mapping[str, DeclaredInput] = {}
        if needs_metadata(inputs):
            declared = yield from self._declared(service, chosen, version, budget)
        request = InferRequest(
            model=chosen,
            version=version,
            id=identity,
            inputs=to_tensors(inputs, declared),
            outputs=requested,
            parameters=extra,
        )
        return to_result((yield from self._exchange(service, asked(request), budget)), service)

    @spanned
    def forward(
        self,
        service: str,
        request: InnerRequest,
        *,
        credentials: Credentials | None = None,
        timeout_s: float | None = None,
    ) -> Program[InnerResponse]:
        """Send `request` as it is; return the service's answer, whatever its status."""
        check_name(service, what="service")
        parse_path(request.method, request.path)
        budget = self._budget(timeout_s)
        exchange = self._new_exchange(service, request, budget, credentials or self._credentials)
        try:
            answer = yield from self._persist(budget, exchange.attempt)
        except S3MLError:
            if exchange.refusal is None:
                raise
            return exchange.refusal
        self._counters.add(requests=1)
        return answer

    def metadata(
        self,
        service: str,
        model: str | None = None,
        *,
        version: str | None = None,
        timeout_s: float | None = None,
    ) -> Program[dict[str, Any]]:
        """Return the metadata of `model`, or of the server when no model is named."""
        check_name(service, what="service")
        return (yield from self._metadata(service, model, version, self._budget(timeout_s)))

    def is_live(self, service: str, *, timeout_s: float | None = None) -> Program[bool]:
        """Tell whether a verified replica says that it lives."""
        return (yield from self._health(service, "/v2/health/live", "live", timeout_s))

    def is_ready(
        self,
        service: str,
        model: str | None = None,
        *,
        version: str | None = None,
        timeout_s: float | None = None,
    ) -> Program[bool]:
        """Tell whether a verified replica says that it, or `model` on it, is ready."""
        path = "/v2/health/ready" if model is None else f"{metadata_path(model, version)}/ready"
        return (yield from self._health(service, path, "ready", timeout_s))

    def models(
        self, service: str, *, ready: bool = False, timeout_s: float | None = None
    ) -> Program[tuple[IndexEntry, ...]]:
        """Return the repository's index of the replica that answers."""
        check_name(service, what="service")
        content = msgspec.json.encode({"ready": ready})
        request = InnerRequest(method="POST", path=INDEX_PATH, fields=_JSON, content=content)
        answer = yield from self._exchange(service, request, self._budget(timeout_s))
        try:
            return decode_index(answer.content)
        except OIPError as error:
            raise UntrustedServiceError(f"service {service!r}: its answer is malformed: {error}") from error

    def change(
        self,
        service: str,
        model: str,
        action: Literal["load", "unload"],
        *,
        timeout_s: float | None = None,
    ) -> Program[None]:
        """Load or unload `model` on the replica that answers; doing so twice is as doing so once."""
        check_name(service, what="service")
        path = repository_path(model, action)
        request = InnerRequest(method="POST", path=path, fields=_JSON, content=b"{}")
        answer = yield from self._exchange(service, request, self._budget(timeout_s), final=_is_full)
        if _is_full(answer):
            line = error_line(answer.content)
            raise ModelError(f"service {service!r}: {line}", status=answer.status, line=line)

    def _health(self, service: str, path: str, member: str, timeout_s: float | None) -> Program[bool]:
        """Ask what a replica says of itself; its sealed refusal is an answer too."""
        check_name(service, what="service")
        budget = self._budget(timeout_s)
        request = InnerRequest(method="GET", path=path)
        answer = yield from self._exchange(service, request, budget, final=_is_unready)
        return answer.status == HTTPStatus.OK and _decoded(answer, service).get(member) is True

    def _metadata(
        self, service: str, model: str | None, version: str | None, budget: Budget
    ) -> Program[dict[str, Any]]:
        request = InnerRequest(method="GET", path=metadata_path(model, version))
        answer = yield from self._exchange(service, request, budget)
        return _decoded(answer, service)

    def _only_model(self, service: str, budget: Budget) -> Program[str]:
        trusted = yield from self._persist(budget, lambda: self._trusting.obtain(service, budget))
        models = sorted({entry.model for entry in trusted.verified.models})
        if len(models) != 1:
            raise InvalidInputError(
                f"service {service!r}: it has {len(models)} models: expected one of them as model=: "
                f"{', '.join(models)}"
            )
        return models[0]

    def _declared(
        self, service: str, model: str, version: str | None, budget: Budget
    ) -> Program[Mapping[str, DeclaredInput]]:
        """Return what the model declares, asked for once with each verification of its service."""
        key = (service, model, version)
        held = self._trusting.current(service)
        generation, declared = self._inputs.get(key, (0, {}))
        if held is None or held.generation != generation:
            declared = declared_inputs((yield from self._metadata(service, model, version, budget)))
            held = self._trusting.current(service)
            self._inputs[key] = (held.generation if held else 0, declared)
        return declared

    def _exchange(
        self,
        service: str,
        request: InnerRequest | Ask,
        budget: Budget,
        *,
        final: Callable[[InnerResponse], bool] = lambda _: False,
    ) -> Program[InnerResponse]:
        """Return the service's answer of success, or one that is `final` although it is none."""
        exchange = self._new_exchange(service, request, budget, self._credentials)

        def attempt() -> Program[InnerResponse]:
            try:
                return (yield from exchange.attempt())
            except S3MLError:
                if exchange.refusal is None or not final(exchange.refusal):
                    raise
                return exchange.refusal

        answer = yield from self._persist(budget, attempt)
        self._counters.add(requests=1)
        return answer

    def _new_exchange(
        self, service: str, request: InnerRequest | Ask, budget: Budget, credentials: Credentials | None
    ) -> Exchange:
        return Exchange(
            service,
            (lambda _: request) if isinstance(request, InnerRequest) else request,
            trusting=self._trusting,
            dates=self._dates,
            budget=budget,
            credentials=credentials,
            patience_s=MODEL_PATIENCE_S,
        )

    def _persist(self, budget: Budget, attempt: Callable[[], Program[Result]]) -> Program[Result]:
        """Make attempts until one is no matter of time, or the time is over."""
        while True:
            try:
                return (yield from attempt())
            except TransientError as failure:
                pause = budget.pause_after(failure)
            self._counters.add(retries=1)
            yield pause

    def _budget(self, timeout_s: float | None) -> Budget:
        return Budget(
            self._clock, self._jitter, timeout_s=self._timeout_s if timeout_s is None else timeout_s
        )


def _decoded(answer: InnerResponse, service: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(answer.content, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UntrustedServiceError(f"service {service!r}: expected metadata in JSON: {error}") from error


def _is_unready(answer: InnerResponse) -> bool:
    """Tell whether a replica says that it does not have the model, or not now."""
    return answer.status in (HTTPStatus.NOT_FOUND, HTTPStatus.SERVICE_UNAVAILABLE)


def _is_full(answer: InnerResponse) -> bool:
    """Tell whether a replica has no room for a model, or cannot have it: waiting is not what helps."""
    return answer.status == HTTPStatus.SERVICE_UNAVAILABLE and answer.field("retry-after") is None
