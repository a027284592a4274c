"""What a client asks of a service, and what proves the answer.

Source: docs/spec/trust-bundle.md.
"""

from typing import Annotated

import msgspec

from s3ml.keyservice.documents.callers import CallerRules
from s3ml.keyservice.documents.document import Document
from s3ml.keyservice.fields import (
    Count,
    Digest,
    Hash,
    Instant,
    ModelVersion,
    Name,
    Nonce,
    ProofPath,
    Version1,
)
from s3ml.primitives.envelope import Envelope

STATEMENT_TYPE = "application/vnd.s3ml.trust-statement.v1+json"


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
    callers: CallerRules
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
    batch; `batch_path` leads there from this client's leaf. `authority` holds every entry that changed what
    governs the deployment since genesis, in order.
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
    authority: Annotated[tuple[ProvenEntry, ...], msgspec.Meta(max_length=512)] = ()
    policy: ProvenEntry
    service: ProvenEntry
    epoch: ProvenEntry
