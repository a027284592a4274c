"""Split a secret so that any k of n pieces give it back, and fewer say nothing about it.

What is split is ``blinding (32 random bytes) || secret``. The *outline* of a splitting is public: it commits
to the secret and to each piece. So a changed or foreign piece is named before anything is combined, and what
is combined is known to be right. Because the blinding is split too, neither the outline nor k-1 pieces help
to guess even a secret of few values.

Source: Shamir, How to share a secret (1979); docs/spec/recovery.md, section "Splitting".
"""

import hmac
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from s3ml.keyservice.escrow.field import VectorSpace, invert, multiply
from s3ml.primitives.encoding import SHA256_BYTES, tagged_sha256
from s3ml.primitives.errors import ConfigurationError, UntrustedPeerError
from s3ml.primitives.secret import SecretBytes

BLINDING_BYTES = 32
PIECES_LIMIT = 255

RandomBytes = Callable[[int], bytes]


class PieceRejectedError(UntrustedPeerError):
    """A piece is none of the splitting, or what was combined is not what was split."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """What is public of one splitting.

    Args:
        threshold: How many pieces give the secret back, 1 to the number of `digests`.
        commitment: To the secret, 32 bytes.
        digests: Of each piece, 32 bytes each, 1 to 255 of them; the first is that of piece 1.

    Raises:
        ConfigurationError: a value out of range.
    """

    threshold: int
    commitment: bytes
    digests: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.digests) <= PIECES_LIMIT:
            raise ConfigurationError(f"shares: expected 1 to {PIECES_LIMIT}, got {len(self.digests)}")
        if not 1 <= self.threshold <= len(self.digests):
            raise ConfigurationError(
                f"threshold: expected 1 to {len(self.digests)} (the shares), got {self.threshold}"
            )
        if {len(value) for value in (self.commitment, *self.digests)} != {SHA256_BYTES}:
            raise ConfigurationError(f"shares: expected digests of {SHA256_BYTES} bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One piece: the polynomial's value at `index` (1 to 255); a secret."""

    index: int
    value: SecretBytes


def split(
    secret: SecretBytes, *, threshold: int, count: int, context: bytes, random_bytes: RandomBytes
) -> tuple[Outline, tuple[Piece, ...]]:
    """Split `secret` into `count` pieces of which any `threshold` give it back.

    Args:
        secret: At least 1 byte.
        threshold: 1 to `count`.
        count: 1 to 255.
        context: What the splitting is for; public, and needed to check and combine.
        random_bytes: Returns as many random bytes as it is asked for, from a cryptographic generator.

    Raises:
        ConfigurationError: a number out of range, or nothing to split.
    """
    if not 1 <= count <= PIECES_LIMIT:
        raise ConfigurationError(f"shares: expected 1 to {PIECES_LIMIT}, got {count}")
    if not 1 <= threshold <= count:
        raise ConfigurationError(f"threshold: expected 1 to {count} (the shares), got {threshold}")
    if not len(secret):
        raise ConfigurationError("secret: expected at least 1 byte, got none")
    blinded = random_bytes(BLINDING_BYTES) + secret.reveal()
    space = VectorSpace(len(blinded))
    coefficients = [space.pack(random_bytes(space.size_bytes)) for _ in range(threshold - 1)]
    coefficients.append(space.pack(blinded))
    pieces = tuple(
        Piece(index=index, value=SecretBytes(space.unpack(_evaluate(space, coefficients, index))))
        for index in range(1, count + 1)
    )
    commitment = _commit(context, threshold, count, blinded)
    digests = tuple(_digest(context, commitment, piece) for piece in pieces)
    return Outline(threshold=threshold, commitment=commitment, digests=digests), pieces


def is_piece_of(outline: Outline, piece: Piece, *, context: bytes) -> bool:
    """Tell whether `piece` is the very one that the splitting made with its index."""
    if not 1 <= piece.index <= len(outline.digests):
        return False
    expected = outline.digests[piece.index - 1]
    return hmac.compare_digest(expected, _digest(context, outline.commitment, piece))


def combine(outline: Outline, pieces: Sequence[Piece], *, context: bytes) -> SecretBytes:
    """Return the secret that `outline` commits to.

    1. Each piece is one of the splitting, and each stands once.
    2. They are at least the threshold; the first of them are used.
    3. What comes out is what was committed to.

    Args:
        outline: Of the splitting; from somebody who vouches for it.
        pieces: From untrusted peers.
        context: What the splitting was for.

    Raises:
        ConfigurationError: too few pieces, or one of them twice.
        PieceRejectedError: (1) or (3) fails; the message names the pieces.
    """
    wrong = [piece.index for piece in pieces if not is_piece_of(outline, piece, context=context)]  # (1)
    if wrong:
        listed = ", ".join(map(str, wrong))
        raise PieceRejectedError(f"shares: expected those of one splitting, got others as number {listed}")
    if len({piece.index for piece in pieces}) != len(pieces):
        raise ConfigurationError("shares: expected each one once, got one of them twice")
    if len(pieces) < outline.threshold:  # (2)
        raise ConfigurationError(f"shares: expected {outline.threshold}, got {len(pieces)}")
    used = pieces[: outline.threshold]
    sizes = {len(piece.value) for piece in used}
    if len(sizes) > 1 or min(sizes) <= BLINDING_BYTES:  # (3)
        raise PieceRejectedError("shares: expected values of one length")
    space = VectorSpace(sizes.pop())
    blinded = _interpolate(space, used)
    count = len(outline.digests)
    if not hmac.compare_digest(_commit(context, outline.threshold, count, blinded), outline.commitment):
        raise PieceRejectedError("shares: what they give is not what was committed to")
    return SecretBytes(blinded[BLINDING_BYTES:])


def _evaluate(space: VectorSpace, coefficients: Iterable[int], point: int) -> int:
    """Evaluate a polynomial, highest coefficient first, by Horner's rule; the point is public."""
    value = space.pack(bytes(space.size_bytes))
    for coefficient in coefficients:
        value = space.add(space.scale(value, point), coefficient)
    return value


def _interpolate(space: VectorSpace, pieces: Sequence[Piece]) -> bytes:
    """Return the polynomial's value at 0, by Lagrange; the weights follow from public indices alone."""
    value = space.pack(bytes(space.size_bytes))
    for piece in pieces:
        above, below = 1, 1
        for other in pieces:
            if other.index != piece.index:
                above = multiply(above, other.index)
                below = multiply(below, other.index ^ piece.index)
        weight = multiply(above, invert(below))
        value = space.add(value, space.scale(space.pack(piece.value.reveal()), weight))
    return space.unpack(value)


def _commit(context: bytes, threshold: int, count: int, blinded: bytes) -> bytes:
    return tagged_sha256("S3ML share commitment v1", context, bytes([threshold, count]), blinded)


def _digest(context: bytes, commitment: bytes, piece: Piece) -> bytes:
    return tagged_sha256("S3ML share v1", context, commitment, bytes([piece.index]), piece.value.reveal())
