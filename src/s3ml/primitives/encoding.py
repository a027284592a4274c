"""The one encoding of everything that is hashed or signed outside a document.

`tagged(tag, f1, …, fn)` is ``tag || 0x00 || u32be(len(f1)) || f1 || … || u32be(len(fn)) || fn``. A tag names
one fixed list of fields, so that two different values never share an encoding and none means two things.

Source: docs/spec/encodings.md.
"""

import base64
import binascii
import hashlib

from s3ml.primitives.errors import ConfigurationError

SHA256_BYTES = 32


def tagged(tag: str, *fields: bytes) -> bytes:
    """Encode `fields` under `tag`.

    Args:
        tag: Names the meaning and the version, such as ``S3ML report data v1``; ASCII without NUL.
        fields: Each at most 2³²-1 bytes.
    """
    head = tag.encode("ascii")
    if b"\x00" in head:
        raise ValueError("a tag holds no NUL")
    return b"".join((head, b"\x00", *(len(field).to_bytes(4, "big") + field for field in fields)))


def tagged_sha256(tag: str, *fields: bytes) -> bytes:
    """Return the SHA-256 (32 bytes) of `fields` encoded under `tag`."""
    return hashlib.sha256(tagged(tag, *fields)).digest()


def sha256(data: bytes) -> bytes:
    """Return the SHA-256 (32 bytes) of `data`."""
    return hashlib.sha256(data).digest()


def to_base64(data: bytes) -> str:
    """Return `data` in standard base64 with padding (RFC 4648, section 4)."""
    return base64.b64encode(data).decode("ascii")


def from_base64(text: str, *, what: str) -> bytes:
    """Decode canonical standard base64.

    Raises:
        ConfigurationError: `text` is not the one canonical encoding of some bytes.
    """
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ConfigurationError(f"{what}: expected standard base64") from error
    if to_base64(data) != text:
        raise ConfigurationError(f"{what}: expected canonical base64 with its padding")
    return data


def from_hex(text: str, *, what: str, size_bytes: int) -> bytes:
    """Decode exactly `size_bytes` bytes of lower-case hexadecimal.

    Raises:
        ConfigurationError: another length, upper case, or no hexadecimal at all.
    """
    if len(text) != 2 * size_bytes or text.strip("0123456789abcdef"):
        raise ConfigurationError(f"{what}: expected {2 * size_bytes} lower-case hexadecimal digits")
    return bytes.fromhex(text)
