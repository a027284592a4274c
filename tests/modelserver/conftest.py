"""A deployment in miniature: real keys, real bundles, real seals; only the key service is played."""

import asyncio
import io
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from s3ml.bundle import Declaration, bundle_location, encrypt_payload, write_bundle
from s3ml.keyservice.documents import (
    MANIFEST_TYPE,
    AnonymousCallers,
    ModelManifest,
    Release,
    ReleasedEpoch,
    ReleasedKey,
    ReleasedModel,
)
from s3ml.modelserver import Settings
from s3ml.modelserver.app import ModelServer, create_app
from s3ml.modelserver.dispatch import Dispatcher
from s3ml.modelserver.enrolment import Enrolment
from s3ml.modelserver.events import EventLog
from s3ml.modelserver.execution import BulkWorker
from s3ml.modelserver.memory import MemoryBudget
from s3ml.modelserver.metrics import Metrics
from s3ml.modelserver.repository import Repository
from s3ml.modelserver.runtimes import open_model
from s3ml.modelserver.serving import Serving
from s3ml.modelserver.store import BundleStore
from s3ml.modelserver.tracing import untraced
from s3ml.primitives.envelope import Envelope
from s3ml.primitives.signing import SigningKey
from s3ml.wire.hpke import HYBRID_AES256, X25519_AES128, PrivateKey, Suite
from s3ml.wire.ohttp import KeyConfig, encode_key_configs, parse_key_configs
from s3ml.wire.sealed import InnerRequest, InnerResponse, SealedRequest, seal_request

START = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
DEPLOYMENT = "d" * 64
POLICY = "e" * 64
BUDGET_BYTES = 1 << 30
NOTHING_DECLARED = Declaration()


class ManualClock:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.elapsed_s = 0.0

    def now(self) -> datetime:
        return START + timedelta(seconds=self.elapsed_s)

    def monotonic_s(self) -> float:
        return 1000.0 + self.elapsed_s


def value(name: str, kind: int, *shape: int | str) -> Any:
    return helper.make_tensor_value_info(name, kind, list(shape))


