"""What owners and model owners write: control messages, manifests and sealed identities."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from s3ml.keyservice.authority import Authority
from s3ml.keyservice.bindings import identity_info
from s3ml.keyservice.documents import (
    CONTROL_TYPE,
    MANIFEST_TYPE,
    ControlMessage,
    ControlStatement,
    ModelManifest,
)
from s3ml.keyservice.parsing import encode_document
from s3ml.primitives.envelope import Envelope
from s3ml.wire.hpke import HYBRID_AES256, seal_once


def control_message(
    *,
    deployment: str,
    resource: str,
    resource_version: int,
    previous_sha256: str,
    body: bytes,
    nonce: bytes,
    now: datetime,
    attachments: Sequence[bytes] = (),
    method: Literal["PUT", "DELETE"] = "PUT",
) -> ControlMessage:
    """Write an unsigned change of `resource`; owners sign its `statement`.

    Args:
        deployment: The deployment's id.
        resource: ``policies/{name}`` or ``services/{name}``.
        resource_version: The version that the change creates: the current one plus 1, or 1.
        previous_sha256: The digest of the body that it replaces; empty where there is none.
        body: The new body.
        nonce: 32 fresh random bytes.
        now: Aware UTC, for people; nothing depends on it.
        attachments: Sealed identities that the body names by digest.
        method: ``DELETE``, with an empty body, takes the resource away.
    """
    statement = ControlStatement(
        deployment=deployment,
        method=method,
        resource=resource,
        resource_version=resource_version,
        previous_sha256=previous_sha256,
        body_sha256=hashlib.sha256(body).hexdigest(),
        nonce=nonce,
        created_at=now,
    )
    envelope = Envelope(payload_type=CONTROL_TYPE, payload=encode_document(statement))
    return ControlMessage(statement=envelope, body=body, attachments=tuple(attachments))


def seal_identity(
    authority: Authority, identity: str, *, service: str, policy_sha256: str, model: str, model_version: str
) -> bytes:
    """Seal a model's age identity so that only the key service's TEE opens it, for this one purpose.

    Args:
        authority: What governs a deployment whose evidence was verified.
        identity: ``AGE-SECRET-KEY-1…``; a secret.
        service: The service that may open the model.
        policy_sha256: The digest of the policy that its replicas satisfy.
        model: The model's name.
        model_version: Its version.

    Raises:
        ConfigurationError: the intake key is malformed.
    """
    info = identity_info(
        deployment=authority.deployment,
        service=service,
        policy_sha256=policy_sha256,
        model=model,
        model_version=model_version,
    )
    return seal_once(HYBRID_AES256, authority.keys.intake, identity.encode("ascii"), info=info)


def model_manifest(
    *,
    deployment: str,
    service: str,
    policy_sha256: str,
    model: str,
    model_version: str,
    payload_sha256: str,
    payload_bytes: int,
    sealed_identity: bytes,
) -> Envelope:
    """Write an unsigned manifest, which the model owner signs.

    Args:
        deployment: The deployment's id.
        service: The service that may open the payload.
        policy_sha256: The digest of the policy that its replicas satisfy.
        model: The model's name.
        model_version: Its version.
        payload_sha256: The digest of the encrypted payload.
        payload_bytes: Its size.
        sealed_identity: What `seal_identity` returned.
    """
    manifest = ModelManifest(
        deployment=deployment,
        service=service,
        policy_sha256=policy_sha256,
        model=model,
        model_version=model_version,
        payload_sha256=payload_sha256,
        payload_bytes=payload_bytes,
        sealed_identity_sha256=hashlib.sha256(sealed_identity).hexdigest(),
    )
    return Envelope(payload_type=MANIFEST_TYPE, payload=encode_document(manifest))
