"""Every document that the key service signs, stores or sends, as exact types.

JSON, UTF-8; bytes as standard base64, digests as 64 lower-case hexadecimal digits, instants as RFC 3339
in UTC. Unknown fields reject. What is hashed or signed is always the delivered bytes, never their
re-serialisation.

Source: docs/spec/log.md, docs/spec/control-message.md, docs/spec/release.md, docs/spec/trust-bundle.md.
"""

from typing import Annotated, Literal

import msgspec

from s3ml.keyservice.fields import (
    INTAKE_KEY_BYTES,
    RESOURCE_PATTERN,
    Count,
    Digest,
    DigestOrNothing,
    Hash,
    Instant,
    ModelVersion,
    Name,
    Nonce,
    ProofPath,
    PublicKeyText,
    Version1,
)
from s3ml.primitives.envelope import Envelope

PROPOSAL_TYPE = "application/vnd.s3ml.proposal.v1+json"
CONTROL_TYPE = "application/vnd.s3ml.control.v1+json"
MANIFEST_TYPE = "application/vnd.s3ml.model-manifest.v1+json"
STATEMENT_TYPE = "application/vnd.s3ml.trust-statement.v1+json"
RELEASE_TYPE = "application/vnd.s3ml.release.v1+json"


class Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all documents have in common: frozen, named fields, nothing unknown."""


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
    callers: Literal["anonymous"]
    model_owners: Annotated[tuple[PublicKeyText, ...], msgspec.Meta(min_length=1, max_length=32)]
    models: Annotated[tuple[Envelope, ...], msgspec.Meta(min_length=1, max_length=256)]


class GenesisEntry(Document, frozen=True, kw_only=True, tag_field="kind", tag="genesis"):
    """The first entry: the signed proposal and the keys that it brought into being."""

    proposal: Envelope
    keys: DeploymentKeys


class ControlEntry(Document, frozen=True, kw_only=True, tag_field="kind", tag="control"):
    """A change that the owners signed, with its body."""

    statement: Envelope
    body: bytes


class EpochEntry(Document, frozen=True, kw_only=True, tag_field="kind", tag="epoch"):
    """A new epoch of a service: the public halves of its keys; it retires the epoch it replaces."""

    service: Name
    policy_sha256: Digest
    epoch: Annotated[int, msgspec.Meta(ge=1)]
    key_configs: bytes
    reason: Literal["created", "policy-changed", "restarted"]
    retires: int | None = None


class ReleasesEntry(Document, frozen=True, kw_only=True, tag_field="kind", tag="releases"):
    """A batch of the audit stream: `count` records from `first` on, committed by hash."""

    first: Count
    count: Annotated[int, msgspec.Meta(ge=1)]
    sha256: Digest


class AuditRecord(Document, frozen=True, kw_only=True):
    """One release, as the audit stream keeps it: who received which keys, and no key."""

    version: Version1 = 1
    time: Instant
    service: Name
    policy_sha256: Digest
    epochs: tuple[int, ...]
    models: tuple[Digest, ...]
    tee: str
    measurement: str
    public_key_sha256: Digest


class LogEntry(Document, frozen=True, kw_only=True):
    """One entry as it is stored and hashed; `previous` chains it to the leaf hash before it."""

    version: Version1 = 1
    index: Count
    previous: Digest
    deployment: DigestOrNothing
    time: Instant
    body: GenesisEntry | ControlEntry | EpochEntry | ReleasesEntry


class Mismatch(Document, frozen=True, kw_only=True):
    """One failed check: what was expected, what was got."""

    claim: str
    expected: str
    got: str


class ErrorReply(Document, frozen=True, kw_only=True):
    """Every reply that is no success: one line for a person, and all mismatches."""

    error: str
    mismatches: tuple[Mismatch, ...] = ()


class DeploymentReply(Document, frozen=True, kw_only=True):
    """Where the key service stands."""

    state: Literal["uninitialised", "serving"]
    deployment: Digest | None = None
    genesis: bytes | None = None
    checkpoint: str | None = None
    is_simulated: bool
    is_fork_protected: bool


class GenesisRequest(Document, frozen=True, kw_only=True):
    """The signed proposal and the owner's fresh nonce."""

    proposal: Envelope
    nonce: Nonce


class GenesisReply(Document, frozen=True, kw_only=True):
    """The genesis entry and evidence that a TEE made its keys."""

    entry: bytes
    attester_nonce: Nonce
    evidence: bytes


class ControlReply(Document, frozen=True, kw_only=True):
    """Where the change stands in the log."""

    index: Count
    log_size: Count


