"""Recovery: who holds shares of the wrapping key, what a replica asks of them, and what they hand to it.

Source: docs/spec/recovery.md.
"""

from typing import Annotated, Literal

import msgspec

from s3ml.keyservice.documents.document import Document
from s3ml.keyservice.documents.replies import AuthorityReply, Mismatch
from s3ml.keyservice.fields import INTAKE_KEY_BYTES, Count, Digest, Hash, Name, Nonce, Version1
from s3ml.primitives.envelope import Envelope

SHARE_SET_TYPE = "application/vnd.s3ml.share-set.v1+json"
HOLDERS_LIMIT = 16
FAILURES_LIMIT = 64
SHARE_VALUE_BYTES = 64
SEALED_LIMIT_BYTES = 65536

Purpose = Literal["recovery", "rehearsal"]
ShareIndex = Annotated[int, msgspec.Meta(ge=1, le=HOLDERS_LIMIT)]
ShareThreshold = Annotated[int, msgspec.Meta(ge=1, le=HOLDERS_LIMIT)]
# An X25519 recipient in Bech32: the prefix, 52 characters of key, 6 of checksum.
AgeRecipient = Annotated[str, msgspec.Meta(pattern=r"\Aage1[02-9ac-hj-np-z]{58}\Z")]


class RecoveryKey(Document, frozen=True, kw_only=True):
    """Somebody who holds a share: a name for people, an age recipient for machines."""

    name: Name
    recipient: AgeRecipient


RecoveryKeys = Annotated[tuple[RecoveryKey, ...], msgspec.Meta(min_length=1, max_length=HOLDERS_LIMIT)]


class RecoveryDocument(Document, frozen=True, kw_only=True):
    """The body of ``PUT deployment/recovery``: `threshold` of these recover the wrapping key together."""

    version: Version1 = 1
    threshold: ShareThreshold
    recipients: RecoveryKeys


class ShareSet(Document, frozen=True, kw_only=True):
    """What is public of one splitting of the wrapping key, signed by the statement key (DSSE payload).

    `digests` commit to the shares in the order of `recipients`; the first is that of share 1.
    """

    version: Version1 = 1
    deployment: Digest
    threshold: ShareThreshold
    recipients: RecoveryKeys
    commitment: Hash
    digests: Annotated[tuple[Hash, ...], msgspec.Meta(min_length=1, max_length=HOLDERS_LIMIT)]


class Share(Document, frozen=True, kw_only=True):
    """One share of a set, as it lies encrypted to its holder; a secret."""

    version: Version1 = 1
    deployment: Digest
    share_set: Digest
    threshold: ShareThreshold
    index: ShareIndex
    value: Annotated[bytes, msgspec.Meta(min_length=SHARE_VALUE_BYTES, max_length=SHARE_VALUE_BYTES)]

    def __repr__(self) -> str:
        return f"Share(index={self.index}, redacted)"


class Contribution(Document, frozen=True, kw_only=True):
    """What is sealed to a request's key: one holder's share, or those of several; a secret."""

    version: Version1 = 1
    shares: Annotated[tuple[Share, ...], msgspec.Meta(min_length=1, max_length=HOLDERS_LIMIT)]


class EncryptedShare(Document, frozen=True, kw_only=True):
    """A share in an age payload for its holder."""

    index: ShareIndex
    name: Name
    ciphertext: Annotated[bytes, msgspec.Meta(min_length=1, max_length=4096)]


class RecoverySharesReply(Document, frozen=True, kw_only=True):
    """The newest shares of the wrapping key, as they are stored: safe to show to anybody."""

    version: Version1 = 1
    share_set: Envelope
    shares: Annotated[tuple[EncryptedShare, ...], msgspec.Meta(min_length=1, max_length=HOLDERS_LIMIT)]


class RecoveryAsk(Document, frozen=True, kw_only=True):
    """Somebody asks a replica to ask for shares; `nonce` tells them that a rehearsal is their own."""

    purpose: Purpose
    nonce: Nonce


class RecoveryRequest(Document, frozen=True, kw_only=True):
    """A replica in a TEE asks for shares, sealed to `public_key`; `evidence` binds every other field."""

    version: Version1 = 1
    deployment: Digest
    purpose: Purpose
    asker_nonce: Nonce
    nonce: Nonce
    public_key: Annotated[bytes, msgspec.Meta(min_length=INTAKE_KEY_BYTES, max_length=INTAKE_KEY_BYTES)]
    policy_sha256: Digest
    log_size: Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]
    log_root: Hash
    share_set: Digest
    evidence: Annotated[bytes, msgspec.Meta(max_length=131072)]


class RecoveryRequestReply(Document, frozen=True, kw_only=True):
    """A request with the encrypted shares that it is about: all that a holder needs, in one file.

    `authority` is added by whoever writes the file: the owners' chain, for holders without a network.
    """

    request: RecoveryRequest
    shares: RecoverySharesReply
    authority: AuthorityReply | None = None


class ContributionRequest(Document, frozen=True, kw_only=True):
    """A `Contribution`, sealed to the key of the request with this id: ``enc || ciphertext``."""

    version: Version1 = 1
    request: Digest
    sealed: Annotated[bytes, msgspec.Meta(min_length=1, max_length=SEALED_LIMIT_BYTES)]


class Outcome(Document, frozen=True, kw_only=True):
    """What a rehearsal showed: how many stored secrets open, and which do not.

    `failed` lists the first of them; `failures` counts all.
    """

    version: Version1 = 1
    request: Digest
    opened: Count
    failures: Count
    failed: Annotated[tuple[Mismatch, ...], msgspec.Meta(max_length=FAILURES_LIMIT)] = ()


class OutcomeReply(Document, frozen=True, kw_only=True):
    """A `Outcome` as its bytes, with evidence that the TEE which was given the shares says so."""

    outcome: Annotated[bytes, msgspec.Meta(max_length=131072)]
    attester_nonce: Nonce
    evidence: Annotated[bytes, msgspec.Meta(max_length=131072)]


class RequestStatus(Document, frozen=True, kw_only=True):
    """How far one request is: who contributed, and how many more are needed."""

    request: Digest
    purpose: Purpose
    state: Literal["open", "complete"]
    threshold: ShareThreshold
    contributed: tuple[Name, ...]
    missing: Count
    outcome: OutcomeReply | None = None


class RecoveryStatusReply(Document, frozen=True, kw_only=True):
    """Every request that this replica has open, and rehearsals that it finished lately."""

    requests: tuple[RequestStatus, ...]
