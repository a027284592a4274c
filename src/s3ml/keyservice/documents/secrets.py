"""Secrets of a service: what owners sign of one, and how it is released. A value is never in the log.

Source: docs/spec/secrets.md.
"""

from typing import Annotated, Literal

import msgspec

from s3ml.keyservice.documents.document import Document
from s3ml.keyservice.fields import Digest, Name, Version1

SECRET_LIMIT_BYTES = 65_536
SYMMETRIC_KEY_BYTES = 32
SALT_BYTES = 32

SecretKind = Literal["symmetric-key", "opaque"]
SecretValue = Annotated[bytes, msgspec.Meta(min_length=1, max_length=SECRET_LIMIT_BYTES)]
SecretVersion = Annotated[int, msgspec.Meta(ge=1)]


class SymmetricKeyDocument(Document, frozen=True, kw_only=True, tag_field="kind", tag="symmetric-key"):
    """The body of ``PUT secrets/{name}``: 32 bytes that the key service makes when this is committed."""

    version: Version1 = 1
    secret: Name
    service: Name
    policy: Name
    policy_sha256: Digest


class OpaqueSecretDocument(Document, frozen=True, kw_only=True, tag_field="kind", tag="opaque"):
    """The body of ``PUT secrets/{name}``: bytes that their owner sealed to the key service's intake key.

    `commitment` is over a random salt and the value: whoever receives the value can tell that it is the one
    that the owners signed, and nobody else learns anything.
    """

    version: Version1 = 1
    secret: Name
    service: Name
    policy: Name
    policy_sha256: Digest
    sealed_sha256: Digest
    commitment: Digest


SecretDocument = SymmetricKeyDocument | OpaqueSecretDocument


class SecretReference(Document, frozen=True, kw_only=True):
    """One version of a secret, by name alone."""

    secret: Name
    secret_version: SecretVersion


class ReleasedSecret(Document, frozen=True, kw_only=True):
    """One version of a secret, for an enclave that satisfies the secret's own policy.

    `is_current` is false for the version before the newest, which is released beside it so that what lies
    under it can be written anew. `salt` opens the commitment of an opaque secret; it is empty for a key.
    """

    secret: Name
    secret_version: SecretVersion
    kind: SecretKind
    is_current: bool
    value: SecretValue
    salt: bytes = b""

    def __repr__(self) -> str:
        return "ReleasedSecret(redacted)"
