"""A real key service on a real port, a deployment of two owners of three, and a replica's released keys."""

import hashlib
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyrage
import uvicorn

from s3ml.attestation import Alternative, AppraisalPolicy, Evidence, Tee, encode_policy
from s3ml.attestation.simulated.pki import SimulatedPKI
from s3ml.attestation.simulated.quote import EnclaveReport, render_quote
from s3ml.keyservice.client import (
    Authority,
    KeyServiceClient,
    ReleaseSession,
    control_message,
    model_manifest,
    seal_identity,
    verify_genesis_reply,
)
from s3ml.keyservice.cosigning import Cosigner
from s3ml.keyservice.documents import (
    PROPOSAL_TYPE,
    AnonymousCallers,
    GenesisRequest,
    Owner,
    Proposal,
    ServiceDocument,
)
from s3ml.keyservice.events import EventLog
from s3ml.keyservice.genesis import Genesis
from s3ml.keyservice.parsing import encode_document
from s3ml.keyservice.server import create_app
from s3ml.keyservice.service import KeyService
from s3ml.keyservice.storage import SQLiteStorage
from s3ml.primitives.clock import SystemClock
from s3ml.primitives.envelope import Envelope
from s3ml.primitives.secret import SecretBytes
from s3ml.primitives.signing import SigningKey
from s3ml.wire.hpke import PrivateKey
from s3ml.wire.ohttp import parse_key_configs
from s3ml.wire.sealed import KeyRing, RingKey
from tests.client.world import MODEL, SERVICE

KEY_SERVICE_CODE = hashlib.sha256(b"the key service").digest()
REPLICA_CODE = hashlib.sha256(b"the model server").digest()


@dataclass(frozen=True, slots=True)
class InProcessAttester:
    """A simulated enclave without a process of its own."""

    pki: SimulatedPKI
    code: bytes
    tee: Tee = Tee.SIMULATED

    def quote(self, report_data: bytes) -> Evidence:
        report = EnclaveReport(
            measurement=self.code, signer=self.code, product_id=1, svn=1, report_data=report_data
        )
        return Evidence(
            tee=self.tee,
            quote=render_quote(self.pki, report),
            collateral=self.pki.collateral(datetime.now(UTC) - timedelta(minutes=1)),
        )

    def sealing_key(self) -> SecretBytes:
        return SecretBytes(self.code)


class Deployment:
    """What the owners set up, step by step, as their tool does."""

    def __init__(self, url: str, pki: SimulatedPKI) -> None:
        self.pki = pki
        self.client = KeyServiceClient(url, timeout_s=120.0)
        self.owners = [SigningKey.generate() for _ in range(3)]
        self.model_owner = SigningKey.generate()
        self.versions: dict[str, int] = {}
        self.bodies: dict[str, str] = {}
        self.genesis = self._begin()

    def policy(self, code: bytes) -> AppraisalPolicy:
        alternative = Alternative(tee=Tee.SIMULATED, root=self.pki.root_der, measurements=(code.hex(),))
        return AppraisalPolicy(accept=(alternative,))

    def put(self, resource: str, body: bytes, attachments: tuple[bytes, ...] = ()) -> None:
        """Change a resource, signed by two owners."""
        self.versions[resource] = self.versions.get(resource, 0) + 1
        message = control_message(
            deployment=self.genesis.deployment,
            resource=resource,
            resource_version=self.versions[resource],
            previous_sha256=self.bodies.get(resource, ""),
            body=body,
            nonce=secrets.token_bytes(32),
            now=datetime.now(UTC),
            attachments=attachments,
        )
        self.bodies[resource] = hashlib.sha256(body).hexdigest()
        signed = message.statement.with_signature(self.owners[0]).with_signature(self.owners[1])
        self.client.control(type(message)(statement=signed, body=body, attachments=attachments))

    def serve(self, code: bytes = REPLICA_CODE, service: str = SERVICE) -> None:
        """Sign the policy and the service with one model."""
        policy = encode_policy(self.policy(code))
        digest = hashlib.sha256(policy).hexdigest()
        identity = str(pyrage.x25519.Identity.generate())
        terms = {"service": service, "policy_sha256": digest, "model": MODEL, "model_version": "1"}
        sealed = seal_identity(Authority.of(self.genesis), identity, **terms)
        manifest = model_manifest(
            deployment=self.genesis.deployment,
            payload_sha256="ab" * 32,
            payload_bytes=1000,
            sealed_identity=sealed,
            **terms,
        )
        document = ServiceDocument(
            service=service,
            policy="replicas",
            policy_sha256=digest,
            callers=(AnonymousCallers(),),
            model_owners=(str(self.model_owner.public),),
            models=(manifest.with_signature(self.model_owner),),
        )
        self.put("policies/replicas", policy)
        self.put(f"services/{service}", encode_document(document), (sealed,))

    def released_ring(self) -> KeyRing:
        """Attest as a replica and return the keys it is given."""
        session = ReleaseSession(SERVICE, InProcessAttester(self.pki, REPLICA_CODE))
        challenge = self.client.challenge(session.challenge_request())
        release = session.open(self.client.release(session.answer(challenge))).release
        keys = []
        for epoch in release.epochs:
            for key in epoch.keys:
                (config,) = parse_key_configs(key.key_config)
                private = PrivateKey.from_bytes(config.kem, key.private_key)
                keys.append(RingKey(config=config, private_key=private, service=SERVICE, epoch=epoch.epoch))
        return KeyRing.of(keys)

    def _begin(self) -> Genesis:
        proposal = Proposal(
            owners=tuple(
                Owner(name=name, key=str(key.public))
                for name, key in zip(("ann", "ben", "cleo"), self.owners, strict=True)
            ),
            threshold=2,
            key_service_policy=encode_policy(self.policy(KEY_SERVICE_CODE)),
            allow_simulated=True,
            random=secrets.token_bytes(32),
        )
        envelope = Envelope(payload_type=PROPOSAL_TYPE, payload=encode_document(proposal))
        for key in self.owners[:2]:
            envelope = envelope.with_signature(key)
        nonce = secrets.token_bytes(32)
        reply = self.client.genesis(GenesisRequest(proposal=envelope, nonce=nonce))
        return verify_genesis_reply(reply, proposal=envelope, nonce=nonce, now=datetime.now(UTC))


@contextmanager
def key_service(folder: Path, pki: SimulatedPKI, code: bytes = KEY_SERVICE_CODE) -> Iterator[str]:
    """Run a key service on a free port; its state lies in `folder`."""
    clock = SystemClock()
    events = EventLog(lambda _: None, clock)
    storage = SQLiteStorage(folder / "key-service.db")
    cosigner = Cosigner((), timeout_s=5.0)
    service = KeyService(storage, InProcessAttester(pki, code), clock, events, cosigner=cosigner)
    config = uvicorn.Config(
        create_app(service, events), host="127.0.0.1", port=0, log_level="error", access_log=False
    )
    config.load()
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            thread.join(0.005)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        storage.close()
