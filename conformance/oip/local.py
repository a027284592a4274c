"""The project's own endpoint: `s3ml proxy` before a local cluster, whose one replica serves the suite's models.

Owners, model owner and caller type what the README says; the caller's token has both roles.
"""

import contextlib
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from conformance.oip.endpoint import Endpoint
from conformance.oip.models import write_models
from conformance.oip.names import MODELS
from tests.apps.conftest import BIN, Desk, commands, running_cluster
from tests.modelserver.callers_world import url64

SERVICE = "conformance"
_POLICY = ("--policy", "model-server")
_OWNERS = ("--key", "alice.key", "--key", "carol.key")
_DEADLINE_S = 60.0
_TOKEN_S = 3600
_ISSUER = "https://issuer.example"


@contextlib.contextmanager
def local_endpoint(folder: Path) -> Iterator[Endpoint]:
    """Run cluster and proxy as long as the block."""
    with running_cluster(SERVICE, "--replicas", "1") as desk:
        _begin(desk)
        _publish(desk, folder)
        _write_token(desk.folder)
        with _proxy(desk) as endpoint:
            _await_models(endpoint)
            yield endpoint


def _begin(desk: Desk) -> None:
    """Begin the deployment as the README says, for this service."""
    for name in ("owners begin", "owners sign the policy"):
        for command in commands(name):
            done = desk.run(*(word.replace("tumours", SERVICE) for word in command))
            assert done.status == 0, (command, done.err)
    _typed(desk, "key", "generate", "model-owner")


def _publish(desk: Desk, folder: Path) -> None:
    """Pack every model, and sign the service with all of them."""
    grants = []
    for (name, version), source in write_models(folder).items():
        grant = f"{name}-{version}.grant.json"
        place = ("--store", str(desk.state / "bundles"), "--key", "model-owner.key", "--output", grant)
        named = ("--name", name, "--version", version)
        _typed(desk, "model", "pack", str(source), "--service", SERVICE, *_POLICY, *named, *place)
        grants += ["--model", grant]
    _write_caller(desk.folder)
    rules = ("--model-owner", "model-owner.pub", "--caller", "jwt:suite.toml")
    _typed(desk, "service", "sign", SERVICE, *_POLICY, *grants, *rules, *_OWNERS)


_ISSUER_KEY = Ed25519PrivateKey.generate()


def _write_caller(folder: Path) -> None:
    (folder / "suite.toml").write_text(
        f'name = "suite"\nissuer = "{_ISSUER}"\naudience = "conformance"\nkeys = "jwks.json"\n'
        'roles = ["infer", "models"]\n'
    )
    key = {
        "kty": "OKP",
        "crv": "Ed25519",
        "kid": "suite",
        "use": "sig",
        "x": url64(_ISSUER_KEY.public_key().public_bytes_raw()),
    }
    (folder / "jwks.json").write_text(json.dumps({"keys": [key]}))


def _write_token(folder: Path) -> None:
    claims = {"iss": _ISSUER, "aud": "conformance", "sub": "suite", "exp": int(time.time()) + _TOKEN_S}
    token = jwt.encode(claims, _ISSUER_KEY, algorithm="EdDSA", headers={"kid": "suite"})
    (folder / "token.jwt").write_text(f"{token}\n")


@contextlib.contextmanager
def _proxy(desk: Desk) -> Iterator[Endpoint]:
    words = ["proxy", "--service", SERVICE, "--token-file", "token.jwt", "--gateway", desk.gateway, "--json"]
    listen = ["--listen", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]
    with (desk.folder / "proxy.log").open("w") as log:
        process = subprocess.Popen(
            [str(BIN / "s3ml"), *words, *listen],
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


def _typed(desk: Desk, *words: str) -> None:
    done = desk.s3ml(*words)
    assert done.status == 0, (words, done.err)
