"""HKDF-SHA256 with the labels of HPKE.

Source: RFC 9180, section 4; RFC 5869.
"""

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

HASH_BYTES = 32
EXPAND_LIMIT_BYTES = 255 * HASH_BYTES

_SHA256 = SHA256()


def extract(salt: bytes, key_material: bytes) -> bytes:
    """Return HKDF-Extract's 32 bytes."""
    return HKDF.extract(_SHA256, salt, key_material)


def expand(pseudorandom_key: bytes, info: bytes, length: int) -> bytes:
    """Return `length` (1 to 8160) bytes of HKDF-Expand."""
    return HKDFExpand(_SHA256, length, info).derive(pseudorandom_key)


def labeled_extract(suite_id: bytes, salt: bytes, label: bytes, key_material: bytes) -> bytes:
    """Return RFC 9180's LabeledExtract."""
    return extract(salt, b"HPKE-v1" + suite_id + label + key_material)


def labeled_expand(suite_id: bytes, pseudorandom_key: bytes, label: bytes, info: bytes, length: int) -> bytes:
    """Return `length` bytes of RFC 9180's LabeledExpand."""
    return expand(pseudorandom_key, length.to_bytes(2, "big") + b"HPKE-v1" + suite_id + label + info, length)
