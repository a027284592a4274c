"""Secrets of a service: how their owner seals them, and how an enclave takes them out of a release.

Source: docs/spec/secrets.md.
"""

import hmac
from dataclasses import dataclass, field
from secrets import token_bytes

from s3ml.keyservice.authority import Authority
from s3ml.keyservice.bindings import secret_commitment, secret_info
from s3ml.keyservice.documents import OpaqueSecretDocument, Release, ReleasedSecret
from s3ml.keyservice.documents.secrets import SALT_BYTES, SECRET_LIMIT_BYTES
from s3ml.keyservice.errors import NotFoundError
from s3ml.primitives.encoding import sha256
from s3ml.primitives.errors import ConfigurationError
from s3ml.wire.hpke import HYBRID_AES256, seal_once


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedSecret:
    """An opaque secret on its way: what owners attach, and the document that names it.

    Args:
        document: The body that owners sign.
        sealed: The attachment; nobody on the way can open it.
        salt: Opens the commitment in the document, for whoever knows the value.
    """

    document: OpaqueSecretDocument
    sealed: bytes = field(repr=False)
    salt: bytes = field(repr=False)


def seal_secret(
    authority: Authority, value: bytes, *, secret: str, service: str, policy: str, policy_sha256: str
) -> SealedSecret:
    """Seal `value` so that only the key service's TEE opens it, for this one purpose.

    Args:
        authority: What governs a deployment whose evidence was verified.
        value: 1 byte to 64 KiB.
        secret: The secret's name.
        service: The service whose enclaves may have it.
        policy: The name of the governed policy that they satisfy.
        policy_sha256: That policy's digest.

    Raises:
        ConfigurationError: nothing to seal, too much, or a malformed intake key.
    """
    if not 1 <= len(value) <= SECRET_LIMIT_BYTES:
        raise ConfigurationError(
            f"secret {secret}: expected 1 to {SECRET_LIMIT_BYTES} bytes, got {len(value)}"
        )
    salt = token_bytes(SALT_BYTES)
    info = secret_info(
        deployment=authority.deployment, service=service, secret=secret, policy_sha256=policy_sha256
    )
    sealed = seal_once(HYBRID_AES256, authority.keys.intake, salt + value, info=info)
    document = OpaqueSecretDocument(
        secret=secret,
        service=service,
        policy=policy,
        policy_sha256=policy_sha256,
        sealed_sha256=sha256(sealed).hex(),
        commitment=secret_commitment(salt, value),
    )
    return SealedSecret(document=document, sealed=sealed, salt=salt)


def find_secret(release: Release, name: str, *, version: int | None = None) -> ReleasedSecret:
    """Return a secret of a release: the newest version of it, or a certain one.

    Raises:
        NotFoundError: the release does not hold it: it does not exist, is of another service, or this enclave
            does not satisfy its policy. The key service's audit stream says which.
    """
    for one in release.secrets:
        if one.secret == name and (one.is_current if version is None else one.secret_version == version):
            return one
    which = name if version is None else f"{name}, version {version}"
    raise NotFoundError(
        f"secret {which}: expected in the release of {release.service}, got none: "
        "is it signed for this service, and does this enclave satisfy its policy?"
    )


def is_committed(released: ReleasedSecret, document: OpaqueSecretDocument) -> bool:
    """Tell whether `released` is the very value that owners signed `document` for."""
    commitment = secret_commitment(released.salt, released.value)
    return released.secret == document.secret and hmac.compare_digest(commitment, document.commitment)
