"""What an attested model server receives: checked against its challenge, signed, and sealed to its key.

Source: docs/spec/release.md.
"""

from dataclasses import dataclass
from datetime import datetime

from s3ml.attestation import (
    AppraisalPolicy,
    VerdictCache,
    VerifiedEnclave,
    parse_evidence,
    verify_evidence,
)
from s3ml.keyservice.bindings import release_binding, release_info
from s3ml.keyservice.challenges import Challenge
from s3ml.keyservice.documents import (
    RELEASE_TYPE,
    AuditRecord,
    Release,
    ReleasedEpoch,
    ReleasedModel,
    ReleaseRequest,
)
from s3ml.keyservice.errors import ConflictError, NotFoundError
from s3ml.keyservice.keys import read_epoch
from s3ml.keyservice.parsing import encode_document
from s3ml.keyservice.recovery import Keyring, View
from s3ml.keyservice.resources import GovernedPolicy, GovernedService
from s3ml.keyservice.storage import Storage
from s3ml.keyservice.vault import epoch_name, identity_name
from s3ml.primitives.encoding import sha256
from s3ml.primitives.envelope import Envelope
from s3ml.primitives.units import MINUTE_S
from s3ml.wire.hpke import HYBRID_AES256, seal_once

# Renewed at a third of it, a lease survives a key-service outage of 200 s at least.
LEASE_S = 5.0 * MINUTE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A service whose policy holds."""

    service: GovernedService
    policy: GovernedPolicy


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Sealed:
    """A release, sealed, and the record that must be kept of it."""

    sealed: bytes
    record: AuditRecord


def served(view: View, name: str) -> Served:
    """Return the service `name`.

    Raises:
        NotFoundError: there is no such service, or no deployment.
        ConflictError: its policy was replaced since it was signed.
    """
    deployment = view.genesis.deployment
    service = view.state.services.get(name)
    if service is None:
        raise NotFoundError(f"service {name}: expected one of deployment {deployment}, got none of that name")
    document = service.terms.document
    policy = view.state.policies[document.policy]
    if policy.place.sha256 != document.policy_sha256:
        raise ConflictError(
            f"service {name}: its policy {document.policy} was replaced: sign the service anew with the "
            f"policy's digest {policy.place.sha256}"
        )
    return Served(service=service, policy=policy)


def report_data(deployment: str, request: ReleaseRequest, challenge: Challenge) -> bytes:
    """Return the 64 bytes that the evidence of `request` must carry."""
    return release_binding(
        deployment=deployment,
        nonce=challenge.nonce,
        attester_nonce=request.attester_nonce,
        public_key=request.public_key,
        service=challenge.service,
        policy_sha256=challenge.policy_sha256,
        log_head=challenge.log_head,
    ).report_data()


def verify_request(
    request: ReleaseRequest,
    policy: AppraisalPolicy,
    *,
    expected: bytes,
    now: datetime,
    cache: VerdictCache,
) -> VerifiedEnclave:
    """Verify the evidence of `request`, which must carry `expected`; `cache` knows earlier platforms.

    Raises:
        EvidenceMalformedError: it cannot be read.
        EvidenceRejectedError: a check failed; all mismatches are listed.
    """
    evidence = parse_evidence(request.evidence)
    return verify_evidence(evidence, policy, report_data=expected, now=now, cache=cache)


def seal_release(
    view: View,
    keyring: Keyring,
    storage: Storage,
    *,
    request: ReleaseRequest,
    challenge: Challenge,
    bound: bytes,
    enclave: VerifiedEnclave,
    now: datetime,
) -> Sealed:
    """Seal the keys and permissions of the challenge's service, as it stands at `view`.

    Args:
        view: Taken after the evidence was verified.
        keyring: Signs, and opens what is stored.
        storage: Where the secrets lie.
        request: Names the key that is sealed to.
        challenge: What the evidence answered.
        bound: The report data of that evidence.
        enclave: What the evidence proved.
        now: Aware UTC.

    Raises:
        NotFoundError: there is no such service.
        ConflictError: its policy changed since the challenge.
        ConfigurationError: the requester's key is malformed.
        StorageTamperedError: a stored secret is missing or was changed.
        StorageUnavailableError: storage does not answer.
    """
    document = served(view, challenge.service).service.terms.document
    if document.policy_sha256 != challenge.policy_sha256:
        raise ConflictError(
            f"service {challenge.service}: its policy changed since the challenge: ask for another challenge"
        )
    epoch = view.state.epochs[challenge.service]
    manifests = view.state.services[challenge.service].terms.manifests
    identities = [keyring.vault.read(storage, identity_name(manifest)) for manifest in manifests]
    release = Release(
        deployment=view.genesis.deployment,
        service=challenge.service,
        policy_sha256=challenge.policy_sha256,
        attester_nonce=request.attester_nonce,
        issued_at=now,
        lease_s=LEASE_S,
        callers=document.callers,
        model_owners=document.model_owners,
        epochs=(
            ReleasedEpoch(
                epoch=epoch.number,
                state="active",
                keys=read_epoch(keyring.generation, storage, epoch_name(epoch.service, epoch.number)),
            ),
        ),
        models=tuple(
            ReleasedModel(manifest=envelope, identity=identity.decode("ascii"))
            for envelope, identity in zip(document.models, identities, strict=True)
        ),
    )
    signed = Envelope(payload_type=RELEASE_TYPE, payload=encode_document(release)).with_signature(
        keyring.deployment.statement
    )
    sealed = seal_once(HYBRID_AES256, request.public_key, signed.to_json(), info=release_info(bound))
    record = AuditRecord(
        time=now,
        service=challenge.service,
        policy_sha256=challenge.policy_sha256,
        epochs=(epoch.number,),
        models=tuple(sha256(envelope.payload).hex() for envelope in document.models),
        tee=enclave.tee,
        measurement=enclave.measurement,
        public_key_sha256=sha256(request.public_key).hex(),
    )
    return Sealed(sealed=sealed, record=record)
