"""Authenticated encryption for storage, with a key that is used once.

Each ciphertext uses ``HKDF-SHA-256(wrapping key, salt = 32 fresh random bytes, info = context)`` with
AES-256-GCM and a random nonce, so that no number of ciphertexts wears a wrapping key out. The context is
authenticated: a ciphertext that was moved to another name or version does not open.

Format: ``0x01 || salt (32) || nonce (12) || ciphertext and tag``.
"""

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from s3ml.primitives.encoding import tagged
from s3ml.primitives.errors import UntrustedPeerError
from s3ml.primitives.secret import SecretBytes

_VERSION = b"\x01"
_SALT_BYTES = 32
_NONCE_BYTES = 12
_TAG_BYTES = 16
OVERHEAD_BYTES = len(_VERSION) + _SALT_BYTES + _NONCE_BYTES + _TAG_BYTES


class StorageTamperedError(UntrustedPeerError):
    """A stored ciphertext does not open under its name; deliberately carries no reason."""


def _one_time_key(wrapping_key: SecretBytes, salt: bytes, context: bytes) -> bytes:
    info = tagged("S3ML storage key v1", context)
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(wrapping_key.reveal())


def wrap(wrapping_key: SecretBytes, plaintext: bytes, *, context: bytes) -> bytes:
    """Encrypt `plaintext` (a few MiB at most) so that it opens only under the same `context`."""
    salt, nonce = secrets.token_bytes(_SALT_BYTES), secrets.token_bytes(_NONCE_BYTES)
    sealed = AESGCM(_one_time_key(wrapping_key, salt, context)).encrypt(nonce, plaintext, context)
    return _VERSION + salt + nonce + sealed


def unwrap(wrapping_key: SecretBytes, ciphertext: bytes, *, context: bytes) -> bytes:
    """Decrypt what `wrap` made under the same `context`.

    Raises:
        StorageTamperedError: another key, another context, or changed bytes.
    """
    if len(ciphertext) < OVERHEAD_BYTES or ciphertext[:1] != _VERSION:
        raise StorageTamperedError("stored ciphertext: does not open under its name")
    salt = ciphertext[1 : 1 + _SALT_BYTES]
    nonce = ciphertext[1 + _SALT_BYTES : 1 + _SALT_BYTES + _NONCE_BYTES]
    sealed = ciphertext[1 + _SALT_BYTES + _NONCE_BYTES :]
    try:
        return AESGCM(_one_time_key(wrapping_key, salt, context)).decrypt(nonce, sealed, context)
    except InvalidTag:
        raise StorageTamperedError("stored ciphertext: does not open under its name") from None
