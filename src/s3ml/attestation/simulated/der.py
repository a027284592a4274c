"""Writing DER, for what the simulated vendors issue; nothing is checked, so that lies can be written too.

Source: ITU-T X.690, sections 8 and 10 (DER); RFC 5280, section 4.1.2.5 (times).
"""

from datetime import UTC, datetime

from s3ml.attestation.verify.amd.der import (
    BIT_STRING,
    GENERALIZED_TIME,
    INTEGER,
    OBJECT_ID,
    UTC_TIME,
)

_LONG_FORM = 0x80
_LAST_YEAR_OF_UTC_TIME = 2049


def element(tag: int, *contents: bytes) -> bytes:
    """Return one element around `contents`."""
    content = b"".join(contents)
    size = len(content)
    if size < _LONG_FORM:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, _LONG_FORM | len(length))) + length + content


def integer(value: int) -> bytes:
    """Return an INTEGER in its shortest form; it is signed, so that one from 128 on takes a leading zero."""
    bits = max(value, ~value).bit_length()
    return element(INTEGER, value.to_bytes(bits // 8 + 1, "big", signed=True))


def object_id(dotted: str) -> bytes:
    """Return the OBJECT IDENTIFIER that is written `dotted`."""
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    return element(OBJECT_ID, _base128(40 * first + second), *map(_base128, rest))


def bit_string(content: bytes) -> bytes:
    """Return a BIT STRING of whole bytes."""
    return element(BIT_STRING, b"\x00", content)


def time(instant: datetime) -> bytes:
    """Return `instant` (aware) as certificates have it: a UTCTime until 2049, a GeneralizedTime after."""
    text = instant.astimezone(UTC).strftime("%Y%m%d%H%M%SZ").encode("ascii")
    if instant.astimezone(UTC).year <= _LAST_YEAR_OF_UTC_TIME:
        return element(UTC_TIME, text[2:])
    return element(GENERALIZED_TIME, text)


def _base128(arc: int) -> bytes:
    """Encode one arc: seven bits an octet, the high bit on all but the last."""
    octets = [arc & 0x7F]
    while arc := arc >> 7:
        octets.append(_LONG_FORM | arc & 0x7F)
    return bytes(reversed(octets))
