"""A deployment with its owners, its key service in an in-process enclave, a model server and a clock."""

import asyncio
import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pyrage

from s3ml.attestation import (
    Alternative,
    AppraisalPolicy,
    Collateral,
    Evidence,
    Tee,
    encode_policy,
)
from s3ml.attestation.simulated.pki import SimulatedPKI
from s3ml.attestation.simulated.quote import EnclaveReport, render_quote
from s3ml.keyservice.client import (
    Genesis,
    ReleaseSession,
    TrustAnchor,
    VerifiedService,
    control_message,
    identify_genesis,
    model_manifest,
    seal_identity,
    verify_trust_bundle,
)
from s3ml.keyservice.cosigning import Cosigner
from s3ml.keyservice.documents import (
    PROPOSAL_TYPE,
    AnonymousCallers,
    ControlMessage,
    ControlReply,
    GenesisReply,
    GenesisRequest,
    Owner,
    Proposal,
    ReleaseReply,
    ServiceDocument,
    TrustBundleRequest,
)
from s3ml.keyservice.events import EventLog
from s3ml.keyservice.keys import Keyring
from s3ml.keyservice.parsing import encode_document
from s3ml.keyservice.replaying import View
from s3ml.keyservice.service import KeyService
from s3ml.keyservice.storage import SQLiteStorage, Storage
from s3ml.primitives.envelope import Envelope
from s3ml.primitives.secret import SecretBytes
from s3ml.primitives.signing import SigningKey
from tests.clocks import NOW, FakeClock

NONCE = bytes(range(32))
PKI = SimulatedPKI.create(NOW - timedelta(days=60))
COLLATERAL = PKI.collateral(NOW - timedelta(hours=1))
SIGNER = hashlib.sha256(b"signer").digest()
KEY_SERVICE_CODE = hashlib.sha256(b"key service").digest()
MODEL_SERVER_CODE = hashlib.sha256(b"model server").digest()
OWNER_KEYS = tuple(SigningKey.from_raw(bytes([n]) * 32) for n in (1, 2, 3))
MODEL_OWNER = SigningKey.from_raw(bytes([9]) * 32)


class InProcessAttester:
    """An enclave of the simulated platform whose code is whatever a test says."""

    def __init__(
        self, measurement: bytes, pki: SimulatedPKI = PKI, collateral: Collateral = COLLATERAL
    ) -> None:
        self._measurement = measurement
        self._pki = pki
        self._collateral = collateral
        self.tee = Tee.SIMULATED
        self.quotes = 0
        self.error: Exception | None = None

    def quote(self, report_data: bytes) -> Evidence:
        self.quotes += 1
        if self.error is not None:
            raise self.error
        report = EnclaveReport(
            measurement=self._measurement, signer=SIGNER, product_id=1, svn=1, report_data=report_data
        )
        quote = render_quote(self._pki, report)
        return Evidence(tee=Tee.SIMULATED, quote=quote, collateral=self._collateral)

    def sealing_key(self) -> SecretBytes:
        return SecretBytes(hashlib.sha256(b"sealing" + self._measurement).digest())


def policy_of(measurement: bytes, **fields: Any) -> AppraisalPolicy:
    return AppraisalPolicy(
        accept=(
            Alternative(tee=Tee.SIMULATED, root=PKI.root_der, measurements=(measurement.hex(),), **fields),
        )
    )


KEY_SERVICE_POLICY = policy_of(KEY_SERVICE_CODE)
MODEL_POLICY = policy_of(MODEL_SERVER_CODE)
REAL_POLICY = AppraisalPolicy(accept=(Alternative(tee=Tee.SGX, measurements=(MODEL_SERVER_CODE.hex(),)),))


def proposal(**changes: Any) -> Proposal:
    fields: dict[str, Any] = {
        "owners": tuple(
            Owner(name=name, key=str(key.public))
            for name, key in zip(("ada", "bo", "cy"), OWNER_KEYS, strict=True)
        ),
        "threshold": 2,
        "key_service_policy": encode_policy(KEY_SERVICE_POLICY),
        "allow_simulated": True,
        "random": bytes(32),
    }
    return Proposal(**{**fields, **changes})


def signed(envelope: Envelope, *keys: SigningKey) -> Envelope:
    for key in keys:
        envelope = envelope.with_signature(key)
    return envelope


def signed_proposal(*keys: SigningKey, **changes: Any) -> Envelope:
    envelope = Envelope(payload_type=PROPOSAL_TYPE, payload=encode_document(proposal(**changes)))
    return signed(envelope, *(keys or OWNER_KEYS[:2]))


