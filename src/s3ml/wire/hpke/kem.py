"""Private keys, and the two ways to agree on a secret with their owner.

DHKEM(X25519, HKDF-SHA256), and the hybrid of ML-KEM-768 with X25519 that is X-Wing: secret as long as either
half is. Shared points of low order reject in both.

Source: RFC 9180, sections 4.1 and 7.1; draft-connolly-cfrg-xwing-kem-10, sections 5.2 to 5.5;
draft-ietf-hpke-pq-05, section 4.
"""

import hashlib
import secrets
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.secret import SecretBytes
from s3ml.wire.errors import SealRejectedError
from s3ml.wire.hpke.kdf import labeled_expand, labeled_extract
from s3ml.wire.hpke.suites import Kem

_DHKEM_SUITE_ID = b"KEM\x00\x20"
_MLKEM_SEED_BYTES = 64
_MLKEM_PUBLIC_KEY_BYTES = 1184
_MLKEM_CIPHERTEXT_BYTES = 1088
_X25519_BYTES = 32
_XWING_LABEL = b"\\.//^\\"


@dataclass(frozen=True, slots=True)
class _PublicKey:
    """A parsed public key; `mlkem` only with the hybrid."""

    x25519: X25519PublicKey
    x25519_raw: bytes
    mlkem: MLKEM768PublicKey | None


class PrivateKey:
    """A recipient's key of one KEM; its `repr` shows neither half.

    Parsed once, so that opening costs the agreement alone.
    """

    __slots__ = ("_mlkem", "_raw", "_x25519", "_x25519_public", "kem", "public")

    kem: Kem
    public: bytes

    def __init__(self, kem: Kem, raw: SecretBytes) -> None:
        self.kem = kem
        self._raw = raw
        scalar, seed = _expand_seed(raw.reveal()) if kem is Kem.MLKEM768_X25519 else (raw.reveal(), None)
        self._x25519 = X25519PrivateKey.from_private_bytes(scalar)
        self._mlkem = MLKEM768PrivateKey.from_seed_bytes(seed) if seed is not None else None
        self._x25519_public = self._x25519.public_key().public_bytes_raw()
        mlkem_public = b"" if self._mlkem is None else self._mlkem.public_key().public_bytes_raw()
        self.public = mlkem_public + self._x25519_public

    @classmethod
    def generate(cls, kem: Kem) -> Self:
        """Make a fresh key from the system's generator."""
        return cls(kem, SecretBytes.random(kem.private_key_bytes))

    @classmethod
    def from_bytes(cls, kem: Kem, raw: bytes) -> Self:
        """Restore a key from what `to_bytes` returned.

        Raises:
            ConfigurationError: `raw` is not 32 bytes.
        """
        if len(raw) != kem.private_key_bytes:
            raise ConfigurationError(
                f"private key: expected {kem.private_key_bytes} bytes of {kem.name}, got {len(raw)}"
            )
        return cls(kem, SecretBytes(raw))

    def to_bytes(self) -> bytes:
        """Return the 32 bytes that make this key; a secret."""
        return self._raw.reveal()

    def wipe(self) -> None:
        """Overwrite the seed; what the library derived from it goes with this object."""
        self._raw.wipe()

    def decapsulate(self, enc: bytes) -> bytes:
        """Return the 32-byte secret that `enc` (from an untrusted peer) carries.

        Raises:
            SealRejectedError: a wrong length or a point of low order. A hybrid ciphertext that was made for
                another key does not raise: it yields another secret, under which nothing opens.
        """
        if len(enc) != self.kem.enc_bytes:
            raise SealRejectedError
        ephemeral = enc[-_X25519_BYTES:]
        try:
            shared = self._x25519.exchange(X25519PublicKey.from_public_bytes(ephemeral))
        except ValueError:
            raise SealRejectedError from None
        if self._mlkem is None:
            return _dhkem_secret(shared, ephemeral, self._x25519_public)
        post_quantum = self._mlkem.decapsulate(enc[:_MLKEM_CIPHERTEXT_BYTES])
        return _combine(post_quantum, shared, ephemeral, self._x25519_public)

    def __repr__(self) -> str:
        return f"PrivateKey({self.kem.name}, redacted)"

    def __reduce__(self) -> str:
        raise TypeError("private keys are not pickled")


def encapsulate(kem: Kem, public_key: bytes) -> tuple[bytes, bytes]:
    """Make a fresh secret for the owner of `public_key`.

    Returns:
        The secret (32 bytes), and what carries it to the owner.

    Raises:
        ConfigurationError: `public_key` is malformed, or of low order.
    """
    recipient = parse_public_key(kem, public_key)
    ephemeral = X25519PrivateKey.from_private_bytes(secrets.token_bytes(_X25519_BYTES))
    ephemeral_public = ephemeral.public_key().public_bytes_raw()
    try:
        shared = ephemeral.exchange(recipient.x25519)
    except ValueError as error:
        raise ConfigurationError("public key: expected an X25519 point, got one of low order") from error
    if recipient.mlkem is None:
        return _dhkem_secret(shared, ephemeral_public, public_key), ephemeral_public
    post_quantum, ciphertext = recipient.mlkem.encapsulate()
    secret = _combine(post_quantum, shared, ephemeral_public, recipient.x25519_raw)
    return secret, ciphertext + ephemeral_public


@lru_cache(maxsize=128)
def parse_public_key(kem: Kem, raw: bytes) -> _PublicKey:
    """Check and parse a public key once; a client seals many requests to the same one.

    Raises:
        ConfigurationError: a wrong length, or no ML-KEM-768 encapsulation key.
    """
    if len(raw) != kem.public_key_bytes:
        raise ConfigurationError(
            f"public key: expected {kem.public_key_bytes} bytes of {kem.name}, got {len(raw)}"
        )
    x25519_raw = raw[-_X25519_BYTES:]
    x25519 = X25519PublicKey.from_public_bytes(x25519_raw)
    if kem is Kem.X25519:
        return _PublicKey(x25519, x25519_raw, None)
    try:
        mlkem = MLKEM768PublicKey.from_public_bytes(raw[:_MLKEM_PUBLIC_KEY_BYTES])
    except ValueError as error:
        raise ConfigurationError("public key: expected an encapsulation key of ML-KEM-768") from error
    return _PublicKey(x25519, x25519_raw, mlkem)


def _expand_seed(seed: bytes) -> tuple[bytes, bytes]:
    """Return the X25519 scalar and the ML-KEM seed that the hybrid's 32-byte seed makes."""
    expanded = hashlib.shake_256(seed).digest(_MLKEM_SEED_BYTES + _X25519_BYTES)
    return expanded[_MLKEM_SEED_BYTES:], expanded[:_MLKEM_SEED_BYTES]


def _dhkem_secret(shared: bytes, enc: bytes, public_key: bytes) -> bytes:
    """Return DHKEM's ExtractAndExpand over the context ``enc || public key``."""
    key = labeled_extract(_DHKEM_SUITE_ID, b"", b"eae_prk", shared)
    return labeled_expand(_DHKEM_SUITE_ID, key, b"shared_secret", enc + public_key, 32)


def _combine(post_quantum: bytes, shared: bytes, ephemeral: bytes, x25519_public: bytes) -> bytes:
    """Return X-Wing's combination of both halves."""
    return hashlib.sha3_256(post_quantum + shared + ephemeral + x25519_public + _XWING_LABEL).digest()
