"""What an attested model server receives: checked against its challenge, signed, and sealed to its key.

Source: docs/spec/release.md.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Literal

from s3ml.attestation import (
    AppraisalPolicy,
    EvidenceRejectedError,
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
from s3ml.keyservice.epochs import NO_EPOCHS, Epoch, EpochState
from s3ml.keyservice.errors import ConflictError, GenerationMissingError, NotFoundError
from s3ml.keyservice.keys import Keyring, read_epoch
from s3ml.keyservice.parsing import encode_document
from s3ml.keyservice.replaying import View, prove_history
from s3ml.keyservice.resources import GovernedPolicy, GovernedService
from s3ml.keyservice.secret_values import ReleasedSecrets, release_secrets
from s3ml.keyservice.storage import Storage
from s3ml.keyservice.vault import identity_name
from s3ml.primitives.encoding import sha256
from s3ml.primitives.envelope import Envelope
from s3ml.wire.hpke import HYBRID_AES256, seal_once

LIVING: Mapping[EpochState, Literal["pending", "active", "draining"]] = MappingProxyType(
    {EpochState.PENDING: "pending", EpochState.ACTIVE: "active", EpochState.DRAINING: "draining"}
)


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


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Appraised:
    """A request whose evidence holds; made by `Appraiser.appraise` alone.

    Args:
        request: What was asked.
        challenge: What the evidence answered.
        bound: The report data of the evidence.
        enclave: What the evidence proved.
        satisfies: Tells whether the evidence satisfies another policy as well.
    """

    request: ReleaseRequest
    challenge: Challenge
    bound: bytes
    enclave: VerifiedEnclave
    satisfies: Callable[[AppraisalPolicy], bool]


def served(view: View, name: str) -> Served:
    """Return the service `name`.

    Raises:
        NotFoundError: there is no such service, or no deployment.
        ConflictError: its policy was replaced since it was signed.
    """
    deployment = view.authority.deployment
    service = view.state.services.get(name)
    if service is None:
        raise NotFoundError(f"service {name}: expected one of deployment {deployment}, got none of that name")
    document = service.terms.document
    policy = view.state.policies.get(document.policy)
    if policy is None or policy.place.sha256 != document.policy_sha256:
        raise ConflictError(
            f"service {name}: its policy {document.policy} was replaced: sign the service anew with the "
            f"policy's digest {'' if policy is None else policy.place.sha256}"
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


def appraise(
    request: ReleaseRequest,
    challenge: Challenge,
    view: View,
    *,
    now: datetime,
    cache: VerdictCache,
) -> Appraised:
    """Verify the evidence of `request` against the policy that the challenge's service has at `view`.

    Raises:
        NotFoundError: there is no such service.
        ConflictError: its policy was replaced since it was signed.
        EvidenceMalformedError: the evidence cannot be read.
        EvidenceRejectedError: a check failed; all mismatches are listed.
    """
    policy = served(view, challenge.service).policy.policy
    bound = report_data(view.authority.deployment, request, challenge)
    evidence = parse_evidence(request.evidence)

    def satisfies(other: AppraisalPolicy) -> bool:
        try:
            verify_evidence(evidence, other, report_data=bound, now=now, cache=cache)
        except EvidenceRejectedError:
            return False
        return True

    enclave = verify_evidence(evidence, policy, report_data=bound, now=now, cache=cache)
    return Appraised(request=request, challenge=challenge, bound=bound, enclave=enclave, satisfies=satisfies)


def seal_release(
    view: View, keyring: Keyring, storage: Storage, *, appraised: Appraised, now: datetime
) -> Sealed:
    """Seal the keys and permissions of the challenge's service, as it stands at `view`.

    Args:
        view: Taken after the evidence was verified.
        keyring: Signs, and opens what is stored.
        storage: Where the secrets lie.
        appraised: Whom to seal to.
        now: Aware UTC.

    Raises:
        NotFoundError: there is no such service.
        ConflictError: its policy changed since the challenge, or the model server has seen a longer log.
        ConfigurationError: the requester's key is malformed.
        GenerationMissingError: this replica cannot open the keys of the active epoch.
        StorageTamperedError: a stored secret is missing or was changed.
        StorageUnavailableError: storage does not answer.
    """
    challenge, request = appraised.challenge, appraised.request
    found = served(view, challenge.service)
    document = found.service.terms.document
    if document.policy_sha256 != challenge.policy_sha256:
        raise ConflictError(
            f"service {challenge.service}: its policy changed since the challenge: ask for another challenge"
        )
    epochs = held_epochs(view, challenge.service, appraised, keyring)
    secrets = _secrets(view, keyring, storage, appraised)
    release = Release(
        deployment=view.authority.deployment,
        service=challenge.service,
        policy_sha256=challenge.policy_sha256,
        attester_nonce=request.attester_nonce,
        issued_at=now,
        lease_s=float(document.times.lease_s),
        callers=document.callers,
        model_owners=document.model_owners,
        epochs=tuple(
            ReleasedEpoch(
                epoch=epoch.number,
                state=LIVING[epoch.state],
                keys=read_epoch(keyring.generations, storage, epoch),
            )
            for epoch in epochs
        ),
        models=_models(found.service, keyring, storage),
        secrets=secrets.released,
        log_size=view.size,
        log_root=view.root,
        checkpoint=view.checkpoint,
        consistency=prove_history(view, request.known_size),
    )
    signed = Envelope(payload_type=RELEASE_TYPE, payload=encode_document(release)).with_signature(
        keyring.deployment.statement
    )
    info = release_info(appraised.bound)
    sealed = seal_once(HYBRID_AES256, request.public_key, signed.to_json(), info=info)
    return Sealed(sealed=sealed, record=_record(release, secrets, appraised))


def _models(service: GovernedService, keyring: Keyring, storage: Storage) -> tuple[ReleasedModel, ...]:
    """Return every model of a service with what opens it."""
    terms = service.terms
    identities = (keyring.vault.recall(storage, identity_name(manifest)) for manifest in terms.manifests)
    return tuple(
        ReleasedModel(manifest=envelope, identity=identity.decode("ascii"))
        for envelope, identity in zip(terms.document.models, identities, strict=True)
    )


def _secrets(view: View, keyring: Keyring, storage: Storage, appraised: Appraised) -> ReleasedSecrets:
    """Return the secrets of the challenge's service whose own policies the enclave satisfies."""
    return release_secrets(
        appraised.challenge.service,
        view.state.secrets,
        {name: policy.place.sha256 for name, policy in view.state.policies.items()},
        satisfies=appraised.satisfies,
        vault=keyring.vault,
        storage=storage,
    )


