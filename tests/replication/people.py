"""Who deals with a fleet: owners, model servers and clients, each with the code that they really run."""

import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
import pyrage

from s3ml.apps.governance.changes import Deployment
from s3ml.attestation import Alternative, AppraisalPolicy, Technology, Tee, encode_policy
from s3ml.attestation.simulated.pki import SimulatedPKI
from s3ml.keyservice.client import (
    Genesis,
    KeyServiceClient,
    KeyServiceUnavailableError,
    ReleaseSession,
    TrustAnchor,
    VerifiedService,
    identify_genesis,
    model_manifest,
    seal_identity,
    verify_genesis_reply,
    verify_trust_bundle,
)
from s3ml.keyservice.documents import (
    ACKNOWLEDGEMENT_TYPE,
    PROPOSAL_TYPE,
    Acknowledgement,
    AnonymousCallers,
    ControlMessage,
    ControlReply,
    DeploymentReply,
    GenesisRequest,
    Owner,
    Proposal,
    Release,
    RotationDocument,
    ServiceDocument,
    ServiceTimes,
    TrustBundleRequest,
)
from s3ml.keyservice.parsing import encode_document
from s3ml.primitives.envelope import Envelope
from s3ml.primitives.signing import SigningKey
from tests.client.real_key_service import InProcessAttester
from tests.replication.fleet import Fleet, eventually

SERVICE, MODEL, POLICY = "tumours", "forest", "models"
MODEL_SERVER_CODE = hashlib.sha256(b"the model server").digest()
OTHER_CODE = hashlib.sha256(b"another model server").digest()
MODEL_PKI = SimulatedPKI.create(datetime.now(UTC))
_DEFAULT_TIMES = ServiceTimes()


def policy_of(*codes: bytes, root: bytes = MODEL_PKI.root_der) -> AppraisalPolicy:
    """Return a policy that accepts these measurements under one simulated vendor."""
    measurements = tuple(code.hex() for code in codes)
    alternative = Alternative(
        tee=Tee.SIMULATED, simulates=Technology.SGX, root=root, measurements=measurements
    )
    return AppraisalPolicy(accept=(alternative,))


