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
from s3ml.primitives.units import DAY_S, MINUTE_S

PROPOSAL_TYPE = "application/vnd.s3ml.proposal.v1+json"
CONTROL_TYPE = "application/vnd.s3ml.control.v1+json"
MANIFEST_TYPE = "application/vnd.s3ml.model-manifest.v1+json"


class Owner(Document, frozen=True, kw_only=True):
    """A deployment owner: a name for people, a key for machines."""

    name: Name
    key: PublicKeyText


Owners = Annotated[tuple[Owner, ...], msgspec.Meta(min_length=1, max_length=32)]
Threshold = Annotated[int, msgspec.Meta(ge=1, le=32)]
WitnessText = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
Witnesses = Annotated[tuple[WitnessText, ...], msgspec.Meta(max_length=32)]
Quorum = Annotated[int, msgspec.Meta(ge=0, le=32)]
PolicyBytes = Annotated[bytes, msgspec.Meta(min_length=1, max_length=65536)]


class Proposal(Document, frozen=True, kw_only=True):
    """What k of n owners sign before anything exists (DSSE payload).

    `witnesses` are verifier keys of C2SP cosignature/v1 (``name+hash+base64``). The quorum is 0 where there
    are none, and more than half of them where there are some.
    """

    version: Version1 = 1
    owners: Owners
    threshold: Threshold
    witnesses: Witnesses = ()
    witness_quorum: Quorum = 0
    key_service_policy: PolicyBytes
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
    for what its signers saw, or not at all, however long somebody keeps it back. A
    ``DELETE`` has an empty body.
    """

    version: Version1 = 1
    deployment: Digest
    method: Literal["PUT", "DELETE"]
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


class ServiceTimes(Document, frozen=True, kw_only=True):
    """How long a service's keys are used, in seconds; owners choose, the host does not.

    Args:
        epoch_s: From one scheduled rotation to the next.
        lease_s: How long a model server may hold keys without renewing; a pending epoch waits as long.
        bundle_s: How long clients may use what a trust bundle said.
    """

    epoch_s: Annotated[int, msgspec.Meta(ge=60, le=31_536_000)] = DAY_S
    lease_s: Annotated[int, msgspec.Meta(ge=2, le=3600)] = 5 * MINUTE_S
    bundle_s: Annotated[int, msgspec.Meta(ge=5, le=DAY_S)] = 10 * MINUTE_S


class ServiceDocument(Document, frozen=True, kw_only=True):
    """The body of ``PUT services/{name}``: who may call which models under which policy."""

    version: Version1 = 1
    service: Name
    policy: Name
    policy_sha256: Digest
    callers: CallerRules
    model_owners: Annotated[tuple[PublicKeyText, ...], msgspec.Meta(min_length=1, max_length=32)]
    models: Annotated[tuple[Envelope, ...], msgspec.Meta(min_length=1, max_length=256)]
    times: ServiceTimes = ServiceTimes()