class ResourceReply(Document, frozen=True, kw_only=True):
    """A governed resource as it stands."""

    resource: str
    resource_version: Annotated[int, msgspec.Meta(ge=1)]
    body: bytes
    body_sha256: Digest
    log_index: Count


class ResourcesReply(Document, frozen=True, kw_only=True):
    """All governed resources."""

    resources: tuple[ResourceReply, ...]


class EntriesReply(Document, frozen=True, kw_only=True):
    """Consecutive log entries, as stored."""

    entries: tuple[bytes, ...]


class ChallengeRequest(Document, frozen=True, kw_only=True):
    """A model server asks what its evidence must answer."""

    role: Literal["model-server"]
    service: Name


class ChallengeReply(Document, frozen=True, kw_only=True):
    """What the evidence must bind, besides the requester's own key and nonce."""

    deployment: Digest
    genesis: bytes
    nonce: Nonce
    policy_sha256: Digest
    log_head: Hash
    log_size: Count
    expires_in_s: float


class ReleaseRequest(Document, frozen=True, kw_only=True):
    """Evidence over the challenge and over the fresh HPKE key (hybrid) that secrets are sealed to."""

    nonce: Nonce
    attester_nonce: Nonce
    public_key: Annotated[bytes, msgspec.Meta(max_length=4096)]
    evidence: Annotated[bytes, msgspec.Meta(max_length=131072)]


class ReleaseReply(Document, frozen=True, kw_only=True):
    """``enc || ciphertext`` for the requester's key; inside is an `Envelope` of a `Release`."""

    sealed: bytes


class ReleasedKey(Document, frozen=True, kw_only=True):
    """One private key of an epoch, with the key configuration that clients use.

    `key_config` is `application/ohttp-keys` with exactly one configuration; `private_key` is the KEM's own
    serialisation of it.
    """

    key_config: bytes
    private_key: bytes

    def __repr__(self) -> str:
        return "ReleasedKey(redacted)"


class ReleasedEpoch(Document, frozen=True, kw_only=True):
    """An epoch's keys, the hybrid first, and where the epoch stands in its life."""

    epoch: int
    state: Literal["pending", "active", "draining"]
    keys: tuple[ReleasedKey, ...]


class ReleasedModel(Document, frozen=True, kw_only=True):
    """The permission to open one model version: the signed manifest and its age identity."""

    manifest: Envelope
    identity: str

    def __repr__(self) -> str:
        return "ReleasedModel(redacted)"


class Release(Document, frozen=True, kw_only=True):
    """What an attested model server receives, signed by the statement key (DSSE payload)."""

    version: Version1 = 1
    deployment: Digest
    service: Name
    policy_sha256: Digest
    attester_nonce: Nonce
    issued_at: Instant
    lease_s: float
    callers: Literal["anonymous"]
    model_owners: tuple[PublicKeyText, ...]
    epochs: tuple[ReleasedEpoch, ...]
    models: tuple[ReleasedModel, ...]


class TrustBundleRequest(Document, frozen=True, kw_only=True):
    """A client's fresh nonce, and the size of the newest log that it has seen."""

    service: Name
    nonce: Nonce
    known_size: Annotated[int, msgspec.Meta(ge=1)] | None = None


class ModelSummary(Document, frozen=True, kw_only=True):
    """A model version that the service may answer with."""

    model: Name
    model_version: ModelVersion
    manifest_sha256: Digest


class TrustStatement(Document, frozen=True, kw_only=True):
    """What the key service says of a service, signed by the statement key (DSSE payload)."""

    version: Version1 = 1
    deployment: Digest
    service: Name
    policy: bytes
    callers: Literal["anonymous"]
    models: tuple[ModelSummary, ...]
    key_configs: bytes
    issued_at: Instant
    not_after: Instant
    log_size: Count
    log_root: Hash
    is_simulated: bool
    is_fork_protected: bool


class ProvenEntry(Document, frozen=True, kw_only=True):
    """A log entry and its inclusion proof (RFC 9162, section 2.1.3) in the bundle's checkpoint."""

    index: Count
    entry: bytes
    proof: ProofPath


class TrustBundle(Document, frozen=True, kw_only=True):
    """Everything a client needs to decide, in one reply.

    The quote's report data binds a Merkle root over the nonces and statement digests of all clients of a
    batch; `batch_path` leads there from this client's leaf.
    """

    version: Version1 = 1
    evidence: bytes
    attester_nonce: Nonce
    batch_index: Count
    batch_size: Annotated[int, msgspec.Meta(ge=1)]
    batch_path: ProofPath
    statement: Envelope
    checkpoint: str
    consistency: ProofPath = ()
    genesis: ProvenEntry
    policy: ProvenEntry
    service: ProvenEntry
    epoch: ProvenEntry
