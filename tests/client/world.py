"""Gateway, key service and replicas in one value: real sealing, a clock that tests move, scripted faults."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np

from s3ml.attestation.evidence import Tee
from s3ml.attestation.policy import Alternative, AppraisalPolicy
from s3ml.client.core import Core
from s3ml.client.errors import TransientError
from s3ml.client.log_state import LogState
from s3ml.client.steps import Alone, Compute, HTTPReply, HTTPRequest, Pause, Program, Result, Send, Step
from s3ml.client.trust import Trust
from s3ml.client.trusting import TRUST_BUNDLE_PATH
from s3ml.keyservice.client import TrustAnchor, VerifiedService
from s3ml.keyservice.documents import AnonymousCallers, CallerRule, ModelSummary, TrustBundleRequest
from s3ml.primitives.errors import S3MLError, UntrustedPeerError
from s3ml.wire.errors import SealRejectedError, UnknownKeyError
from s3ml.wire.hpke import HYBRID_AES256, PrivateKey
from s3ml.wire.ohttp import (
    OHTTP_KEY_PROBLEM,
    PROBLEM_MEDIA_TYPE,
    REQUEST_MEDIA_TYPE,
    RESPONSE_MEDIA_TYPE,
    KeyConfig,
    encode_key_configs,
)
from s3ml.wire.oip import (
    Endpoint,
    IndexEntry,
    InferResponse,
    ModelState,
    OIPError,
    Route,
    Tensor,
    decode_infer_request,
    encode_error,
    encode_index,
    encode_infer_response,
    parse_header_length,
)
from s3ml.wire.sealed import (
    AnsweredError,
    InnerResponse,
    KeyRing,
    OpenedRequest,
    ReplayGuard,
    RingKey,
    open_request,
)

DEPLOYMENT = "d0" * 32
SERVICE = "tumours"
MODEL = "classifier"
POLICY = AppraisalPolicy(accept=(Alternative(tee=Tee.SGX, measurements=("a1" * 32,)),))
TRUST = Trust(deployment=DEPLOYMENT, key_service_policy=POLICY, follow="owners")
METADATA = {
    "name": MODEL,
    "platform": "onnx",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
}

Fault = Callable[[HTTPRequest], HTTPReply | None]


@dataclass(slots=True)
class MovableClock:
    """A clock that stands still until it is told."""

    wall: datetime = datetime(2026, 11, 1, 12, tzinfo=UTC)
    seconds: float = 1000.0

    def now(self) -> datetime:
        return self.wall

    def monotonic_s(self) -> float:
        return self.seconds

    def advance(self, duration_s: float) -> None:
        self.wall += timedelta(seconds=duration_s)
        self.seconds += duration_s


class _Statement(msgspec.Struct):
    """What the fake key service says; `verified` stands in for the real verification."""

    service: str
    nonce: bytes
    key_configs: bytes
    log_size: int
    known_size: int | None
    models: list[str]


@dataclass(slots=True)
class World:
    """Everything behind the gateway's address.

    `bundles` and `sealed` script what happens to the next requests of each kind: a fault answers, raises, or
    returns None to let the request through.
    """

    clock: Any = field(default_factory=MovableClock)
    server_offset: timedelta = timedelta()
    bundles: deque[Fault] = field(default_factory=deque)
    sealed: deque[Fault] = field(default_factory=deque)
    answers: deque[InnerResponse] = field(default_factory=deque)
    seen: list[HTTPRequest] = field(default_factory=list)
    opened: list[OpenedRequest] = field(default_factory=list)
    asked: list[TrustBundleRequest] = field(default_factory=list)
    models: tuple[str, ...] = (MODEL,)
    metadata: dict[str, Any] = field(default_factory=lambda: METADATA)
    evaluate: Callable[[Tensor], tuple[Tensor, ...]] = field(default=lambda tensor: (doubled(tensor),))
    loaded: set[str] = field(default_factory=lambda: {MODEL})
    callers: tuple[CallerRule, ...] = (AnonymousCallers(),)
    log_size: int = 5
    is_simulated: bool = False
    lifetime_s: float = 600.0
    epoch: int = 0
    ring: KeyRing = field(default_factory=lambda: KeyRing.of(()))
    replays: ReplayGuard = field(default_factory=ReplayGuard)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.rotate()

    def rotate(self) -> None:
        """Begin a new epoch; replicas forget the old one's key."""
        self.epoch += 1
        key = PrivateKey.generate(HYBRID_AES256.kem)
        config = KeyConfig(key_id=self.epoch, kem=key.kem, public_key=key.public, suites=(HYBRID_AES256,))
        ring_key = RingKey(config=config, private_key=key, service=SERVICE, epoch=self.epoch)
        self.ring = KeyRing.of((ring_key,))

    @property
    def sealed_bodies(self) -> list[bytes]:
        return [request.body for request in self.seen if request.path != TRUST_BUNDLE_PATH]

    def answer(self, request: HTTPRequest) -> HTTPReply:
        self.seen.append(request)
        is_bundle = request.path == TRUST_BUNDLE_PATH
        script = self.bundles if is_bundle else self.sealed
        reply = script.popleft()(request) if script else None
        if reply is not None:
            return reply
        return self._bundle(request) if is_bundle else self._ohttp(request)

    def _bundle(self, request: HTTPRequest) -> HTTPReply:
        asked = msgspec.json.decode(request.body, type=TrustBundleRequest)
        self.asked.append(asked)
        if asked.service != SERVICE:
            return HTTPReply(status=404, body=b'{"error":"no such service"}')
        statement = _Statement(
            service=asked.service,
            nonce=asked.nonce,
            key_configs=encode_key_configs(key.config for key in self.ring.keys.values()),
            log_size=self.log_size,
            known_size=asked.known_size,
            models=list(self.models),
        )
        return HTTPReply(status=200, body=msgspec.json.encode(statement))

    def _ohttp(self, request: HTTPRequest) -> HTTPReply:
        assert request.content_type == REQUEST_MEDIA_TYPE
        if request.path != f"/services/{SERVICE}/ohttp":
            return HTTPReply(status=404, body=b'{"error":"not found"}')
        try:
            opened = open_request(
                self.ring, request.body, now=self.clock.now() + self.server_offset, replays=self.replays
            )
        except UnknownKeyError:
            return key_problem(request)
        except SealRejectedError:
            return HTTPReply(status=400, body=b'{"error":"bad request"}')
        except AnsweredError as error:
            return sealed_reply(error.sealed_answer())
        self.opened.append(opened)
        answer = self.answers.popleft() if self.answers else self._infer(opened)
        return sealed_reply(opened.seal_response(answer))

    def _infer(self, opened: OpenedRequest) -> InnerResponse:
        if opened.route.endpoint is Endpoint.SERVER_METADATA:
            return InnerResponse(status=200, content=b'{"name":"s3ml"}')
        if opened.route.endpoint is Endpoint.MODEL_METADATA:
            return InnerResponse(status=200, content=msgspec.json.encode(self.metadata))
        if opened.route.endpoint is not Endpoint.INFER:
            return self._tell(opened.route)
        header_length = parse_header_length(opened.request.field("inference-header-content-length"))
        try:
            request = decode_infer_request(opened.request.content, header_length, model=MODEL)
            outputs = tuple(output for tensor in request.inputs for output in self.evaluate(tensor))
            response = InferResponse(model=self.models[0], version="1", id=request.id, outputs=outputs)
            content, fields = encode_infer_response(response, request)
        except OIPError as error:
            content, fields = encode_error(str(error))
            return InnerResponse(status=error.status, fields=fields, content=content)
        return InnerResponse(status=200, fields=fields, content=content)

    def _tell(self, route: Route) -> InnerResponse:
        """Answer what concerns health and the repository."""
        is_loaded = route.model in self.loaded
        if route.model is not None and route.model not in self.models:
            return inner(404, f"model {route.model}: not released")
        match route.endpoint:
            case Endpoint.LIVE:
                return InnerResponse(status=200, content=b'{"live":true}')
            case Endpoint.READY:
                content = msgspec.json.encode({"ready": bool(self.loaded)})
                return InnerResponse(status=200, content=content)
            case Endpoint.MODEL_READY if is_loaded:
                return InnerResponse(status=200, content=b'{"name":"classifier","ready":true}')
            case Endpoint.MODEL_READY:
                return inner(404, f"model {route.model}: not served here")
            case Endpoint.MODEL_LOAD:
                self.loaded.add(str(route.model))
            case Endpoint.MODEL_UNLOAD:
                self.loaded.discard(str(route.model))
            case _:
                entries = (
                    IndexEntry(
                        name=name,
                        version="1",
                        state=ModelState.READY if name in self.loaded else ModelState.UNAVAILABLE,
                    )
                    for name in self.models
                )
                return InnerResponse(status=200, content=encode_index(tuple(entries)))
        return InnerResponse(status=200, content=b"{}")

    def verified(
        self,
        bundle: bytes,
        *,
        anchor: TrustAnchor,
        service: str,
        nonce: bytes,
        requested_at: datetime,
        now: datetime,
    ) -> VerifiedService:
        """Stand in for the verification of a trust bundle."""
        statement = msgspec.json.decode(bundle, type=_Statement)
        known_size = anchor.known[0] if anchor.known else None
        if (statement.service, statement.nonce, statement.known_size) != (service, nonce, known_size):
            raise UntrustedPeerError("trust bundle: answers another question")
        template: dict[str, Any] = {"policy": POLICY, "enclave": None, "steps": ()}
        return VerifiedService(
            service=service,
            deployment=anchor.deployment,
            models=tuple(
                ModelSummary(model=model, model_version="1", manifest_sha256="ee" * 32)
                for model in statement.models
            ),
            callers=self.callers,
            key_configs=statement.key_configs,
            expires_at=requested_at + timedelta(seconds=min(self.lifetime_s, anchor.max_age_s)),
            is_simulated=self.is_simulated,
            is_fork_protected=not self.is_simulated,
            log_size=statement.log_size,
            log_root=bytes(32),
            **template,
        )