def _record(release: Release, secrets: ReleasedSecrets, appraised: Appraised) -> AuditRecord:
    """Return what the audit stream keeps of a release."""
    return AuditRecord(
        time=release.issued_at,
        service=release.service,
        policy_sha256=release.policy_sha256,
        epochs=tuple(epoch.epoch for epoch in release.epochs),
        models=tuple(sha256(model.manifest.payload).hex() for model in release.models),
        secrets=secrets.references,
        withheld=secrets.withheld,
        tee=appraised.enclave.tee,
        measurement=appraised.enclave.measurement,
        public_key_sha256=sha256(appraised.request.public_key).hex(),
    )


def held_epochs(view: View, service: str, appraised: Appraised, keyring: Keyring) -> tuple[Epoch, ...]:
    """Return the living epochs of a service whose keys an enclave may hold.

    An epoch belongs to the policy that its service had when it began: its keys go to nobody who satisfies
    only a later and wider one. Keys that this replica cannot open yet are left out, unless clients use them
    now: the next renewal brings them.

    Raises:
        GenerationMissingError: this replica cannot open the keys of the active epoch, or there is none.
    """
    line, current = view.state.epochs.get(service, NO_EPOCHS), served(view, service).policy.place.sha256
    found = tuple(
        epoch
        for epoch in line.living
        if (epoch.policy_sha256 == current or appraised.satisfies(epoch.policy))
        and (epoch.state is EpochState.ACTIVE or keyring.generations.vault(epoch.generation) is not None)
    )
    if line.at(EpochState.ACTIVE) is None:
        raise GenerationMissingError(f"service {service}: has no active keys yet", retry_after_s=1.0)
    return found
