"""What owners and model owners sign: proposals, changes of resources, manifests.

Source: docs/spec/log.md, docs/spec/control-message.md.
"""

from typing import Annotated, Literal

import msgspec

from s3ml.keyservice.documents.callers import CallerRules
from s3ml.keyservice.documents.document import Document
from s3ml.keyservice.fields import (
    INTAKE_KEY_BYTES,
    RESOURCE_PATTERN,
    Count,
    Digest,
    DigestOrNothing,
    Instant,
    ModelVersion,
    Name,
    Nonce,
    PublicKeyText,
    Version1,
)
from s3ml.primitives.envelope import Envelope

PROPOSAL_TYPE = "application/vnd.s3ml.proposal.v1+json"
CONTROL_TYPE = "application/vnd.s3ml.control.v1+json"
MANIFEST_TYPE = "application/vnd.s3ml.model-manifest.v1+json"


class Owner(Document, frozen=True, kw_only=True):
    """A deployment owner: a name for people, a key for machines."""

    name: Name
    key: PublicKeyText


class Proposal(Document, frozen=True, kw_only=True):
    """What k of n owners sign before anything exists (DSSE payload)."""

    version: Version1 = 1
    owners: Annotated[tuple[Owner, ...], msgspec.Meta(min_length=1, max_length=32)]
    threshold: Annotated[int, msgspec.Meta(ge=1, le=32)]
    witnesses: Annotated[tuple[str, ...], msgspec.Meta(max_length=0)] = ()
    witness_quorum: Literal[0] = 0
    key_service_policy: Annotated[bytes, msgspec.Meta(min_length=1, max_length=65536)]
    allow_simulated: bool
    random: Nonce


class DeploymentKeys(Document, frozen=True, kw_only=True):
    """The public halves of the keys that the first replica made inside its TEE."""

    checkpoint: PublicKeyText
    statement: PublicKeyText
    intake_kem: Literal[25722]
    intake: Annotated[bytes, msgspec.Meta(min_length=INTAKE_KEY_BYTES, max_length=INTAKE_KEY_BYTES)]


class ControlStatement(Document, frozen=True, kw_only=True):
    """What k of n owners sign to change a resource (DSSE payload).

    `resource_version` is the version that the change creates: a replay is always one too low.
    `previous_sha256` is the digest of the body that it replaces, empty where there is none: a change holds
    for what its signers saw, or not at all, however long somebody keeps it back.
    """

    version: Version1 = 1
    deployment: Digest
    method: Literal["PUT"]
    resource: Annotated[str, msgspec.Meta(pattern=RESOURCE_PATTERN)]
    resource_version: Annotated[int, msgspec.Meta(ge=1)]
    previous_sha256: DigestOrNothing
    body_sha256: Digest
    nonce: Nonce
    created_at: Instant


class ControlMessage(Document, frozen=True, kw_only=True):
    """A signed change with its body; attachments are secrets in transit, named in the body by digest."""

    statement: Envelope
    body: bytes
    attachments: Annotated[tuple[bytes, ...], msgspec.Meta(max_length=256)] = ()


class ModelManifest(Document, frozen=True, kw_only=True):
    """What a model owner signs: this payload may be opened for this service under this policy."""

    version: Version1 = 1
    deployment: Digest
    service: Name
    policy_sha256: Digest
    model: Name
    model_version: ModelVersion
    payload_sha256: Digest
    payload_bytes: Count
    sealed_identity_sha256: Digest


class ServiceDocument(Document, frozen=True, kw_only=True):
    """The body of ``PUT services/{name}``: who may call which models under which policy."""

    version: Version1 = 1
    service: Name
    policy: Name
    policy_sha256: Digest
    callers: CallerRules
    model_owners: Annotated[tuple[PublicKeyText, ...], msgspec.Meta(min_length=1, max_length=32)]
    models: Annotated[tuple[Envelope, ...], msgspec.Meta(min_length=1, max_length=256)]
