"""What a client does, without doing it: its calls as generators of steps, shared by both shells.

Plaintext leaves only sealed to a key that was verified for the service. Every attempt is sealed afresh: a
replica that saw a request refuses its copy. The gateway's word is never trusted, only waited for.

Source: docs/spec/sealed-request.md.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from s3ml.client.budget import Budget
from s3ml.client.credentials import Credentials
from s3ml.client.errors import InvalidInputError, TransientError, UntrustedServiceError
from s3ml.client.exchanges import DateOffsets, Exchange
from s3ml.client.inputs import (
    Array,
    ArrayLike,
    datatypes_of,
    needs_metadata,
    to_arrays,
    to_requested,
    to_tensors,
)
from s3ml.client.log_state import LogState
from s3ml.client.statistics import Counters, Statistics
from s3ml.client.steps import Program, Result
from s3ml.client.trust import Trust
from s3ml.client.trusting import Trusting
from s3ml.keyservice.client import VerifiedService
from s3ml.primitives.clock import Clock
from s3ml.primitives.errors import S3MLError
from s3ml.primitives.names import check_name
from s3ml.wire.oip import (
    HEADER_LENGTH_FIELD,
    InferRequest,
    Limits,
    OIPError,
    decode_infer_response,
    encode_infer_request,
    infer_path,
    metadata_path,
    parse_header_length,
    parse_path,
)
from s3ml.wire.sealed import DEFAULT_LIMITS, InnerRequest, InnerResponse

DEFAULT_TIMEOUT_S = 30.0
# A replica that lacks a model asks for it within 5 s; one that has unloaded it never does.
FORWARD_PATIENCE_S = 6.0
_ANSWER_LIMITS = Limits(content_bytes=DEFAULT_LIMITS.max_response_bytes)


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
        self._datatypes: dict[tuple[str, str, str | None], tuple[int, dict[str, str]]] = {}
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

    def infer(
        self,
        service: str,
        inputs: Mapping[str, ArrayLike],
        *,
        model: str | None = None,
        version: str | None = None,
        outputs: Iterable[str] | None = None,
        timeout_s: float | None = None,
    ) -> Program[dict[str, Array]]:
        """Run one inference; return its outputs by name."""
        check_name(service, what="service")
        budget = self._budget(timeout_s)
        requested = to_requested(outputs)
        chosen = model if model is not None else (yield from self._only_model(service, budget))
        path = infer_path(chosen, version)
        datatypes: dict[str, str] = {}
        if needs_metadata(inputs):
            datatypes = yield from self._model_datatypes(service, chosen, version, budget)
        request = InferRequest(
            model=chosen, version=version, inputs=to_tensors(inputs, datatypes), outputs=requested
        )
        content, fields = encode_infer_request(request, binary=True)
        answer = yield from self._exchange(
            service, InnerRequest(method="POST", path=path, fields=fields, content=content), budget
        )
        return _outputs(answer, service)

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
        exchange = Exchange(
            service,
            request,
            trusting=self._trusting,
            dates=self._dates,
            budget=budget,
            credentials=credentials or self._credentials,
            patience_s=FORWARD_PATIENCE_S,
        )
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

    def _metadata(
        self, service: str, model: str | None, version: str | None, budget: Budget
    ) -> Program[dict[str, Any]]:
        request = InnerRequest(method="GET", path=metadata_path(model, version))
        answer = yield from self._exchange(service, request, budget)
        try:
            return msgspec.json.decode(answer.content, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UntrustedServiceError(f"service {service!r}: expected metadata in JSON: {error}") from error

    def _only_model(self, service: str, budget: Budget) -> Program[str]:
        trusted = yield from self._persist(budget, lambda: self._trusting.obtain(service, budget))
        models = sorted({entry.model for entry in trusted.verified.models})
        if len(models) != 1:
            raise InvalidInputError(
                f"service {service!r}: it has {len(models)} models: expected one of them as model=: "
                f"{', '.join(models)}"
            )
        return models[0]

    def _model_datatypes(
        self, service: str, model: str, version: str | None, budget: Budget
    ) -> Program[dict[str, str]]:
        """Return what the model declares, asked for once with each verification of its service."""
        key = (service, model, version)
        held = self._trusting.current(service)
        generation, datatypes = self._datatypes.get(key, (0, {}))
        if held is None or held.generation != generation:
            datatypes = datatypes_of((yield from self._metadata(service, model, version, budget)))
            held = self._trusting.current(service)
            self._datatypes[key] = (held.generation if held else 0, datatypes)
        return datatypes

    def _exchange(self, service: str, request: InnerRequest, budget: Budget) -> Program[InnerResponse]:
        exchange = Exchange(
            service,
            request,
            trusting=self._trusting,
            dates=self._dates,
            budget=budget,
            credentials=self._credentials,
        )
        answer = yield from self._persist(budget, exchange.attempt)
        self._counters.add(requests=1)
        return answer

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


def _outputs(answer: InnerResponse, service: str) -> dict[str, Array]:
    try:
        header_length = parse_header_length(answer.field(HEADER_LENGTH_FIELD))
        return to_arrays(decode_infer_response(answer.content, header_length, limits=_ANSWER_LIMITS))
    except OIPError as error:
        raise UntrustedServiceError(f"service {service!r}: its answer is malformed: {error}") from error