@dataclass
class People:
    """Three owners, of whom two decide, a model owner, and whoever uses the service.

    Args:
        fleet: What they deal with.
        policy: The key service's.
    """

    fleet: Fleet
    policy: AppraisalPolicy
    owners: list[SigningKey] = field(default_factory=lambda: [SigningKey.generate() for _ in range(3)])
    model_owner: SigningKey = field(default_factory=SigningKey.generate)
    genesis: Genesis | None = None

    @property
    def begun(self) -> Genesis:
        """The deployment."""
        assert self.genesis is not None
        return self.genesis

    def proposal(self) -> Envelope:
        """Propose a deployment, and sign it."""
        proposal = Proposal(
            owners=tuple(
                Owner(name=name, key=str(key.public))
                for name, key in zip(("ann", "ben", "cleo"), self.owners, strict=True)
            ),
            threshold=2,
            witnesses=tuple(witness.vkey for witness in self.fleet.witnesses),
            witness_quorum=self.fleet.quorum,
            key_service_policy=encode_policy(self.policy),
            allow_simulated=True,
            random=secrets.token_bytes(32),
        )
        return self.signed(Envelope(payload_type=PROPOSAL_TYPE, payload=encode_document(proposal)))

    def signed(self, envelope: Envelope) -> Envelope:
        """Sign as two owners do."""
        for key in self.owners[:2]:
            envelope = envelope.with_signature(key)
        return envelope

    def begin(self, number: int = 0) -> Genesis:
        """Begin the deployment; with witnesses, tell them of the log as soon as it has a name."""
        proposal, nonce = self.proposal(), secrets.token_bytes(32)
        client, request = self.fleet.client(number), GenesisRequest(proposal=proposal, nonce=nonce)
        try:
            reply = client.genesis(request)
        except KeyServiceUnavailableError:
            assert self.fleet.witnesses
            ((entry,),) = self.fleet.run("SELECT entry FROM s3ml_log WHERE idx = 0")
            assert isinstance(entry, bytes)
            stored = identify_genesis(entry)
            for witness in self.fleet.witnesses:
                witness.watch(stored.origin, stored.keys.checkpoint)
            reply = eventually(lambda: client.genesis(request), what="genesis")
        self.genesis = verify_genesis_reply(reply, proposal=proposal, nonce=nonce, now=datetime.now(UTC))
        return self.genesis

    def tell_witnesses(self, number: int) -> None:
        """Give the witnesses the checkpoint keys of the deployment: the first, and those that govern now."""
        keys = {self.begun.keys.checkpoint, self.deployment(number).authority.keys.checkpoint}
        for witness in self.fleet.witnesses:
            witness.watch(self.begun.origin, *sorted(keys))

    def deployment(self, number: int = 0) -> Deployment:
        """Follow the deployment at a replica, as the owners' tool does."""
        return Deployment.connect(self.fleet.client(number), deployment=self.begun.deployment)

    def draft(
        self, resource: str, body: bytes, *, at: int = 0, attachments: tuple[bytes, ...] = ()
    ) -> ControlMessage:
        """Draft a change of what stands, and sign it."""
        deployment = self.deployment(at)
        message = deployment.draft(resource, body, attachments=attachments, now=datetime.now(UTC))
        for key in self.owners[:2]:
            message = deployment.sign(message, key)
        return message

    def change(
        self, resource: str, body: bytes, *, at: int = 0, attachments: tuple[bytes, ...] = ()
    ) -> ControlReply:
        """Change a resource at a replica."""
        message = self.draft(resource, body, at=at, attachments=attachments)
        return self.fleet.client(at).control(message)

    def put_policy(self, name: str = POLICY, *codes: bytes, at: int = 0) -> ControlReply:
        """Sign a policy for model servers."""
        return self.change(f"policies/{name}", self.policy_body(*codes), at=at)

    def policy_body(self, *codes: bytes) -> bytes:
        """Return a policy for model servers as owners sign it."""
        return encode_policy(policy_of(*(codes or (MODEL_SERVER_CODE,))))

    def put_service(self, *codes: bytes, at: int = 0, times: ServiceTimes = _DEFAULT_TIMES) -> ControlReply:
        """Sign the service, with one model, under the policy that accepts `codes`."""
        digest = hashlib.sha256(self.policy_body(*codes)).hexdigest()
        terms = {"service": SERVICE, "policy_sha256": digest, "model": MODEL, "model_version": "1"}
        governing = self.deployment(at).authority
        sealed = seal_identity(governing, str(pyrage.x25519.Identity.generate()), **terms)
        manifest = model_manifest(
            deployment=self.begun.deployment,
            payload_sha256="ab" * 32,
            payload_bytes=1000,
            sealed_identity=sealed,
            **terms,
        )
        document = ServiceDocument(
            service=SERVICE,
            policy=POLICY,
            policy_sha256=digest,
            callers=(AnonymousCallers(),),
            model_owners=(str(self.model_owner.public),),
            models=(manifest.with_signature(self.model_owner),),
            times=times,
        )
        return self.change(f"services/{SERVICE}", encode_document(document), at=at, attachments=(sealed,))

    def serve(self, *, times: ServiceTimes = _DEFAULT_TIMES) -> None:
        """Begin, and serve one service."""
        self.begin()
        self.put_policy()
        self.put_service(times=times)

    def rotation(self, retire: str = "drain", *, at: int = 0) -> ControlMessage:
        """Draft a rotation on demand."""
        document = msgspec.convert({"version": 1, "service": SERVICE, "retire": retire}, RotationDocument)
        return self.draft(f"rotations/{SERVICE}", encode_document(document), at=at)

    def session(self, code: bytes = MODEL_SERVER_CODE) -> ReleaseSession:
        """Return a model server's session."""
        return ReleaseSession(SERVICE, InProcessAttester(MODEL_PKI, code))

    def release(self, session: ReleaseSession, client: KeyServiceClient) -> Release:
        """Have keys released to a model server."""
        challenge = client.challenge(session.challenge_request())
        return session.open(client.release(session.answer(challenge))).release

    def released(self, number: int, session: ReleaseSession | None = None) -> Release:
        """Have keys released by a replica that serves again.

        Those that began anew side by side first exchange their generation keys.
        """
        asking = session or self.session()
        return eventually(
            lambda: self.release(asking, self.fleet.client(number)), what=f"a release of replica {number}"
        )

    def bundled(self, number: int, *, known: tuple[int, bytes] | None = None) -> VerifiedService:
        """Verify the service at a replica that serves again."""
        return eventually(lambda: self.bundle(number, known=known), what=f"a bundle of replica {number}")

    def bundle(self, number: int = 0, *, known: tuple[int, bytes] | None = None) -> VerifiedService:
        """Verify the service at a replica, as a client does."""
        nonce, began = secrets.token_bytes(32), datetime.now(UTC)
        request = TrustBundleRequest(service=SERVICE, nonce=nonce, known_size=known[0] if known else None)
        bundle = self.fleet.client(number).trust_bundle(request)
        anchor = TrustAnchor(
            deployment=self.begun.deployment,
            key_service_policy=self.policy,
            allow_simulated=True,
            service_policies={},
            follow_owners=True,
            follow_key_service=True,
            known=known,
        )
        return verify_trust_bundle(
            bundle, anchor=anchor, service=SERVICE, nonce=nonce, requested_at=began, now=datetime.now(UTC)
        )

    def acknowledgement(self, status: DeploymentReply, *owners: SigningKey) -> Envelope:
        """Have owners acknowledge where a replica says that it stands."""
        assert status.stored_root is not None
        document = Acknowledgement(
            deployment=self.begun.deployment,
            nonce=status.replica_nonce,
            log_size=status.stored_size,
            log_root=status.stored_root,
            created_at=datetime.now(UTC),
        )
        envelope = Envelope(payload_type=ACKNOWLEDGEMENT_TYPE, payload=encode_document(document))
        for key in owners or self.owners[:2]:
            envelope = envelope.with_signature(key)
        return envelope

    def resources(self, number: int = 0) -> dict[str, int]:
        """Return the versions of the governed resources at a replica."""
        listed = self.fleet.client(number).resources().resources
        return {one.resource: one.resource_version for one in listed}
