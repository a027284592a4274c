"""Governed resources: policies and services, and what a change of one must satisfy.

Pure: the same judgement holds for a message that arrives and for an entry that is read back.

Source: docs/spec/control-message.md.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from s3ml.attestation import AppraisalPolicy
from s3ml.keyservice.caller_rules import judge_callers
from s3ml.keyservice.control import BODY_LIMIT_BYTES, read_manifest
from s3ml.keyservice.documents import (
    MANIFEST_TYPE,
    ControlStatement,
    Mismatch,
    ModelManifest,
    ServiceDocument,
)
from s3ml.keyservice.errors import ConflictError, RefusedError, mismatch
from s3ml.keyservice.genesis import Genesis
from s3ml.keyservice.parsing import parse_document, read_policy
from s3ml.primitives.envelope import Envelope, SignatureError
from s3ml.primitives.signing import VerifyKey


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
class Change:
    """A change that satisfies every rule."""

    kind: str
    name: str
    version: int
    nonce: bytes
    body: bytes
    content: AppraisalPolicy | ServiceTerms


def judge(
    statement: ControlStatement,
    body: bytes,
    *,
    genesis: Genesis,
    policies: Mapping[str, GovernedPolicy],
    services: Mapping[str, GovernedService],
    nonces: frozenset[bytes],
) -> Change:
    """Judge a change whose signatures, deployment and body digest hold already.

    1. The resource's version is the next one, and the body that it replaces is the one that stands.
    2. The nonce was not seen before.
    3. The body is what the resource's kind demands; see `judge_policy` and `judge_service`.

    Raises:
        ConflictError: (1) or (2) fails.
        ConfigurationError: the body is malformed.
        RefusedError: the body breaks a rule; all mismatches are listed.
        SignatureError: no named model owner signed a manifest.
    """
    kind, _, name = statement.resource.partition("/")
    current = policies.get(name) if kind == "policies" else services.get(name)
    expected = 1 if current is None else current.place.version + 1
    if statement.resource_version != expected:  # (1)
        raise ConflictError(
            f"{statement.resource}: resource version: expected {expected}, got {statement.resource_version}"
        )
    standing = "" if current is None else current.place.sha256
    if statement.previous_sha256 != standing:
        raise ConflictError(
            f"{statement.resource}: body that it replaces: expected {standing or 'none'}, "
            f"got {statement.previous_sha256 or 'none'}"
        )
    if statement.nonce in nonces:  # (2)
        raise ConflictError(f"{statement.resource}: nonce: expected a fresh one, got one seen before")
    content: AppraisalPolicy | ServiceTerms
    if kind == "policies":  # (3)
        content = judge_policy(body, genesis=genesis)
    else:
        content = judge_service(name, body, genesis=genesis, policies=policies)
    return Change(
        kind=kind,
        name=name,
        version=statement.resource_version,
        nonce=statement.nonce,
        body=body,
        content=content,
    )


def judge_policy(body: bytes, *, genesis: Genesis) -> AppraisalPolicy:
    """Return the policy in `body`; it is simulated only where the deployment allows that.

    Raises:
        ConfigurationError: no policy.
        RefusedError: simulated, and the deployment does not allow it.
    """
    policy = read_policy(body)
    if policy.is_simulated and not genesis.is_simulated:
        raise RefusedError(
            "policy", [mismatch("tee", expected="a real one, as genesis demands", got="simulated")]
        )
    return policy


def judge_service(
    name: str, body: bytes, *, genesis: Genesis, policies: Mapping[str, GovernedPolicy]
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
            (f"{which}: deployment", genesis.deployment, manifest.deployment),
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


def holding(
    policies: Mapping[str, GovernedPolicy], services: Mapping[str, GovernedService]
) -> dict[str, str]:
    """Return the policy digest of each service whose policy still is the one that it was signed with.

    A service whose policy was replaced since stands still until its document is signed anew.
    """
    found = {}
    for name, service in services.items():
        document = service.terms.document
        if policies[document.policy].place.sha256 == document.policy_sha256:
            found[name] = document.policy_sha256
    return found


def place(change: Change, *, index: int, data: bytes) -> Place:
    """Return where `change` stands once it is entry `index` of the log."""
    return Place(
        version=change.version,
        body=change.body,
        sha256=hashlib.sha256(change.body).hexdigest(),
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
