"""The model server with one thing added that the product does not have: an unsealed way in.

It exists in this composition root only. Both ways end in the same `Inference`, the same pool of threads and
the same event loop, under the product's own uvicorn configuration, so that what differs is the seal.

Started by `seal.py`. Prints one JSON line, the key configurations, once it listens.
"""

import argparse
import base64
import json
import socket
import sys
import time
from pathlib import Path
from types import MappingProxyType

import uvicorn
import uvloop

from benchmarks.machine import pin
from benchmarks.plaintext import model_files
from s3ml.keyservice.documents import AnonymousCallers
from s3ml.listening import http_config
from s3ml.modelserver import Settings
from s3ml.modelserver.app import ModelServer, Scope, Send, create_app
from s3ml.modelserver.bodies import Receive, read_body
from s3ml.modelserver.callers import Gate
from s3ml.modelserver.dispatch import Dispatcher
from s3ml.modelserver.events import EventLog
from s3ml.modelserver.execution import BulkWorker
from s3ml.modelserver.inference import Inference
from s3ml.modelserver.memory import MemoryBudget
from s3ml.modelserver.metrics import Metrics
from s3ml.modelserver.models import LoadedModel, ModelSet
from s3ml.modelserver.repository import Repository
from s3ml.modelserver.repository_endpoints import RepositoryEndpoints
from s3ml.modelserver.runtimes.onnx import open_model
from s3ml.modelserver.server import INFERENCE_DEADLINE_S
from s3ml.modelserver.serving import Serving
from s3ml.modelserver.store import BundleStore
from s3ml.modelserver.timing import Timing
from s3ml.modelserver.tracing import untraced
from s3ml.primitives.clock import SystemClock
from s3ml.primitives.units import MIB
from s3ml.wire.hpke import HYBRID_AES256, X25519_AES128, PrivateKey
from s3ml.wire.ohttp import KeyConfig, encode_key_configs
from s3ml.wire.oip import Limits, parse_path
from s3ml.wire.sealed import InnerRequest, KeyRing, RingKey

SERVICE = "benchmark"
SUITES = {"x25519": (1, X25519_AES128), "hybrid": (2, HYBRID_AES256)}
LIMIT_BYTES = 16 * MIB
_LEASE_S = 24 * 3600.0


class WithUnsealed:
    """The model server, and beside it the same inference without a seal.

    Args:
        sealed: The product's application.
        inference: What both share.
    """

    def __init__(self, sealed: ModelServer, inference: Inference) -> None:
        self._sealed = sealed
        self._inference = inference

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request: below ``/v2/models/`` unsealed, anything else by the product."""
        if scope["type"] == "http" and scope["path"].startswith("/v2/models/"):
            await self._plain(scope, receive, send)
        else:
            await self._sealed(scope, receive, send)

    async def _plain(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        with self._sealed.admission.reserve() as reservation:
            body = await read_body(
                receive, headers[b"content-length"], reservation=reservation, limit_bytes=LIMIT_BYTES
            )
            request = InnerRequest(
                method=scope["method"],
                path=scope["path"],
                fields=tuple((name.decode(), value.decode()) for name, value in scope["headers"]),
                content=body,
            )
            route, timing = parse_path(request.method, request.path), Timing(begun_s=time.monotonic())
            answer = await self._inference.answer(route, request, timing)
            fields = [(name.encode(), value.encode()) for name, value in answer.fields]
            length = (b"content-length", b"%d" % len(answer.content))
            await send({"type": "http.response.start", "status": answer.status, "headers": [*fields, length]})
            await send({"type": "http.response.body", "body": bytes(answer.content)})


def make_keys() -> KeyRing:
    """Make one key of each suite, as an epoch has them."""
    keys = []
    for key_id, suite in SUITES.values():
        private_key = PrivateKey.generate(suite.kem)
        config = KeyConfig(key_id=key_id, kem=suite.kem, public_key=private_key.public, suites=(suite,))
        keys.append(RingKey(config=config, private_key=private_key, service=SERVICE, epoch=1))
    return KeyRing.of(keys)


def compose(
    models: dict[str, Path], threads: int, *, ring: KeyRing | None = None, replica: str = "model-server"
) -> tuple[WithUnsealed, KeyRing]:
    """Return the application with `models` loaded, and its keys: `ring`, or some of its own."""
    settings = Settings(
        host="127.0.0.1",
        port=0,
        key_service=("http://127.0.0.1:1",),
        service=SERVICE,
        bundles="/nonexistent",
        replica=replica,
    )
    loaded = {
        (name, "1"): LoadedModel(
            name=name, version="1", manifest_sha256="0" * 64, runtime=open_model(model_files(path))
        )
        for name, path in models.items()
    }
    serving, ring = Serving(), ring or make_keys()
    gate = Gate((AnonymousCallers(),), deployment="0" * 64, service=SERVICE, issued_at=SystemClock().now())
    models_held = ModelSet(models=MappingProxyType(loaded))
    serving.grant(ring, models_held, gate=gate, ends_at_s=time.monotonic() + _LEASE_S)
    log = EventLog(settings.replica)
    repository = Repository(
        BundleStore(settings.bundles),
        open_runtime=open_model,
        budget=MemoryBudget(settings.model_memory_bytes),
        log=log,
    )
    dispatcher = Dispatcher(
        threads=threads,
        deadline_s=INFERENCE_DEADLINE_S,
        monotonic_s=time.monotonic,
        observe=lambda run: metrics.execute(rows=run.rows),
        apart=lambda _model: None,
    )
    metrics = Metrics(settings.service)
    bulk = BulkWorker(deadline_s=INFERENCE_DEADLINE_S)
    inference = Inference(
        lambda: serving.models,
        dispatcher=dispatcher,
        bulk=bulk,
        repository=RepositoryEndpoints(repository, changed=serving.replace_models),
        limits=Limits(content_bytes=settings.max_request_bytes),
        clock=SystemClock(),
        log=log,
        on_unknown=lambda: None,
    )
    sealed = create_app(
        settings,
        serving,
        repository=repository,
        dispatcher=dispatcher,
        bulk=bulk,
        metrics=metrics,
        trace=untraced,
        clock=SystemClock(),
        log=log,
        on_unknown=lambda: None,
    )
    return WithUnsealed(sealed, inference), ring


async def serve(app: WithUnsealed, ring: KeyRing) -> None:
    """Serve on a free port until terminated."""
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        configs = {
            name: base64.b64encode(encode_key_configs([ring.keys[key_id].config])).decode()
            for name, (key_id, _) in SUITES.items()
        }
        sys.stdout.write(json.dumps({"port": listener.getsockname()[1], "key_configs": configs}) + "\n")
        sys.stdout.flush()
        await uvicorn.Server(http_config(app=app, grace_s=1, lifespan="off")).serve(sockets=[listener])


def main() -> None:
    """Load the models that the arguments name, and serve them both ways."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", action="append", default=[], metavar="NAME=PATH", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--core", type=int, default=0)
    options = parser.parse_args()
    pin(options.core)
    models = {name: Path(path) for name, _, path in (text.partition("=") for text in options.model)}
    app, ring = compose(models, options.threads)
    uvloop.run(serve(app, ring))


if __name__ == "__main__":
    main()
