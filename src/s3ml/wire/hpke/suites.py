"""The algorithms by their registered numbers, with their sizes.

Source: RFC 9180, section 7; draft-ietf-hpke-pq-05, section "IANA Considerations" (0x647a).
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

_SUITE_ID = struct.Struct(">4sHHH")


class Kem(IntEnum):
    """A key encapsulation mechanism."""

    X25519 = 0x0020
    MLKEM768_X25519 = 0x647A

    @property
    def enc_bytes(self) -> int:
        """The size of an encapsulated secret."""
        return 32 if self is Kem.X25519 else 1120

    @property
    def public_key_bytes(self) -> int:
        """The size of a public key."""
        return 32 if self is Kem.X25519 else 1216

    @property
    def private_key_bytes(self) -> int:
        """The size of a private key; the hybrid's is the seed of both halves."""
        return 32


class Kdf(IntEnum):
    """A key derivation function."""

    HKDF_SHA256 = 0x0001


class Aead(IntEnum):
    """An authenticated cipher; all have nonces of 12 and tags of 16 bytes."""

    AES_128_GCM = 0x0001
    AES_256_GCM = 0x0002
    CHACHA20_POLY1305 = 0x0003

    @property
    def key_bytes(self) -> int:
        """The size of a key."""
        return 16 if self is Aead.AES_128_GCM else 32


NONCE_BYTES = 12
TAG_BYTES = 16


@dataclass(frozen=True, slots=True)
class Suite:
    """One algorithm of each kind."""

    kem: Kem
    kdf: Kdf
    aead: Aead

    @property
    def suite_id(self) -> bytes:
        """The ten bytes that separate this suite's derivations from any other's."""
        return _SUITE_ID.pack(b"HPKE", self.kem, self.kdf, self.aead)


X25519_AES128 = Suite(Kem.X25519, Kdf.HKDF_SHA256, Aead.AES_128_GCM)
HYBRID_AES256 = Suite(Kem.MLKEM768_X25519, Kdf.HKDF_SHA256, Aead.AES_256_GCM)
