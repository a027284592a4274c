"""The key schedule, and contexts that seal, open and export.

A context goes one way, by its type: a recipient that sealed under the sender's key would repeat nonces.

Source: RFC 9180, sections 5.1 to 5.3.
"""

from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from s3ml.primitives.errors import ConfigurationError
from s3ml.wire.errors import SealRejectedError
from s3ml.wire.hpke.kdf import EXPAND_LIMIT_BYTES, labeled_expand, labeled_extract
from s3ml.wire.hpke.kem import PrivateKey, encapsulate
from s3ml.wire.hpke.suites import NONCE_BYTES, Aead, Suite

Cipher = AESGCM | ChaCha20Poly1305
Data = bytes | bytearray | memoryview

_MODE_BASE = b"\x00"
_EXPORTER_BYTES = 32


def cipher(aead: Aead, key: bytes) -> Cipher:
    """Return the cipher of `aead` under `key`."""
    return ChaCha20Poly1305(key) if aead is Aead.CHACHA20_POLY1305 else AESGCM(key)


class _Schedule:
    """What both ends derive from the shared secret."""

    __slots__ = ("_base_nonce", "_cipher", "_exporter", "_sequence", "_suite_id", "suite")

    def __init__(self, suite: Suite, shared_secret: bytes, info: bytes) -> None:
        suite_id, context_head = _constants(suite)
        context = context_head + labeled_extract(suite_id, b"", b"info_hash", info)
        secret = labeled_extract(suite_id, shared_secret, b"secret", b"")
        key = labeled_expand(suite_id, secret, b"key", context, suite.aead.key_bytes)
        nonce = labeled_expand(suite_id, secret, b"base_nonce", context, NONCE_BYTES)
        self.suite = suite
        self._suite_id = suite_id
        self._cipher = cipher(suite.aead, key)
        self._base_nonce = int.from_bytes(nonce, "big")
        self._exporter = labeled_expand(suite_id, secret, b"exp", context, _EXPORTER_BYTES)
        self._sequence = 0

    def export(self, exporter_context: bytes, length: int) -> bytes:
        """Return `length` (1 to 8160) secret bytes that both ends derive for `exporter_context`.

        Raises:
            ConfigurationError: `length` is out of range.
        """
        if not 1 <= length <= EXPAND_LIMIT_BYTES:
            raise ConfigurationError(f"export: expected 1 to {EXPAND_LIMIT_BYTES} bytes, got {length}")
        return labeled_expand(self._suite_id, self._exporter, b"sec", exporter_context, length)

    def _nonce(self) -> bytes:
        return (self._base_nonce ^ self._sequence).to_bytes(NONCE_BYTES, "big")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.suite.kem.name}, {self.suite.aead.name}, redacted)"


class SenderContext(_Schedule):
    """The sender's end: seals messages in order."""

    __slots__ = ()

    def seal(self, plaintext: Data, aad: bytes = b"") -> bytes:
        """Encrypt the next message; the ciphertext is 16 bytes longer."""
        sealed = self._cipher.encrypt(self._nonce(), plaintext, aad)
        self._sequence += 1
        return sealed


class RecipientContext(_Schedule):
    """The recipient's end: opens messages in order."""

    __slots__ = ()

    def open(self, ciphertext: Data, aad: bytes = b"") -> bytes:
        """Decrypt the next message.

        Raises:
            SealRejectedError: it does not open; the context still waits for the same message.
        """
        try:
            plaintext = self._cipher.decrypt(self._nonce(), ciphertext, aad)
        except InvalidTag:
            raise SealRejectedError from None
        self._sequence += 1
        return plaintext


Context = SenderContext | RecipientContext


@lru_cache(maxsize=16)
def _constants(suite: Suite) -> tuple[bytes, bytes]:
    """Return the suite id, and the part of the schedule's context that is the same in every message."""
    suite_id = suite.suite_id
    return suite_id, _MODE_BASE + labeled_extract(suite_id, b"", b"psk_id_hash", b"")


def setup_sender(suite: Suite, public_key: bytes, info: bytes) -> tuple[bytes, SenderContext]:
    """Begin a context towards the owner of `public_key`.

    Args:
        suite: The algorithms; the recipient must use the same.
        public_key: Of `suite.kem`, from somebody who vouches for its owner.
        info: What the messages are about; the recipient must give the same.

    Returns:
        What carries the secret to the recipient, and the sending end.

    Raises:
        ConfigurationError: `public_key` is malformed.
    """
    secret, enc = encapsulate(suite.kem, public_key)
    return enc, SenderContext(suite, secret, info)


def setup_recipient(suite: Suite, private_key: PrivateKey, enc: bytes, info: bytes) -> RecipientContext:
    """Take up the context that a sender began.

    Args:
        suite: The algorithms that the sender used.
        private_key: Of `suite.kem`.
        enc: From an untrusted peer.
        info: What the messages are about.

    Raises:
        ConfigurationError: `private_key` is of another KEM.
        SealRejectedError: `enc` is malformed. Any other fault shows when a message does not open.
    """
    if private_key.kem is not suite.kem:
        raise ConfigurationError(f"private key: expected {suite.kem.name}, got {private_key.kem.name}")
    return RecipientContext(suite, private_key.decapsulate(enc), info)