@dataclass(slots=True)
class Driver:
    """A shell without I/O: performs steps on a world, and moves its clock for pauses."""

    world: World
    pauses_s: list[float] = field(default_factory=list)
    busy: set[str] = field(default_factory=set)

    def run(self, program: Program[Result]) -> Result:
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

    def _perform(self, step: Step) -> Any:
        match step:
            case Send(request=request):
                return self.world.answer(request)
            case Compute(work=work):
                return work()
            case Pause(duration_s=duration_s):
                self.pauses_s.append(duration_s)
                return self.world.clock.advance(duration_s)
            case Alone():
                return self._alone(step)

    def _alone(self, step: Alone) -> Any:
        if step.name in self.busy:
            if step.timeout_s == 0:
                return None
            self.world.clock.advance(step.timeout_s)
            raise TransientError("another call is still verifying it")
        self.busy.add(step.name)
        try:
            return self.run(step.program())
        finally:
            self.busy.discard(step.name)


def make_core(world: World, *, trust: Trust = TRUST, timeout_s: float = 30.0) -> Core:
    """Return a core on the world's clock, whose jitter is always the whole of it."""
    return Core(
        trust=trust,
        log_state=LogState(trust.deployment),
        clock=world.clock,
        random_bytes=lambda size: (len(world.seen) + 1).to_bytes(size, "big"),
        jitter=lambda: 1.0,
        timeout_s=timeout_s,
    )


