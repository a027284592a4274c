"""Secrets of a service: drafted by one person, and said in plain words to whoever signs."""

from pathlib import Path

import msgspec

from s3ml.apps.governance.changes import Deployment
from s3ml.keyservice.client import seal_secret
from s3ml.keyservice.documents import SecretDocument, SymmetricKeyDocument
from s3ml.keyservice.documents.secrets import SECRET_LIMIT_BYTES
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.files import read_limited
from s3ml.primitives.names import check_name


def draft_secret(
    deployment: Deployment, name: str, *, service: str, policy: str, source: Path | None
) -> tuple[SecretDocument, tuple[bytes, ...]]:
    """Return the document of a secret with what is attached to it.

    Args:
        deployment: Pinned; its intake key is what a value is sealed to.
        name: The secret's name.
        service: The service whose enclaves may have it.
        policy: The name of the governed policy that they satisfy.
        source: The file with the value; None where the key service makes a key.

    Raises:
        ConfigurationError: a malformed name, no such policy, or a file that is missing, empty or too large.
    """
    check_name(name, what="secret")
    check_name(service, what="service")
    policy_sha256 = deployment.governed_policy(check_name(policy, what="policy")).body_sha256
    if source is None:
        document = SymmetricKeyDocument(
            secret=name, service=service, policy=policy, policy_sha256=policy_sha256
        )
        return document, ()
    value = read_limited(source, limit_bytes=SECRET_LIMIT_BYTES, what="secret")
    sealed = seal_secret(
        deployment.authority,
        value,
        secret=name,
        service=service,
        policy=policy,
        policy_sha256=policy_sha256,
    )
    return sealed.document, (sealed.sealed,)


def read_secret_document(body: bytes) -> SecretDocument:
    """Read the body of ``secrets/{name}``.

    Raises:
        ConfigurationError: it is none.
    """
    try:
        document: SecretDocument = msgspec.json.decode(body, type=SecretDocument)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"secret: {error}") from error
    return document


def describe_secret(document: SecretDocument) -> list[str]:
    """Say in plain words what a secret's document means, a line each."""
    whose = f"Secret {document.secret} of service {document.service}"
    if isinstance(document, SymmetricKeyDocument):
        what = [f"{whose}: a key, 32 bytes that the key service makes inside its TEE."]
    else:
        what = [
            f"{whose}: a value that was sealed to the key service, as bytes with SHA-256",
            f"{document.sealed_sha256}.",
            f"Whoever sealed it can show what it is, with commitment {document.commitment}.",
        ]
    return [
        *what,
        f"Released to its replicas that also satisfy policy {document.policy} ({document.policy_sha256}).",
        "The version before stays beside it, for replicas that satisfy that one's policy too.",
    ]
