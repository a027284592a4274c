"""A tar file of which every byte is determined by the names and contents of its members.

A subset of POSIX ustar that any `tar` can list: regular files only, flat names, mode 0444, owner 0, time 0,
and two zero blocks at the end with nothing after them. A header is accepted only when it equals the one
that this module would write, so links, folders, paths, long-name tricks and checksums need no rules of
their own.

Source: POSIX.1-2017, pax, section "ustar Interchange Format"; docs/spec/bundle.md.
"""

import re
from dataclasses import dataclass

from s3ml.bundle.errors import BundleMalformedError
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.units import GIB

BLOCK_BYTES = 512
END = bytes(2 * BLOCK_BYTES)
MEMBER_LIMIT_BYTES = 8 * GIB - 1
NAME_PATTERN = r"\A[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}\Z"

_NAME = re.compile(NAME_PATTERN, re.ASCII)
_SIZE = re.compile(rb"\A[0-7]{11}\x00\Z")
_ZERO_BLOCK = bytes(BLOCK_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """What a header says: a flat name and a size in bytes."""

    name: str
    size_bytes: int


def check_member_name(name: str, *, what: str) -> str:
    """Return `name` when a bundle can hold a file of that name.

    Raises:
        ConfigurationError: it is a path, too long, or has characters outside A-Z, a-z, 0-9 and ``_.+-``.
    """
    if not _NAME.match(name):
        raise ConfigurationError(
            f"{what}: expected a name of 1 to 100 letters, digits and _.+-, no folders, got {name[:120]!r}"
        )
    return name


def encode_header(member: Member) -> bytes:
    """Return the one header (512 bytes) of a member.

    Raises:
        ConfigurationError: the name is not allowed, or the size is 8 GiB or more.
    """
    name = check_member_name(member.name, what="bundle file")
    if not 0 <= member.size_bytes <= MEMBER_LIMIT_BYTES:
        raise ConfigurationError(
            f"bundle file {name}: expected at most {MEMBER_LIMIT_BYTES} bytes, got {member.size_bytes}"
        )
    numbers = b"0000444\x000000000\x000000000\x00%011o\x0000000000000\x00" % member.size_bytes
    before = name.encode("ascii").ljust(100, b"\x00") + numbers
    after = b"0" + bytes(100) + b"ustar\x0000" + bytes(64) + b"0000000\x000000000\x00" + bytes(167)
    checksum = sum(before) + sum(after) + 8 * ord(" ")
    return before + b"%06o\x00 " % checksum + after


def decode_header(block: bytes) -> Member | None:
    """Read a header from an untrusted archive.

    Args:
        block: Exactly 512 bytes.

    Returns:
        The member, or None for a zero block, which begins the end of the archive.

    Raises:
        BundleMalformedError: the block is not the header that `encode_header` writes.
    """
    if block == _ZERO_BLOCK:
        return None
    name, size = block[:100].rstrip(b"\x00"), block[124:136]
    if not _SIZE.match(size):
        raise BundleMalformedError("bundle: a tar header is malformed")
    member = Member(name=name.decode("latin-1"), size_bytes=int(size[:11], 8))
    try:
        expected = encode_header(member)
    except ConfigurationError as error:
        raise BundleMalformedError(str(error)) from error
    if block != expected:
        raise BundleMalformedError(
            f"bundle: the tar header of {member.name} is not that of a plain file in canonical form"
        )
    return member


def padding_bytes(size_bytes: int) -> int:
    """Return how many zero bytes follow `size_bytes` of content, up to the next block."""
    return -size_bytes % BLOCK_BYTES


def check_zeros(data: bytes | memoryview, *, what: str) -> None:
    """Accept zeros only.

    Raises:
        BundleMalformedError: another byte hides where only zeros belong.
    """
    if any(data):
        raise BundleMalformedError(f"bundle: expected only zeros in {what}")
