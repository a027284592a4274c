"""What the log holds, and the records of the audit stream that it commits to.

Source: docs/spec/log.md.
"""

from typing import Annotated, Literal

import msgspec

from s3ml.keyservice.documents.document import Document
from s3ml.keyservice.documents.governance import DeploymentKeys
from s3ml.keyservice.documents.secrets import SecretReference
from s3ml.keyservice.fields import Count, Digest, DigestOrNothing, Instant, Name, Nonce, Version1
from s3ml.primitives.envelope import Envelope

EpochNumber = Annotated[int, msgspec.Meta(ge=1)]


class GenesisEntry(Document, frozen=True, kw_only=True, tag_field="kind", tag="genesis"):
    """The first entry: the signed proposal and the keys that it brought into being."""

    proposal: Envelope
    keys: DeploymentKeys


class ControlEntry(Document, frozen=True, kw_only=True, tag_field="kind", tag="control"):
    """A change that the owners signed, with its body."""

    statement: Envelope
    body: bytes


class EpochEntry(Document, frozen=True, kw_only=True, tag_field="kind", tag="epoch"):
    """A new epoch of a service: the public halves of its keys, and which generation key wraps the others."""

    service: Name
    policy_sha256: Digest
    epoch: EpochNumber
    state: Literal["pending", "active"]
    generation: Digest
    key_configs: Annotated[bytes, msgspec.Meta(max_length=8192)]
    reason: Literal["created", "policy-changed", "scheduled", "requested", "restarted"]


class EpochStateEntry(Document, frozen=True, kw_only=True, tag_field="kind", tag="epoch-state"):
    """An epoch goes on in its life; one that becomes active sends the active one before it into draining."""

    service: Name
    epoch: EpochNumber
    state: Literal["active", "retired"]
    reason: Literal["scheduled", "drained", "lost"]


class KeysEntry(Document, frozen=True, kw_only=True, tag_field="kind", tag="keys"):
    """New keys of the deployment, made in a TEE when its key service's policy changed."""

    number: Annotated[int, msgspec.Meta(ge=2)]
    policy_sha256: Digest
    keys: DeploymentKeys


class JoinEntry(Document, frozen=True, kw_only=True, tag_field="kind", tag="join"):
    """A replica that was given the secrets of the deployment by another, and what its evidence proved."""

    replica: Digest
    source: Digest
    tee: str
    measurement: str


class RestartEntry(Document, frozen=True, kw_only=True, tag_field="kind", tag="restart"):
    """A replica began to serve again by itself: a quorum cosigned its random bytes, or owners signed."""

    replica: Digest
    random: Nonce
    acknowledgement: Envelope | None = None


class PresenceEntry(Document, frozen=True, kw_only=True, tag_field="kind", tag="presence"):
    """A replica proves that it sees the newest log: its own random bytes, and the generations it holds."""

    replica: Digest
    random: Nonce
    generations: Annotated[tuple[Digest, ...], msgspec.Meta(max_length=256)] = ()


class ReleasesEntry(Document, frozen=True, kw_only=True, tag_field="kind", tag="releases"):
    """A batch of the audit stream: `count` records from `first` on, committed by hash."""

    first: Count
    count: Annotated[int, msgspec.Meta(ge=1)]
    sha256: Digest


EntryBody = (
    GenesisEntry
    | ControlEntry
    | EpochEntry
    | EpochStateEntry
    | KeysEntry
    | JoinEntry
    | RestartEntry
    | PresenceEntry
    | ReleasesEntry
)


class AuditRecord(Document, frozen=True, kw_only=True):
    """One release, as the audit stream keeps it: who received which keys and secrets, and none of them.

    `withheld` are the secrets of the service whose own policy the enclave did not satisfy.
    """

    version: Version1 = 1
    time: Instant
    service: Name
    policy_sha256: Digest
    epochs: tuple[int, ...]
    models: tuple[Digest, ...]
    secrets: tuple[SecretReference, ...] = ()
    withheld: tuple[SecretReference, ...] = ()
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
    body: EntryBody
