"""What owners, operators and auditors ask over HTTP, and what is replied.

Source: docs/spec/log.md, docs/spec/control-message.md.
"""

from typing import Annotated, Literal

import msgspec

from s3ml.keyservice.documents.document import Document
from s3ml.keyservice.fields import Count, Digest, Hash, Instant, Name, Nonce
from s3ml.primitives.envelope import Envelope


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
    """Where the key service stands, as the replica that answers has it.

    `replica` names the process that answers; `replica_nonce` is what owners acknowledge; `trouble` says why
    nothing is served now, where that is so. What is stored may be ahead of what is committed.
    """

    state: Literal["uninitialised", "sealed", "recovering", "serving"]
    deployment: Digest | None = None
    genesis: bytes | None = None
    checkpoint: str | None = None
    is_simulated: bool
    is_fork_protected: bool
    replica: Digest
    replica_nonce: Nonce
    log_size: Count = 0
    log_root: Hash | None = None
    stored_size: Count = 0
    stored_root: Hash | None = None
    trouble: str | None = None


class PresenceReply(Document, frozen=True, kw_only=True):
    """A replica, and when it last proved in the log that it sees the newest one."""

    replica: Digest
    seen_at: Instant
    generations: tuple[Digest, ...]


class WitnessReply(Document, frozen=True, kw_only=True):
    """A witness that governs, and when it cosigned the newest committed head, if it did."""

    name: str
    cosigned_at: Instant | None


class EpochReply(Document, frozen=True, kw_only=True):
    """An epoch that is not retired."""

    service: Name
    epoch: int
    state: Literal["pending", "active", "draining"]
    since: Instant
    policy_sha256: Digest
    generation: Digest
    is_held: bool


class StatusReply(Document, frozen=True, kw_only=True):
    """The whole key service, as the log says and as the replica that answers sees it; unverified."""

    deployment: DeploymentReply
    owners: tuple[str, ...] = ()
    threshold: int = 0
    quorum: int = 0
    witnesses: tuple[WitnessReply, ...] = ()
    presence: tuple[PresenceReply, ...] = ()
    epochs: tuple[EpochReply, ...] = ()
    recovery_threshold: int = 0
    recovery_holders: tuple[str, ...] = ()
    keys_number: int = 0
    audit_records: Count = 0
    audit_waiting: Count = 0


class AcknowledgeReply(Document, frozen=True, kw_only=True):
    """Where the replica that owners acknowledged stands now."""

    state: Literal["uninitialised", "sealed", "recovering", "serving"]
    log_size: Count


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


class DeletedReply(Document, frozen=True, kw_only=True):
    """A resource that was taken away: its version goes on counting."""

    resource: str
    resource_version: Annotated[int, msgspec.Meta(ge=1)]
    log_index: Count


class ResourcesReply(Document, frozen=True, kw_only=True):
    """All governed resources, and those that were."""

    resources: tuple[ResourceReply, ...]
    deleted: tuple[DeletedReply, ...] = ()


class AuthorityReply(Document, frozen=True, kw_only=True):
    """Genesis, and every entry that changed what governs the deployment since, as they are in the log."""

    genesis: bytes
    entries: Annotated[tuple[bytes, ...], msgspec.Meta(max_length=512)]


class AuditReply(Document, frozen=True, kw_only=True):
    """Consecutive records of the audit stream, as stored; the log commits to them by digest."""

    records: tuple[bytes, ...]


class EntriesReply(Document, frozen=True, kw_only=True):
    """Consecutive log entries, as stored."""

    entries: tuple[bytes, ...]
