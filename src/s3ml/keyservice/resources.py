"""Governed resources: policies and services, and what a change of one must satisfy.

Pure: the same judgement holds for a message that arrives and for an entry that is read back.

Source: docs/spec/control-message.md.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from s3ml.attestation import AppraisalPolicy
from s3ml.keyservice.authority import KIND as AUTHORITY
from s3ml.keyservice.authority import Authority
from s3ml.keyservice.caller_rules import judge_callers
from s3ml.keyservice.control import BODY_LIMIT_BYTES, read_manifest
from s3ml.keyservice.documents import (
    MANIFEST_TYPE,
    ControlStatement,
    Mismatch,
    ModelManifest,
    RotationDocument,
    ServiceDocument,
)
from s3ml.keyservice.epochs import Wanted
from s3ml.keyservice.errors import ConflictError, RefusedError, mismatch
from s3ml.keyservice.escrow.terms import judge_recovery
from s3ml.keyservice.parsing import parse_document, read_policy
from s3ml.keyservice.secret_terms import (
    GovernedSecret,
    SecretTerms,
    judge_secret,
    read_secret,
    secrets_of,
)
from s3ml.keyservice.versions import expect_next
from s3ml.primitives.envelope import Envelope, SignatureError
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.signing import VerifyKey

RECOVERY = "recovery"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a resource stands: its version, its body, and the log entry that put it there."""

    version: int
    body: bytes
    sha256: str
    index: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceTerms:
    """A service document with its manifests, all checked."""

    document: ServiceDocument
    manifests: tuple[ModelManifest, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GovernedPolicy:
    """A policy as it stands."""

    place: Place
    policy: AppraisalPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class GovernedService:
    """A service as it stands."""

    place: Place
    terms: ServiceTerms


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """A resource that its owners take away."""


Content = AppraisalPolicy | ServiceTerms | RotationDocument | SecretTerms | Authority | Deletion


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change that satisfies every rule."""

    kind: str
    name: str
    version: int
    nonce: bytes
    body: bytes
    content: Content

    @property
    def resource(self) -> str:
        """The resource's full name."""
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Everything that a change may depend on."""

    authority: Authority
    policies: Mapping[str, GovernedPolicy]
    services: Mapping[str, GovernedService]
    secrets: Mapping[str, GovernedSecret]
    places: Mapping[str, Place]
    nonces: frozenset[bytes]


def judge(statement: ControlStatement, envelope: Envelope, body: bytes, standing: Standing) -> Change:
    """Judge a change whose signatures, deployment and body digest hold already.

    1. The resource's version is the next one, and the body that it replaces is the one that stands.
    2. The nonce was not seen before.
    3. The body is what the resource's kind demands; see the ``judge_*`` of each.

    Raises:
        ConflictError: (1) or (2) fails, or what is to be deleted is not there or is needed.
        ConfigurationError: the body is malformed.
        RefusedError: the body breaks a rule; all mismatches are listed.
        SignatureError: no named model owner signed a manifest, or too few of the new owners signed.
    """
    kind, _, name = statement.resource.partition("/")
    place = standing.places.get(statement.resource)
    if kind != AUTHORITY:
        expect_next(  # (1)
            statement, version=place.version if place else 0, sha256=place.sha256 if place else ""
        )
    if statement.nonce in standing.nonces:  # (2)
        raise ConflictError(f"{statement.resource}: nonce: expected a fresh one, got one seen before")
    content: Content
    if statement.method == "DELETE":  # (3)
        content = _judge_deletion(kind, name, body, standing)
    elif kind == AUTHORITY:
        if name == RECOVERY:
            judge_recovery(body)
        content = standing.authority.change(statement, envelope, body)
    elif kind == "policies":
        content = judge_policy(body, is_simulated=standing.authority.is_simulated)
    elif kind == "services":
        content = judge_service(
            name, body, deployment=standing.authority.deployment, policies=standing.policies
        )
    elif kind == "rotations":
        content = judge_rotation(name, body, services=standing.services)
    else:  # The form of a statement's resource leaves nothing but secrets.
        content = _judge_secret(name, body, standing)
    return Change(
        kind=kind,
        name=name,
        version=statement.resource_version,
        nonce=statement.nonce,
        body=body,
        content=content,
    )


def judge_rotation(name: str, body: bytes, *, services: Mapping[str, GovernedService]) -> RotationDocument:
    """Return the request for new keys in `body`.

    Raises:
        ConfigurationError: malformed.
        ConflictError: there is no such service.
        RefusedError: it names another service.
    """
    document = parse_document(body, RotationDocument, what="rotation", limit_bytes=BODY_LIMIT_BYTES)
    if failed := _differences(("service", name, document.service)):
        raise RefusedError(f"rotation {name}", failed)
    if name not in services:
        raise ConflictError(f"rotation {name}: expected a service of that name, got none")
    return document


def _judge_secret(name: str, body: bytes, standing: Standing) -> SecretTerms:
    document = read_secret(body)
    policy = standing.policies.get(document.policy)
    return judge_secret(
        name,
        document,
        policy=None if policy is None else (policy.policy, policy.place.sha256),
        services=standing.services,
        secrets=standing.secrets,
    )


def _judge_deletion(kind: str, name: str, body: bytes, standing: Standing) -> Deletion:
    """Check that a secret may go, a service that has no secrets, or a policy that nothing needs.

    Raises:
        ConfigurationError: there is a body, or resources of the kind stay.
        ConflictError: there is no such resource, or others need it.
    """
    if body or kind not in {"services", "policies", "secrets"}:
        raise ConfigurationError(
            f"{kind}/{name}: expected a service, a policy or a secret to delete, with no body"
        )
    standing_ones: Mapping[str, object] = getattr(standing, kind)
    if name not in standing_ones:
        raise ConflictError(f"{kind}/{name}: expected one that stands, got none")
    if needed := _needing(kind, name, standing):
        raise ConflictError(f"{kind}/{name}: is needed by {', '.join(needed)}: delete those first")
    return Deletion()


def _needing(kind: str, name: str, standing: Standing) -> list[str]:
    """Return the resources that a resource of `kind` must outlive."""
    if kind == "services":
        return [f"secrets/{one}" for one in secrets_of(name, standing.secrets)]
    if kind == "secrets":
        return []
    services = [one for one, found in standing.services.items() if found.terms.document.policy == name]
    secrets = [one for one, found in standing.secrets.items() if found.current.terms.document.policy == name]
    return [*(f"services/{one}" for one in sorted(services)), *(f"secrets/{one}" for one in sorted(secrets))]


def judge_policy(body: bytes, *, is_simulated: bool) -> AppraisalPolicy:
    """Return the policy in `body`; it is simulated only where the deployment allows that.

    Raises:
        ConfigurationError: no policy.
        RefusedError: simulated, and the deployment does not allow it.
    """
    policy = read_policy(body)
    if policy.is_simulated and not is_simulated:
        raise RefusedError(
            "policy", [mismatch("tee", expected="a real one, as genesis demands", got="simulated")]
        )
    return policy


def judge_service(
    name: str, body: bytes, *, deployment: str, policies: Mapping[str, GovernedPolicy]
) -> ServiceTerms:
    """Return the service in `body`.

    1. It names itself.
    2. Its policy exists, with the digest that it names.
    3. Each manifest is signed by one of its model owners.
    4. Each manifest is for this deployment, service and policy.
    5. Each model version stands once.
    6. Its rules about callers hold; see `judge_callers`.

    Raises:
        ConfigurationError: malformed.
        SignatureError: (3) fails.
        RefusedError: another rule fails; all mismatches are listed.
    """
    document = parse_document(body, ServiceDocument, what="service", limit_bytes=BODY_LIMIT_BYTES)
    policy = policies.get(document.policy)
    digest = policy.place.sha256 if policy is not None else "no policy of that name"
    failed = _differences(
        ("service", name, document.service),  # (1)
        (f"policy {document.policy}", document.policy_sha256, digest),  # (2)
    )
    failed += judge_callers(document.callers)  # (6)
    owners = [VerifyKey.parse(key) for key in document.model_owners]
    manifests = []
    seen: set[tuple[str, str]] = set()
    for envelope in document.models:
        manifest = _signed_manifest(envelope, owners)  # (3)
        which = f"manifest of {manifest.model} {manifest.model_version}"
        failed += _differences(  # (4)
            (f"{which}: deployment", deployment, manifest.deployment),
            (f"{which}: service", name, manifest.service),
            (f"{which}: policy", document.policy_sha256, manifest.policy_sha256),
        )
        version = (manifest.model, manifest.model_version)
        if version in seen:  # (5)
            failed.append(mismatch(which, expected="each model version once", got="twice"))
        seen.add(version)
        manifests.append(manifest)
    if failed:
        raise RefusedError(f"service {name}", failed)
    return ServiceTerms(document=document, manifests=tuple(manifests))


def wanted(standing: Standing) -> dict[str, Wanted]:
    """Return what each service wants of its epochs whose policy still is the one that it was signed with.

    A service whose policy was replaced since stands still until its document is signed anew.
    """
    found = {}
    for name, service in standing.services.items():
        document = service.terms.document
        policy = standing.policies.get(document.policy)
        if policy is not None and policy.place.sha256 == document.policy_sha256:
            rotation = standing.places.get(f"rotations/{name}")
            found[name] = Wanted(
                policy=policy.policy,
                policy_sha256=document.policy_sha256,
                times=document.times,
                requested_at=-1 if rotation is None else rotation.index,
            )
    return found


def place(change: Change, *, index: int, data: bytes) -> Place:
    """Return where `change` stands once it is entry `index` of the log."""
    return Place(
        version=change.version,
        body=change.body,
        sha256=hashlib.sha256(change.body).hexdigest() if change.body else "",
        index=index,
        data=data,
    )


def _signed_manifest(envelope: Envelope, owners: list[VerifyKey]) -> ModelManifest:
    manifest = read_manifest(envelope)
    try:
        envelope.verify(owners, threshold=1, payload_type=MANIFEST_TYPE)
    except SignatureError as error:
        raise SignatureError(
            f"manifest of {manifest.model} {manifest.model_version}: expected a signature of one of the "
            "service's model owners, got none that holds"
        ) from error
    return manifest


def _differences(*claims: tuple[str, str, str]) -> list[Mismatch]:
    return [mismatch(claim, expected=a, got=b) for claim, a, b in claims if a != b]
