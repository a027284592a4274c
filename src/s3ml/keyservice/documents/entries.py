"""What the log holds, and the records of the audit stream that it commits to.

Source: docs/spec/log.md.
"""

from typing import Annotated, Literal

import msgspec

from s3ml.keyservice.documents.document import Document
from s3ml.keyservice.documents.governance import DeploymentKeys
from s3ml.keyservice.documents.secrets import SecretReference
from s3ml.keyservice.fields import Count, Digest, DigestOrNothing, Instant, Name, Version1
from s3ml.primitives.envelope import Envelope


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
    body: GenesisEntry | ControlEntry | EpochEntry | ReleasesEntry
