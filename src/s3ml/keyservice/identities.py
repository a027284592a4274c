"""Models' age identities on their way in: opened with the intake key, wrapped for storage.

They arrive sealed, as attachments of the control message whose manifests name them by digest.

Source: docs/spec/control-message.md, section "Attachments".
"""

from collections.abc import Sequence

import pyrage

from s3ml.keyservice.bindings import identity_info
from s3ml.keyservice.documents import ModelManifest
from s3ml.keyservice.errors import RefusedError, mismatch
from s3ml.keyservice.keys import Keyring
from s3ml.keyservice.resources import Change, ServiceTerms
from s3ml.keyservice.storage import Storage, WrappedSecret
from s3ml.keyservice.vault import identity_name
from s3ml.primitives.encoding import sha256
from s3ml.primitives.errors import UntrustedPeerError
from s3ml.wire.hpke import HYBRID_AES256, PrivateKey, open_once


def rewrap_identities(
    change: Change, attachments: Sequence[bytes], keyring: Keyring, storage: Storage
) -> tuple[WrappedSecret, ...]:
    """Open the sealed identities that came with `change`, and wrap them for storage.

    1. Each attachment is one that a manifest names.
    2. Each identity that a manifest names is attached, or is held already.
    3. Each that is not held opens for its very manifest, and is an age identity. (One that is held may have
       been sealed to an intake key that governs no longer.)

    Raises:
        RefusedError: a rule fails; all mismatches are listed.
        StorageUnavailableError: storage does not answer.
    """
    sealed = {sha256(attachment).hex(): attachment for attachment in attachments}
    manifests = change.content.manifests if isinstance(change.content, ServiceTerms) else ()
    named = {manifest.sealed_identity_sha256 for manifest in manifests}
    failed = [
        mismatch("attachment", expected="an identity that a manifest names", got=digest)
        for digest in sealed.keys() - named  # (1)
    ]
    wrapped = []
    for manifest in manifests:
        name, attachment = identity_name(manifest), sealed.get(manifest.sealed_identity_sha256)
        claim = f"identity of {manifest.model} {manifest.model_version}"
        if attachment is not None:
            try:
                identity = _open(manifest, attachment, keyring.deployment.intake)  # (3)
                wrapped.append(keyring.vault.wrap(name, identity))
            except UntrustedPeerError as error:
                if storage.secret(name) is not None:  # (2)
                    continue
                failed.append(mismatch(claim, expected="an age identity sealed for it", got=str(error)))
        elif storage.secret(name) is None:  # (2)
            failed.append(mismatch(claim, expected="its attachment", got="none"))
    if failed:
        raise RefusedError(f"{change.kind}/{change.name}", failed)
    return tuple(wrapped)


def _open(manifest: ModelManifest, attachment: bytes, intake: PrivateKey) -> bytes:
    info = identity_info(
        deployment=manifest.deployment,
        service=manifest.service,
        policy_sha256=manifest.policy_sha256,
        model=manifest.model,
        model_version=manifest.model_version,
    )
    identity = open_once(HYBRID_AES256, intake, attachment, info=info)
    try:
        pyrage.x25519.Identity.from_str(identity.decode("ascii"))
    except (UnicodeDecodeError, pyrage.IdentityError):
        raise UntrustedPeerError("another secret") from None
    return identity
