"""Values of secrets: made or opened inside the TEE, wrapped for storage, released under their own policy.

Nothing here decides who governs: it takes what the log says, the vault and storage, and returns what to store
or to release. A value lies under its kind, service, name, version and policy, and opens under nothing else.

Source: docs/spec/secrets.md.
"""

import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from s3ml.attestation import AppraisalPolicy
from s3ml.keyservice.bindings import secret_commitment, secret_info
from s3ml.keyservice.documents import (
    OpaqueSecretDocument,
    ReleasedSecret,
    SecretReference,
    SymmetricKeyDocument,
)
from s3ml.keyservice.documents.secrets import SALT_BYTES, SECRET_LIMIT_BYTES, SYMMETRIC_KEY_BYTES
from s3ml.keyservice.errors import RefusedError, mismatch
from s3ml.keyservice.keys import Keyring
from s3ml.keyservice.secret_terms import GovernedSecret, LivingVersion, kind_of, secrets_of
from s3ml.keyservice.storage import SecretName, Storage, WrappedSecret
from s3ml.keyservice.vault import Vault
from s3ml.primitives.encoding import sha256
from s3ml.primitives.errors import UntrustedPeerError
from s3ml.primitives.secret import SecretBytes
from s3ml.wire.hpke import HYBRID_AES256, PrivateKey, open_once


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ReleasedSecrets:
    """What a release says of secrets: those that go along, and those that do not."""

    released: tuple[ReleasedSecret, ...]
    withheld: tuple[SecretReference, ...]

    @property
    def references(self) -> tuple[SecretReference, ...]:
        """The names and versions of those that go along."""
        return tuple(
            SecretReference(secret=one.secret, secret_version=one.secret_version) for one in self.released
        )


def secret_name(version: LivingVersion) -> SecretName:
    """Return where the value of one version lies."""
    document = version.terms.document
    return SecretName(
        kind=f"secret-{kind_of(document)}",
        name=f"{document.service}/{document.secret}",
        version=f"{version.version}/{document.policy_sha256}",
    )


def secret_names(secrets: Mapping[str, GovernedSecret]) -> list[SecretName]:
    """Return where the values of all living versions lie."""
    return [secret_name(version) for secret in secrets.values() for version in secret.living]


def wrap_value(
    version: LivingVersion, attachments: Sequence[bytes], keyring: Keyring
) -> tuple[WrappedSecret, ...]:
    """Make the value of a new version, or open the one that came with it, and wrap it for storage.

    1. A symmetric key comes with nothing: its 32 bytes are drawn here, anew with each call.
    2. An opaque secret comes with one attachment, the one that its document names by digest.
    3. That opens for this very deployment, service, name and policy.
    4. Inside are 32 bytes of salt and 1 byte to 64 KiB of value, as the commitment in the document says.

    Args:
        version: What is about to stand.
        attachments: From an untrusted peer.
        keyring: Opens what is sealed to the intake key, and wraps.

    Raises:
        RefusedError: a rule fails.
    """
    document = version.terms.document
    if isinstance(document, SymmetricKeyDocument):
        if attachments:  # (1)
            raise _refused(document.secret, "attachment", "none: the key service makes the key", "some")
        value = SecretBytes.random(SYMMETRIC_KEY_BYTES).reveal()
    else:
        value = _open(document, attachments, keyring.deployment.intake, keyring.vault.deployment)
    return (keyring.vault.wrap(secret_name(version), value),)


def release_secrets(
    service: str,
    secrets: Mapping[str, GovernedSecret],
    policies: Mapping[str, str],
    *,
    satisfies: Callable[[AppraisalPolicy], bool],
    vault: Vault,
    storage: Storage,
) -> ReleasedSecrets:
    """Return the secrets of `service` that an enclave may have.

    1. The policy that the secret names still is the one that it was signed with.
    2. The enclave satisfies it.
    3. The version before the newest goes along where the enclave satisfies that version's own policy, too:
       no change of the policy widens who reads a value that exists already.

    What fails is left out and named as withheld: it is no reason to release nothing at all.

    Args:
        service: Whose enclave asks.
        secrets: Those that stand, by name.
        policies: The digest of each governed policy, by name.
        satisfies: Tells whether the enclave's evidence satisfies a policy.
        vault: Opens what is stored.
        storage: Where it lies.

    Raises:
        StorageTamperedError: a stored secret is missing or was changed.
        StorageUnavailableError: storage does not answer.
    """
    released, withheld = [], []
    for name in secrets_of(service, secrets):
        secret = secrets[name]
        document, policy = secret.current.terms.document, secret.current.terms.policy
        is_open = policies.get(document.policy) == document.policy_sha256 and satisfies(policy)  # (1), (2)
        for version in secret.living:
            if is_open and (version is secret.current or satisfies(version.terms.policy)):  # (3)
                value = vault.read(storage, secret_name(version))
                released.append(_released(version, value, is_current=version is secret.current))
            else:
                withheld.append(SecretReference(secret=name, secret_version=version.version))
    return ReleasedSecrets(released=tuple(released), withheld=tuple(withheld))


def _released(version: LivingVersion, stored: bytes, *, is_current: bool) -> ReleasedSecret:
    kind = kind_of(version.terms.document)
    salt_bytes = SALT_BYTES if kind == "opaque" else 0
    return ReleasedSecret(
        secret=version.terms.document.secret,
        secret_version=version.version,
        kind=kind,
        is_current=is_current,
        value=stored[salt_bytes:],
        salt=stored[:salt_bytes],
    )


def _open(
    document: OpaqueSecretDocument, attachments: Sequence[bytes], intake: PrivateKey, deployment: str
) -> bytes:
    """Return salt and value of an opaque secret."""
    digests = [sha256(attachment).hex() for attachment in attachments]
    if digests != [document.sealed_sha256]:  # (2)
        got = ", ".join(digests) or "none"
        raise _refused(document.secret, "attachment", f"{document.sealed_sha256} alone", got)
    info = secret_info(
        deployment=deployment,
        service=document.service,
        secret=document.secret,
        policy_sha256=document.policy_sha256,
    )
    try:
        opened = open_once(HYBRID_AES256, intake, attachments[0], info=info)  # (3)
    except UntrustedPeerError as error:
        raise _refused(document.secret, "attachment", "one sealed for this secret", f"{error}") from error
    salt, value = opened[:SALT_BYTES], opened[SALT_BYTES:]
    if not 1 <= len(value) <= SECRET_LIMIT_BYTES:  # (4)
        expected = f"1 to {SECRET_LIMIT_BYTES} bytes"
        raise _refused(document.secret, "value", expected, f"{len(value)} bytes")
    if not hmac.compare_digest(secret_commitment(salt, value), document.commitment):
        raise _refused(document.secret, "commitment", document.commitment, "that of another value or salt")
    return opened


def _refused(secret: str, claim: str, expected: str, got: str) -> RefusedError:
    return RefusedError(f"secret {secret}", [mismatch(claim, expected=expected, got=got)])
