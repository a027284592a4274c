"""Secrets at rest: each wrapped under its own name, so that none can stand in for another.

Source: docs/spec/encodings.md, section "Stored secrets".
"""

import threading
from collections.abc import Container

from s3ml.keyservice.documents import ModelManifest
from s3ml.keyservice.storage import SecretName, Storage, WrappedSecret
from s3ml.primitives.aead import StorageTamperedError, unwrap, wrap
from s3ml.primitives.encoding import tagged, tagged_sha256
from s3ml.primitives.secret import SecretBytes

KEY_BYTES = 32


def deployment_key_name(kind: str, number: int) -> SecretName:
    """Return where one of the deployment's private keys lies; `number` counts the keys of a deployment."""
    return SecretName(kind=f"{kind}-key", name="", version=str(number))


def wrapping_key_name(sealing_key: SecretBytes, number: int) -> SecretName:
    """Return where the wrapping key lies, sealed to the platform and code that have `sealing_key`."""
    slot = tagged_sha256("S3ML sealing slot v1", sealing_key.reveal()).hex()
    return SecretName(kind="wrapping-key", name=slot, version=str(number))


def identity_name(manifest: ModelManifest) -> SecretName:
    """Return where the age identity of a model version lies: for one sealed identity under one policy.

    An identity that is held under one policy is none under another: its owner seals it anew for that.
    """
    return SecretName(
        kind="model-identity",
        name=f"{manifest.service}/{manifest.model}/{manifest.model_version}",
        version=f"{manifest.policy_sha256}/{manifest.sealed_identity_sha256}",
    )


def epoch_name(service: str, epoch: int) -> SecretName:
    """Return where the private keys of an epoch lie."""
    return SecretName(kind="epoch-keys", name=service, version=str(epoch))


def head_name(size: int) -> SecretName:
    """Return under what the head of a log of `size` entries is sealed."""
    return SecretName(kind="head", name="", version=str(size))


class Vault:
    """Wrap and unwrap secrets of one deployment under one key. Safe for threads.

    What `recall` has opened stays in memory until `retain` leaves it out: the caller says what still lives.

    Args:
        key: The wrapping key, 32 bytes.
        deployment: The deployment's id.
    """

    __slots__ = ("_deployment", "_key", "_lock", "_opened")

    def __init__(self, key: SecretBytes, deployment: str) -> None:
        self._key = key
        self._deployment = bytes.fromhex(deployment)
        self._opened: dict[SecretName, SecretBytes] = {}
        self._lock = threading.Lock()

    @property
    def deployment(self) -> str:
        """The deployment's id."""
        return self._deployment.hex()

    def wrap(self, name: SecretName, plaintext: bytes) -> WrappedSecret:
        """Encrypt `plaintext` so that it opens under `name` alone."""
        return WrappedSecret(name=name, ciphertext=wrap(self._key, plaintext, context=self._context(name)))

    def unwrap(self, name: SecretName, ciphertext: bytes | None) -> bytes:
        """Decrypt what was stored under `name`.

        Raises:
            StorageTamperedError: it is missing, was changed, or was stored under another name.
        """
        if ciphertext is None:
            raise StorageTamperedError(f"stored {name.kind}: is missing")
        return unwrap(self._key, ciphertext, context=self._context(name))

    def read(self, storage: Storage, name: SecretName) -> bytes:
        """Read the secret stored under `name`.

        Raises:
            StorageTamperedError: it is missing, was changed, or was stored under another name.
            StorageUnavailableError: storage does not answer.
        """
        return self.unwrap(name, storage.secret(name))

    def recall(self, storage: Storage, name: SecretName) -> bytes:
        """Return the secret stored under `name`; from memory where it was opened before.

        Only for what never changes under its name.

        Raises:
            StorageTamperedError: it is missing, was changed, or was stored under another name.
            StorageUnavailableError: storage does not answer.
        """
        with self._lock:
            if name in self._opened:
                return self._opened[name].reveal()
        found = self.read(storage, name)
        with self._lock:
            self._opened[name] = SecretBytes(found)
        return found

    def retain(self, living: Container[SecretName]) -> None:
        """Wipe everything that was opened, but for what still lives."""
        with self._lock:
            for name in [one for one in self._opened if one not in living]:
                self._opened.pop(name).wipe()

    def _context(self, name: SecretName) -> bytes:
        fields = (name.kind.encode(), name.name.encode(), name.version.encode())
        return tagged("S3ML stored secret v1", self._deployment, *fields)
