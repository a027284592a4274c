"""The project's own endpoint: `s3ml proxy` before a local cluster, whose one replica serves the models.

Cluster and proxy are the real processes. What owners and the model owner type elsewhere is called here.
"""

import contextlib
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from conformance.oip.endpoint import Endpoint
from conformance.oip.models import write_models
from conformance.oip.names import MODELS
from s3ml.apps.cli.connection import key_service_at
from s3ml.apps.governance.changes import Deployment
from s3ml.apps.governance.deployments import begin, propose, sign_proposal, trust_from
from s3ml.apps.governance.keys import generate_key_files, read_signing_key
from s3ml.apps.governance.models import Grant, pack, service_document
from s3ml.apps.governance.policies import policy_document, read_root
from s3ml.attestation import parse_policy
from s3ml.keyservice.documents import KeyCaller
from s3ml.primitives.signing import SigningKey, VerifyKey
from tests.apps.conftest import BIN, Desk, running_cluster

SERVICE = "conformance"
_POLICY = "model-server"
_CALLER = "caller"
_DEADLINE_S = 300.0


@contextlib.contextmanager
def local_endpoint(folder: Path) -> Iterator[Endpoint]:
    """Run cluster and proxy as long as the block.

    Args:
        folder: For the models before they are packed.
    """
    with running_cluster(SERVICE, "--replicas", "1") as desk:
        _serve_models(desk, folder)
        with _proxy(desk) as endpoint:
            _await_models(endpoint)
            yield endpoint


def _serve_models(desk: Desk, folder: Path) -> None:
    """Begin the deployment, sign the policy, pack the models, sign the service; one key is every owner's."""
    key, public = _key(desk, "owner")
    _, caller_public = _key(desk, _CALLER)
    root = read_root(desk.state / "platform" / "root.pem")
    policy = policy_document("model-server", root=root)
    key_service = key_service_at(desk.gateway)
    proposal = propose(
        [("owner", public)],
        threshold=1,
        key_service_policy=policy_document("key-service", root=root),
        allow_simulated=True,
    )
    now = datetime.now(UTC)
    genesis = begin(key_service, sign_proposal(proposal, key), allow_simulated=True, now=now)
    trust = trust_from(genesis, service_policies={SERVICE: parse_policy(policy)})
    trust.write(desk.folder / "trust.toml")
    deployment = Deployment.connect(key_service, deployment=trust.deployment)
    _sign(deployment, key, f"policies/{_POLICY}", policy)
    grants = _pack(deployment, key, write_models(folder), store=desk.state / "bundles")
    caller = KeyCaller(name=_CALLER, key=str(caller_public), roles=("infer", "models"))
    document = service_document(
        SERVICE, policy=_POLICY, grants=grants, model_owners=[public], callers=[caller]
    )
    identities = tuple(grant.sealed_identity for grant in grants)
    _sign(deployment, key, f"services/{SERVICE}", msgspec.json.encode(document), identities)


def _key(desk: Desk, name: str) -> tuple[SigningKey, VerifyKey]:
    public = generate_key_files(desk.folder / name)
    return read_signing_key(desk.folder / f"{name}.key"), public


def _pack(
    deployment: Deployment, key: SigningKey, sources: dict[tuple[str, str], Path], *, store: Path
) -> list[Grant]:
    policy_sha256 = deployment.governed_policy(_POLICY).body_sha256
    return [
        pack(
            source,
            store=store,
            model=name,
            version=version,
            service=SERVICE,
            policy_sha256=policy_sha256,
            deployment=deployment,
            key=key,
            progress=lambda _done, _all: None,
        )
        for (name, version), source in sources.items()
    ]


def _sign(
    deployment: Deployment,
    key: SigningKey,
    resource: str,
    body: bytes,
    attachments: tuple[bytes, ...] = (),
) -> None:
    message = deployment.draft(resource, body, attachments=attachments, now=datetime.now(UTC))
    deployment.submit(deployment.sign(message, key))


@contextlib.contextmanager
def _proxy(desk: Desk) -> Iterator[Endpoint]:
    """Run the proxy as somebody would; what it is told and prints is what the suite goes by."""
    called = ["--service", SERVICE, "--caller-key", f"{_CALLER}.key", "--gateway", desk.gateway, "--json"]
    listen = ["--listen", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]
    with (desk.folder / "proxy.log").open("w") as log:
        process = subprocess.Popen(
            [str(BIN / "s3ml"), "proxy", *called, *listen],
            cwd=desk.folder,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (desk.folder / "proxy.log").read_text()
        told = json.loads(line)
        yield Endpoint(url=told["rest"], grpc=told["grpc"], models=MODELS)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(timeout=_DEADLINE_S) == 0, (desk.folder / "proxy.log").read_text()
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _await_models(endpoint: Endpoint) -> None:
    """Wait until the replica took up its release and loaded every model."""
    deadline_s = time.monotonic() + _DEADLINE_S
    waiting = list(MODELS)
    while waiting:
        assert time.monotonic() < deadline_s, waiting
        waiting = [name for name in waiting if endpoint.get(f"/v2/models/{name}/ready").status != 200]