def build(nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: list[Any]) -> Any:
    graph = helper.make_graph(nodes, "graph", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def linear(factor: float = 1.0) -> bytes:
    """``y = x @ w`` with three features and two outputs, and ``z = -y``."""
    weights = numpy_helper.from_array(factor * np.arange(6, dtype=np.float32).reshape(3, 2), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Neg", ["y"], ["z"])]
    outputs = [value("y", TensorProto.FLOAT, "n", 2), value("z", TensorProto.FLOAT, "n", 2)]
    data: bytes = build(
        nodes, [value("x", TensorProto.FLOAT, "n", 3)], outputs, [weights]
    ).SerializeToString()
    return data


def external_model(folder: Path, *, location: str = "w.bin", weights: Any = None) -> None:
    """Write `linear` with its weights in a file of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    model = onnx.load_model(io.BytesIO(linear()))
    onnx.save_model(
        model, folder / "model.onnx", save_as_external_data=True, location=location, size_threshold=0
    )


@dataclass
class World:
    """The owners' side: what is stored, and what would be released."""

    folder: Path
    owner: SigningKey = field(default_factory=SigningKey.generate)
    models: dict[tuple[str, str], ReleasedModel] = field(default_factory=dict)
    epochs: list[ReleasedEpoch] = field(default_factory=list)
    lease_s: float = 900.0
    failure: Exception | None = None
    fetches: int = 0

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def publish(
        self,
        source: bytes | Path,
        *,
        model: str = "tumours",
        version: str = "1",
        declaration: Declaration = NOTHING_DECLARED,
        **changes: Any,
    ) -> ReleasedModel:
        if isinstance(source, bytes):
            path = self.folder / "source.onnx"
            path.write_bytes(source)
            source = path
        payload = self.folder / "payload.age"
        encrypted = encrypt_payload(
            source, payload, progress=lambda _done, _total: None, declaration=declaration
        )
        stated = {
            "deployment": DEPLOYMENT,
            "service": "tumours",
            "policy_sha256": POLICY,
            "model": model,
            "model_version": version,
            "payload_sha256": encrypted.sha256,
            "payload_bytes": encrypted.size_bytes,
            "sealed_identity_sha256": "0" * 64,
        }
        manifest = ModelManifest(**{**stated, **changes})
        envelope = Envelope(
            payload_type=MANIFEST_TYPE, payload=json.dumps(_plain(manifest)).encode()
        ).with_signature(self.owner)
        write_bundle(self.store / bundle_location(model, version), envelope, payload)
        released = ReleasedModel(manifest=envelope, identity=encrypted.identity)
        self.models[model, version] = released
        return released

    def begin_epoch(self, epoch: int = 1, *, first_id: int = 1, service: str = "tumours") -> KeyConfig:
        """Make a hybrid and an X25519 key and return the hybrid's configuration."""
        keys = []
        for offset, suite in enumerate((HYBRID_AES256, X25519_AES128)):
            keys.append(make_key(suite, first_id + offset))
        self.epochs.append(ReleasedEpoch(epoch=epoch, state="active", keys=tuple(keys)))
        return parse_key_configs(keys[0].key_config)[0]

    def release(self, **changes: Any) -> Release:
        stated: dict[str, Any] = {
            "deployment": DEPLOYMENT,
            "service": "tumours",
            "policy_sha256": POLICY,
            "attester_nonce": bytes(32),
            "issued_at": START,
            "lease_s": self.lease_s,
            "callers": (AnonymousCallers(),),
            "model_owners": (str(self.owner.public),),
            "epochs": tuple(self.epochs),
            "models": tuple(self.models.values()),
            "log_size": 1,
            "log_root": bytes(32),
            "checkpoint": "",
        }
        return Release(**{**stated, **changes})

    def fetch(self) -> Release:
        """Play the source of releases."""
        self.fetches += 1
        if self.failure is not None:
            raise self.failure
        return self.release()


def make_key(suite: Suite, key_id: int) -> ReleasedKey:
    private = PrivateKey.generate(suite.kem)
    config = KeyConfig(key_id=key_id, kem=suite.kem, public_key=private.public, suites=(suite,))
    return ReleasedKey(key_config=encode_key_configs([config]), private_key=private.to_bytes())


def _plain(manifest: ModelManifest) -> dict[str, Any]:
    return {name: getattr(manifest, name) for name in manifest.__struct_fields__}


@dataclass
class Plain:
    """An outer reply."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Replica:
    """A model server without its socket."""

    world: World
    settings: Settings
    clock: ManualClock
    log: io.StringIO
    serving: Serving
    dispatcher: Dispatcher
    bulk: BulkWorker
    app: ModelServer
    repository: Repository
    enrolment: Enrolment
    config: KeyConfig | None = None
    slept_s: list[float] = field(default_factory=list)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.getvalue().splitlines()]

    async def enrol(self) -> "Replica":
        await self.enrolment.attempt()
        self.enrolment._set_timer(None)
        return self

    async def call(
        self,
        method: str,
        path: str,
        *pieces: bytes,
        headers: dict[str, str] | None = None,
        disconnects: bool = False,
    ) -> Plain:
        """Send one request through ASGI."""
        queue: list[dict[str, Any]] = [
            {"type": "http.request", "body": piece, "more_body": True} for piece in pieces or (b"",)
        ]
        queue[-1]["more_body"] = disconnects
        self.pieces_read = 0

        async def receive() -> dict[str, Any]:
            self.pieces_read += 1
            if not queue and not disconnects:
                await asyncio.get_running_loop().create_future()
            return queue.pop(0) if queue else {"type": "http.disconnect"}

        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        raw = [(name.encode(), text.encode()) for name, text in (headers or {}).items()]
        scope = {"type": "http", "method": method, "path": path, "headers": raw}
        await self.app(scope, receive, send)
        start, *bodies = sent
        return Plain(
            status=start["status"],
            headers={name.decode(): text.decode() for name, text in start["headers"]},
            body=b"".join(body.get("body", b"") for body in bodies),
        )

    def seal(self, request: InnerRequest, config: KeyConfig | None = None) -> SealedRequest:
        chosen = config or self.config
        assert chosen is not None
        return seal_request(chosen, request, date=self.clock.now())

    async def post(self, body: bytes, **headers: str) -> Plain:
        """Send a sealed body."""
        fields = {"content-type": "message/ohttp-req", "content-length": str(len(body))}
        return await self.call("POST", "/services/tumours/ohttp", body, headers={**fields, **headers})

    async def ask(
        self, method: str, path: str, content: bytes = b"", fields: Any = (), config: KeyConfig | None = None
    ) -> InnerResponse:
        """Seal a request, send it, and open the answer."""
        sealed = self.seal(
            InnerRequest(method=method, path=path, fields=tuple(fields), content=content), config
        )
        reply = await self.post(sealed.body)
        assert (reply.status, reply.headers["content-type"]) == (200, "message/ohttp-res"), reply
        return sealed.open_response(reply.body)

    async def ask_json(self, method: str, path: str, document: Any = None) -> tuple[int, Any]:
        content = b"" if document is None else json.dumps(document).encode()
        answer = await self.ask(method, path, content)
        return answer.status, json.loads(bytes(answer.content))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(folder=tmp_path)


@pytest.fixture
def replica(world: World) -> Iterator[Replica]:
    """A replica that has not asked for keys yet."""
    settings = Settings(
        host="127.0.0.1",
        port=0,
        key_service=("http://127.0.0.1:1",),
        service="tumours",
        bundles=str(world.store),
        replica="replica-1",
        max_request_bytes=1 << 20,
        inference_threads=1,
    )
    stream = io.StringIO()
    log = EventLog(settings.replica, stream)
    clock, serving = ManualClock(), Serving()
    metrics = Metrics(settings.service)
    bulk = BulkWorker(deadline_s=300)
    dispatcher = Dispatcher(
        threads=1,
        deadline_s=300,
        monotonic_s=time.monotonic,
        observe=lambda run: metrics.execute(rows=run.rows),
        apart=lambda _model: None,
    )
    repository = Repository(
        BundleStore(settings.bundles), open_runtime=open_model, budget=MemoryBudget(BUDGET_BYTES), log=log
    )
    slept_s: list[float] = []

    async def sleep(delay_s: float) -> None:
        slept_s.append(delay_s)
        clock.elapsed_s += delay_s

    enrolment = Enrolment(
        world,
        repository=repository,
        serving=serving,
        clock=clock,
        log=log,
        draw=lambda: 0.0,
        sleep=sleep,
    )
    app = create_app(
        settings,
        serving,
        repository=repository,
        dispatcher=dispatcher,
        bulk=bulk,
        metrics=metrics,
        trace=untraced,
        clock=clock,
        log=log,
        on_unknown=enrolment.want_renewal,
    )
    yield Replica(
        world,
        settings,
        clock,
        stream,
        serving,
        dispatcher,
        bulk,
        app,
        repository,
        enrolment,
        slept_s=slept_s,
    )
    dispatcher.close()
    bulk.close()


@pytest.fixture
async def serving_replica(world: World, replica: Replica) -> Replica:
    """A replica that serves `linear` as the model ``tumours``."""
    world.publish(linear())
    replica.config = world.begin_epoch()
    return await replica.enrol()
