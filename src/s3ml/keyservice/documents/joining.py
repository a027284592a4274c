"""What two replicas say to each other in a join.

Source: docs/spec/join.md.
"""

from typing import Annotated

import msgspec

from s3ml.keyservice.documents.document import Document
from s3ml.keyservice.fields import Digest, Hash, Nonce, Version1
from s3ml.primitives.units import KIB, MIB
from s3ml.wire.hpke import Kem

JOIN_KEM = Kem.MLKEM768_X25519
SECRETS_LIMIT_BYTES = MIB
SEALED_LIMIT_BYTES = SECRETS_LIMIT_BYTES + 4 * KIB

# The most that is ever read of each message, in bytes of JSON.
JOIN_HELLO_LIMIT_BYTES = 4 * KIB
JOIN_OFFER_LIMIT_BYTES = 64 * KIB
JOIN_REQUEST_LIMIT_BYTES = 256 * KIB
JOIN_REPLY_LIMIT_BYTES = 2 * MIB

JoinKey = Annotated[
    bytes, msgspec.Meta(min_length=JOIN_KEM.public_key_bytes, max_length=JOIN_KEM.public_key_bytes)
]
JoinEvidence = Annotated[bytes, msgspec.Meta(min_length=1, max_length=128 * KIB)]


class JoinHello(Document, frozen=True, kw_only=True):
    """A joiner asks: for which deployment, with a fresh nonce, and the fresh key to seal to."""

    version: Version1 = 1
    deployment: Digest
    nonce: Nonce
    public_key: JoinKey


class JoinOffer(Document, frozen=True, kw_only=True):
    """A source's single-use nonce, and where it stands: its newest committed head, the policy in force."""

    version: Version1 = 1
    deployment: Digest
    nonce: Nonce
    policy_sha256: Digest
    log_size: Annotated[int, msgspec.Meta(ge=1, le=2**63 - 1)]
    log_root: Hash
    checkpoint: Annotated[str, msgspec.Meta(min_length=1, max_length=32 * KIB)]


class JoinRequest(Document, frozen=True, kw_only=True):
    """The joiner's evidence, over everything said before; `nonce` is the offer's."""

    version: Version1 = 1
    nonce: Nonce
    evidence: JoinEvidence


class JoinReply(Document, frozen=True, kw_only=True):
    """``enc || ciphertext`` for the joiner's key, and the source's evidence over it and everything before."""

    version: Version1 = 1
    sealed: Annotated[bytes, msgspec.Meta(min_length=JOIN_KEM.enc_bytes, max_length=SEALED_LIMIT_BYTES)]
    evidence: JoinEvidence