@dataclass
class World:
    """One key service over one file, and everybody who deals with it."""

    path: Path
    clock: FakeClock = field(default_factory=FakeClock)
    attester: InProcessAttester = field(default_factory=lambda: InProcessAttester(KEY_SERVICE_CODE))
    identity: str = field(default_factory=lambda: str(pyrage.x25519.Identity.generate()))
    lines: io.StringIO = field(default_factory=io.StringIO)
    wrap_storage: Callable[[Storage], Storage] = lambda storage: storage
    genesis_reply: GenesisReply | None = None
    counter: int = 0

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.storage = SQLiteStorage(self.path)
        self.events = EventLog(self.lines.write, self.clock)
        try:
            self.service = KeyService(
                self.wrap_storage(self.storage),
                self.attester,
                self.clock,
                self.events,
                cosigner=Cosigner((), timeout_s=5.0),
                batch_window_s=0.0,
            )
        except BaseException:
            self.storage.close()
            raise

    def stop(self) -> None:
        self.storage.close()

    async def restart(self) -> None:
        """End the process and start it again, up to where it serves; raises what keeps it from that."""
        self.stop()
        self.start()
        await self.service.membership._step()

    @property
    def view(self) -> View:
        return self.service.replica.ledger.view

    @property
    def keyring(self) -> Keyring:
        return self.service.replica.serving_keyring()

    @property
    def told(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines.getvalue().splitlines()]

    @property
    def genesis(self) -> Genesis:
        reply = self.service.deployment()
        assert reply.genesis is not None
        return identify_genesis(reply.genesis)

    async def begin(self, **changes: Any) -> Genesis:
        request = GenesisRequest(proposal=signed_proposal(**changes), nonce=NONCE)
        self.genesis_reply = await self.service.genesis(request)
        return self.genesis

    def nonce(self) -> bytes:
        self.counter += 1
        return hashlib.sha256(b"nonce %d" % self.counter).digest()

    def message(
        self,
        resource: str,
        version: int,
        body: bytes,
        *,
        keys: tuple[SigningKey, ...] = OWNER_KEYS[:2],
        attachments: tuple[bytes, ...] = (),
        deployment: str | None = None,
        nonce: bytes | None = None,
        previous: str | None = None,
        method: Literal["PUT", "DELETE"] = "PUT",
    ) -> ControlMessage:
        message = control_message(
            deployment=deployment or self.genesis.deployment,
            resource=resource,
            resource_version=version,
            previous_sha256=self.standing(resource) if previous is None else previous,
            body=body,
            nonce=nonce or self.nonce(),
            now=self.clock.now(),
            attachments=attachments,
            method=method,
        )
        return ControlMessage(
            statement=signed(message.statement, *keys), body=message.body, attachments=message.attachments
        )

    def standing(self, resource: str) -> str:
        """Return the digest of what stands under `resource`."""
        found = {one.resource: one.body_sha256 for one in self.service.resources().resources}
        return found.get(resource, "")

    async def put_policy(
        self, policy: AppraisalPolicy = MODEL_POLICY, *, name: str = "models", version: int = 1
    ) -> ControlReply:
        return await self.service.control(self.message(f"policies/{name}", version, encode_policy(policy)))

    def sealed_identity(self, *, policy: AppraisalPolicy = MODEL_POLICY, **changes: Any) -> bytes:
        fields = {"service": "tumours", "model": "forest", "model_version": "1", **changes}
        digest = hashlib.sha256(encode_policy(policy)).hexdigest()
        return seal_identity(
            self.view.authority, fields.pop("identity", self.identity), policy_sha256=digest, **fields
        )

    def manifest(self, sealed: bytes, *, policy: AppraisalPolicy = MODEL_POLICY, **changes: Any) -> Envelope:
        fields: dict[str, Any] = {
            "deployment": self.genesis.deployment,
            "service": "tumours",
            "policy_sha256": hashlib.sha256(encode_policy(policy)).hexdigest(),
            "model": "forest",
            "model_version": "1",
            "payload_sha256": "ab" * 32,
            "payload_bytes": 1234,
            "sealed_identity": sealed,
        }
        key = changes.pop("key", MODEL_OWNER)
        return model_manifest(**{**fields, **changes}).with_signature(key)

    def document(self, *manifests: Envelope, under: AppraisalPolicy = MODEL_POLICY, **changes: Any) -> bytes:
        fields: dict[str, Any] = {
            "service": "tumours",
            "policy": "models",
            "policy_sha256": hashlib.sha256(encode_policy(under)).hexdigest(),
            "callers": (AnonymousCallers(),),
            "model_owners": (str(MODEL_OWNER.public),),
            "models": manifests,
        }
        return encode_document(ServiceDocument(**{**fields, **changes}))

    async def put_service(self, *, version: int = 1, policy: AppraisalPolicy = MODEL_POLICY) -> ControlReply:
        sealed = self.sealed_identity(policy=policy)
        body = self.document(self.manifest(sealed, policy=policy), under=policy)
        return await self.service.control(
            self.message("services/tumours", version, body, attachments=(sealed,))
        )

    async def serve(self) -> None:
        await self.begin()
        await self.put_policy()
        await self.put_service()

    def session(self, measurement: bytes = MODEL_SERVER_CODE) -> ReleaseSession:
        return ReleaseSession("tumours", InProcessAttester(measurement))

    async def release(self, session: ReleaseSession) -> ReleaseReply:
        challenge = self.service.challenge(session.challenge_request())
        return await self.service.release(session.answer(challenge))

    async def bundle(self, *, nonce: bytes = NONCE, known_size: int | None = None) -> bytes:
        request = TrustBundleRequest(service="tumours", nonce=nonce, known_size=known_size)
        return (await self.bundles(request))[0]

    async def bundles(self, *requests: TrustBundleRequest) -> list[bytes]:
        background = asyncio.ensure_future(self.service.run())
        try:
            return await asyncio.gather(*(self.service.trust_bundle(request) for request in requests))
        finally:
            background.cancel()
            await asyncio.gather(background, return_exceptions=True)

    def anchor(self, **changes: Any) -> TrustAnchor:
        fields: dict[str, Any] = {
            "deployment": self.genesis.deployment,
            "key_service_policy": KEY_SERVICE_POLICY,
            "allow_simulated": True,
            "service_policies": {"tumours": MODEL_POLICY},
            "follow_owners": False,
        }
        return TrustAnchor(**{**fields, **changes})

    def verify(self, bundle: bytes, *, nonce: bytes = NONCE, **changes: Any) -> VerifiedService:
        now = changes.pop("now", self.clock.now())
        requested_at = changes.pop("requested_at", self.clock.now())
        return verify_trust_bundle(
            bundle,
            anchor=self.anchor(**changes),
            service="tumours",
            nonce=nonce,
            requested_at=requested_at,
            now=now,
        )
