"""What a model server asks for its keys, and what it receives.

Source: docs/spec/release.md.
"""

from typing import Annotated, Literal

import msgspec

from s3ml.keyservice.documents.callers import CallerRules
from s3ml.keyservice.documents.document import Document
from s3ml.keyservice.documents.secrets import ReleasedSecret
from s3ml.keyservice.fields import (
    Count,
    Digest,
    Hash,
    Instant,
    Name,
    Nonce,
    ProofPath,
    PublicKeyText,
    Version1,
)
from s3ml.primitives.envelope import Envelope

RELEASE_TYPE = "application/vnd.s3ml.release.v1+json"


class ChallengeRequest(Document, frozen=True, kw_only=True):
    """A model server asks what its evidence must answer."""

    role: Literal["model-server"]
    service: Name


class ChallengeReply(Document, frozen=True, kw_only=True):
    """What the evidence must bind, besides the requester's own key and nonce."""

    deployment: Digest
    genesis: bytes
    authority: Annotated[tuple[bytes, ...], msgspec.Meta(max_length=512)] = ()
    nonce: Nonce
    policy_sha256: Digest
    log_head: Hash
    log_size: Count
    expires_in_s: float


class ReleaseRequest(Document, frozen=True, kw_only=True):
    """Evidence over the challenge and over the fresh HPKE key (hybrid) that secrets are sealed to.

    `known_size` is the size of the newest log that the model server has seen.
    """

    nonce: Nonce
    attester_nonce: Nonce
    public_key: Annotated[bytes, msgspec.Meta(max_length=4096)]
    evidence: Annotated[bytes, msgspec.Meta(max_length=131072)]
    known_size: Annotated[int, msgspec.Meta(ge=1)] | None = None


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
    """What an attested model server receives, signed by the statement key (DSSE payload).

    `checkpoint` is the committed head that it follows from, with its cosignatures, and `consistency` proves
    that this log extends the one of the request's `known_size`.
    """

    version: Version1 = 1
    deployment: Digest
    service: Name
    policy_sha256: Digest
    attester_nonce: Nonce
    issued_at: Instant
    lease_s: float
    callers: CallerRules
    model_owners: tuple[PublicKeyText, ...]
    epochs: tuple[ReleasedEpoch, ...]
    models: tuple[ReleasedModel, ...]
    secrets: tuple[ReleasedSecret, ...] = ()
    log_size: Count
    log_root: Hash
    checkpoint: str
    consistency: ProofPath = ()