def doubled(tensor: Tensor) -> Tensor:
    """What the model does: twice each number, and bytes as they are."""
    array = tensor.array if tensor.datatype == "BYTES" else np.array(tensor.array) * 2
    name = "y" if tensor.name == "x" else tensor.name
    return replace(tensor, name=name, array=array.astype(tensor.array.dtype))


def sealed_reply(body: bytes) -> HTTPReply:
    return HTTPReply(status=200, headers={"content-type": RESPONSE_MEDIA_TYPE}, body=body)


def key_problem(_: HTTPRequest) -> HTTPReply:
    return HTTPReply(status=400, headers={"content-type": PROBLEM_MEDIA_TYPE}, body=OHTTP_KEY_PROBLEM.content)


def status(code: int, *, retry_after: str | None = None) -> Fault:
    headers = {"content-type": "application/json"} | ({"retry-after": retry_after} if retry_after else {})
    return lambda _: HTTPReply(status=code, headers=headers, body=b'{"error":"for the moment"}')


def broken(_: HTTPRequest) -> HTTPReply:
    raise TransientError("gateway: the connection broke")


def inner(code: int, message: str, *fields: tuple[str, str]) -> InnerResponse:
    content, described = encode_error(message)
    return InnerResponse(status=code, fields=(*described, *fields), content=content)
