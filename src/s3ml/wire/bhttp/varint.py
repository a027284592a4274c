"""Integers of 1, 2, 4 or 8 bytes, whose first two bits tell which.

Source: RFC 9000, section 16.
"""

from s3ml.wire.errors import BinaryHTTPError

ONE_BYTE_LIMIT = 1 << 6
_LIMIT_2, _LIMIT_4, _LIMIT_8 = 1 << 14, 1 << 30, 1 << 62


def encode_varint(value: int) -> bytes:
    """Encode `value` (0 to 2⁶²-1) on as few bytes as possible."""
    if value < ONE_BYTE_LIMIT:
        return value.to_bytes(1, "big")
    if value < _LIMIT_2:
        return (value | 0x4000).to_bytes(2, "big")
    if value < _LIMIT_4:
        return (value | 0x8000_0000).to_bytes(4, "big")
    if value < _LIMIT_8:
        return (value | 0xC000_0000_0000_0000).to_bytes(8, "big")
    raise BinaryHTTPError(f"binary HTTP: expected an integer below 2**62, got {value}")


def decode_varint(data: bytes, position: int) -> tuple[int, int]:
    """Return the integer at `position`, on any number of bytes, and where it ends.

    Raises:
        BinaryHTTPError: `data` ends before it does.
    """
    try:
        first = data[position]
    except IndexError:
        raise BinaryHTTPError("binary HTTP: the message is truncated") from None
    if first < ONE_BYTE_LIMIT:
        return first, position + 1
    size = 1 << (first >> 6)
    end = position + size
    if end > len(data):
        raise BinaryHTTPError("binary HTTP: the message is truncated")
    return int.from_bytes(data[position:end], "big") & ((1 << (8 * size - 2)) - 1), end
