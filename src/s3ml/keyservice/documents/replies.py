"""What owners, operators and auditors ask over HTTP, and what is replied.

Source: docs/spec/log.md, docs/spec/control-message.md.
"""

from typing import Annotated, Literal

import msgspec

from s3ml.keyservice.documents.document import Document
from s3ml.keyservice.fields import Count, Digest, Nonce
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
    """Where the key service stands."""

    state: Literal["uninitialised", "sealed", "recovering", "serving"]
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
