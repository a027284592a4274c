"""Ed25519 keys, the way people keep and compare them.

A private key is a PKCS #8 PEM file of mode 0600; a public key is one line, ``ed25519:<base64 of 32 bytes>``.
A key id is the hexadecimal SHA-256 of the raw public key.

Source: RFC 8032 (Ed25519), RFC 5958 and RFC 8410 (its files).
"""

import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from s3ml.primitives.encoding import from_base64, to_base64
from s3ml.primitives.errors import ConfigurationError

PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64
PREFIX = "ed25519:"


@dataclass(frozen=True, slots=True)
class VerifyKey:
    """An Ed25519 public key."""

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != PUBLIC_KEY_BYTES:
            raise ConfigurationError(
                f"public key: expected {PUBLIC_KEY_BYTES} bytes of Ed25519, got {len(self.raw)}"
            )

    @classmethod
    def parse(cls, text: str) -> "VerifyKey":
        """Read ``ed25519:<base64>``, with white space around it allowed.

        Raises:
            ConfigurationError: another algorithm, bad base64, or a wrong length.
        """
        line = text.strip()
        if not line.startswith(PREFIX):
            raise ConfigurationError(f"public key: expected a line that begins with {PREFIX!r}")
        return cls(from_base64(line.removeprefix(PREFIX), what="public key"))

    @property
    def key_id(self) -> str:
        """The hexadecimal SHA-256 of the raw key."""
        return hashlib.sha256(self.raw).hexdigest()

    def is_signed(self, signature: bytes, message: bytes) -> bool:
        """Tell whether `signature` is this key's over `message`."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True

    def __str__(self) -> str:
        return PREFIX + to_base64(self.raw)


class SigningKey:
    """An Ed25519 private key; its `repr` shows the public half only."""

    __slots__ = ("_private", "public")

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = VerifyKey(private.public_key().public_bytes_raw())

    @classmethod
    def generate(cls) -> "SigningKey":
        """Make a fresh key."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_raw(cls, raw: bytes) -> "SigningKey":
        """Restore a key from its 32 private bytes."""
        return cls(Ed25519PrivateKey.from_private_bytes(raw))

    @classmethod
    def from_pem(cls, pem: bytes) -> "SigningKey":
        """Read an unencrypted PKCS #8 PEM.

        Raises:
            ConfigurationError: it is no PEM of an Ed25519 private key.
        """
        try:
            private = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ConfigurationError("private key: expected an unencrypted PKCS #8 PEM of Ed25519") from error
        if not isinstance(private, Ed25519PrivateKey):
            raise ConfigurationError("private key: expected Ed25519, got another algorithm")
        return cls(private)

    def to_pem(self) -> bytes:
        """Return the unencrypted PKCS #8 PEM; a secret."""
        return self._private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def to_raw(self) -> bytes:
        """Return the 32 private bytes; a secret."""
        return self._private.private_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature over `message`."""
        return self._private.sign(message)

    def __repr__(self) -> str:
        return f"SigningKey(public={self.public})"
