"""Any small secret in k of n share files, for paper and for removable media; nothing here needs a network.

A share file is text. Each line of it ends in a check of its own, so that a slip of whoever copies it by hand
is found in its line. Each file holds the outline of its splitting: a changed or foreign share is named before
anything is combined.

Source: docs/spec/recovery.md, section "Share files".
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from s3ml.keyservice.escrow.splitting import (
    BLINDING_BYTES,
    Outline,
    Piece,
    RandomBytes,
    combine,
    is_piece_of,
    split,
)
from s3ml.primitives.encoding import SHA256_BYTES, tagged, tagged_sha256
from s3ml.primitives.errors import ConfigurationError, UntrustedPeerError
from s3ml.primitives.files import read_limited
from s3ml.primitives.secret import SecretBytes
from s3ml.primitives.units import KIB

SECRET_LIMIT_BYTES = 4 * KIB
SHARES_LIMIT = 16
FILE_LIMIT_BYTES = 32 * KIB
BEGIN = "-----BEGIN S3ML SHARE-----"
END = "-----END S3ML SHARE-----"

_CONTEXT = tagged("S3ML file shares v1")
_VERSION = 1
_HEAD_BYTES = 4
_LINE_BYTES = 20
_GROUP = 4
_CHECK_CHARACTERS = 4
_LINE = re.compile(r"[A-Z2-7]{4,36}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileShare:
    """What one share file holds; a secret.

    Args:
        outline: Of the splitting, as this file says.
        piece: The share.
    """

    outline: Outline
    piece: Piece

    @property
    def set_id(self) -> str:
        """What files of one splitting have in common, 16 hexadecimal digits."""
        outline = self.outline
        numbers = bytes([outline.threshold, len(outline.digests)])
        fields = (numbers, outline.commitment, *outline.digests)
        return tagged_sha256("S3ML file share set v1", *fields).hex()[:16]

    @property
    def summary(self) -> str:
        """Which share of which set this is, in words."""
        outline = self.outline
        return (
            f"share {self.piece.index} of {len(outline.digests)}; any {outline.threshold} restore the file; "
            f"set {self.set_id}"
        )


def split_file(
    secret: SecretBytes, *, threshold: int, count: int, random_bytes: RandomBytes
) -> tuple[FileShare, ...]:
    """Split a small secret into `count` shares of which any `threshold` restore it.

    Args:
        secret: 1 byte to 4 KiB.
        threshold: 1 to `count`.
        count: 1 to 16.
        random_bytes: Returns as many random bytes as it is asked for.

    Raises:
        ConfigurationError: a number out of range, or nothing to split.
    """
    if not 1 <= count <= SHARES_LIMIT:
        raise ConfigurationError(f"shares: expected 1 to {SHARES_LIMIT}, got {count}")
    if len(secret) > SECRET_LIMIT_BYTES:
        raise ConfigurationError(f"secret: expected at most {SECRET_LIMIT_BYTES} bytes, got {len(secret)}")
    outline, pieces = split(
        secret, threshold=threshold, count=count, context=_CONTEXT, random_bytes=random_bytes
    )
    return tuple(FileShare(outline=outline, piece=piece) for piece in pieces)


def combine_files(shares: Mapping[str, FileShare]) -> SecretBytes:
    """Restore what was split.

    Args:
        shares: By the name of the file that each came from, for messages.

    Raises:
        ConfigurationError: too few, or one of them twice.
        UntrustedPeerError: they are of several sets, or one was changed; each is named.
    """
    sets: dict[str, list[str]] = {}
    for name, share in shares.items():
        sets.setdefault(share.set_id, []).append(name)
    if len(sets) != 1:
        listed = "; ".join(f"set {set_id}: {', '.join(names)}" for set_id, names in sets.items())
        raise UntrustedPeerError(f"shares: expected those of one set, got {listed or 'none'}")
    outline = next(iter(shares.values())).outline
    changed = [
        name for name, share in shares.items() if not is_piece_of(outline, share.piece, context=_CONTEXT)
    ]
    if changed:
        raise UntrustedPeerError(f"shares: expected what was split, got changed ones: {', '.join(changed)}")
    return combine(outline, [share.piece for share in shares.values()], context=_CONTEXT)


def encode_share(share: FileShare) -> bytes:
    """Return the text of a share file."""
    outline = share.outline
    head = bytes([_VERSION, outline.threshold, len(outline.digests), share.piece.index])
    body = b"".join((head, outline.commitment, *outline.digests, share.piece.value.reveal()))
    rows = [body[start : start + _LINE_BYTES] for start in range(0, len(body), _LINE_BYTES)]
    lines = [_encode_row(number, row) for number, row in enumerate(rows, start=1)]
    return "\n".join((BEGIN, f"# {share.summary}", *lines, END, "")).encode()


def parse_share(data: bytes, *, what: str) -> FileShare:
    """Read a share file, as it was written or as somebody typed it; blank lines and case do not matter.

    Args:
        data: At most 32 KiB of text.
        what: How messages call it.

    Raises:
        ConfigurationError: it is no share file, or a line fails its check.
    """
    text = data.decode("ascii", errors="replace")
    found = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    if BEGIN not in found or END not in found or found.index(BEGIN) > found.index(END):
        raise ConfigurationError(f"{what}: is no share file: expected {BEGIN!r} and {END!r}")
    rows = found[found.index(BEGIN) + 1 : found.index(END)]
    body = b"".join(_parse_row(number, row, what) for number, row in enumerate(rows, start=1))
    outline_end = _HEAD_BYTES + SHA256_BYTES
    if len(body) < outline_end or body[0] != _VERSION or not 1 <= body[2] <= SHARES_LIMIT:
        raise ConfigurationError(f"{what}: is no share file of version {_VERSION}, or lines are missing")
    count = body[2]
    value_start = outline_end + SHA256_BYTES * count
    value = body[value_start:]
    if not BLINDING_BYTES < len(value) <= BLINDING_BYTES + SECRET_LIMIT_BYTES or not 1 <= body[3] <= count:
        raise ConfigurationError(f"{what}: is no whole share file: lines are missing")
    digests = tuple(
        body[start : start + SHA256_BYTES] for start in range(outline_end, value_start, SHA256_BYTES)
    )
    outline = Outline(threshold=body[1], commitment=body[_HEAD_BYTES:outline_end], digests=digests)
    return FileShare(outline=outline, piece=Piece(index=body[3], value=SecretBytes(value)))


def read_share_files(paths: Sequence[Path]) -> dict[str, FileShare]:
    """Read share files by name.

    Raises:
        ConfigurationError: one is missing, given twice, or no share file.
    """
    if len(set(paths)) != len(paths):
        raise ConfigurationError("shares: expected each file once, got one twice")
    return {
        str(path): parse_share(
            read_limited(path, limit_bytes=FILE_LIMIT_BYTES, what="share file"), what=str(path)
        )
        for path in paths
    }


def _encode_row(number: int, row: bytes) -> str:
    text = base64.b32encode(row).decode("ascii").rstrip("=")
    groups = [text[start : start + _GROUP] for start in range(0, len(text), _GROUP)]
    return " ".join((*groups, _check(number, row)))


def _parse_row(number: int, text: str, what: str) -> bytes:
    joined = "".join(text.upper().split())
    wrong = ConfigurationError(f"{what}: line {number} of the share: was not copied right")
    if not _LINE.fullmatch(joined):
        raise wrong
    encoded, check = joined[:-_CHECK_CHARACTERS], joined[-_CHECK_CHARACTERS:]
    try:
        row = base64.b32decode(encoded + "=" * (-len(encoded) % 8))
    except binascii.Error:
        raise wrong from None
    if not row or _check(number, row) != check:
        raise wrong
    return row


def _check(number: int, row: bytes) -> str:
    digest = hashlib.sha256(tagged("S3ML share line v1", bytes([number % 256]), row)).digest()
    return base64.b32encode(digest)[:_CHECK_CHARACTERS].decode("ascii")
