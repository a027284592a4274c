"""Any k of n pieces give the secret back; fewer say nothing; a wrong one is named before it spoils any."""

import itertools
import secrets

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3ml.keyservice.escrow.field import VectorSpace
from s3ml.keyservice.escrow.splitting import (
    BLINDING_BYTES,
    Outline,
    Piece,
    PieceRejectedError,
    combine,
    is_piece_of,
    split,
)
from s3ml.keyservice.escrow.splitting import _evaluate as evaluate
from s3ml.keyservice.escrow.splitting import _interpolate as interpolate
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.secret import SecretBytes

SECRET = SecretBytes(b"thirty-two bytes of wrapping key")
CONTEXT = b"context"


def split_up(
    threshold: int = 3, count: int = 5, secret: SecretBytes = SECRET
) -> tuple[Outline, tuple[Piece, ...]]:
    return split(secret, threshold=threshold, count=count, context=CONTEXT, random_bytes=secrets.token_bytes)


class TestAnyThreshold:
    @given(data=st.data(), secret=st.binary(min_size=1, max_size=100), count=st.integers(1, 16))
    @settings(max_examples=60)
    def test_any_k_of_n_give_it_back(self, data: st.DataObject, secret: bytes, count: int) -> None:
        threshold = data.draw(st.integers(1, count))
        outline, pieces = split_up(threshold, count, SecretBytes(secret))
        chosen = data.draw(st.permutations(pieces))[: data.draw(st.integers(threshold, count))]
        assert combine(outline, chosen, context=CONTEXT) == SecretBytes(secret)

    def test_every_choice(self) -> None:
        outline, pieces = split_up()
        for chosen in itertools.combinations(pieces, 3):
            assert combine(outline, chosen, context=CONTEXT) == SECRET

    def test_the_largest(self) -> None:
        outline, pieces = split_up(255, 255)
        assert combine(outline, pieces, context=CONTEXT) == SECRET

    def test_one_of_one_is_the_secret_itself(self) -> None:
        _, (piece,) = split_up(1, 1)
        assert piece.value.reveal()[BLINDING_BYTES:] == SECRET.reveal()


class TestFewerSayNothing:
    """At the level of the field, where the polynomial is: exhaustively on one element.

    Vectors are elements side by side that are split independently, so what holds for one holds for all.
    """

    def shares_of(self, secret: int, coefficients: list[bytes], point: int) -> bytes:
        """Return the share at `point` for every choice of coefficients at once, one in each lane."""
        space = VectorSpace(len(coefficients[0]))
        packed = [space.pack(lanes) for lanes in (*coefficients, bytes([secret]) * space.size_bytes)]
        return space.unpack(evaluate(space, packed, point))

    @pytest.mark.parametrize("point", [1, 2, 255])
    def test_one_of_two(self, point: int) -> None:
        """Over all 256 coefficients, one share is each value exactly once, whatever the secret is."""
        for secret in range(256):
            assert len(set(self.shares_of(secret, [bytes(range(256))], point))) == 256

    @pytest.mark.parametrize("points", [(1, 2), (1, 3), (7, 255)])
    def test_two_of_three(self, points: tuple[int, int]) -> None:
        """Over all 65,536 pairs of coefficients, two shares are each pair exactly once for any secret."""
        pairs = list(itertools.product(range(256), repeat=2))
        coefficients = [bytes(column) for column in zip(*pairs, strict=True)]
        for secret in (0, 1, 0x53, 0xFF):
            first, second = (self.shares_of(secret, coefficients, point) for point in points)
            assert len(set(zip(first, second, strict=True))) == 65_536

    def test_coefficients_are_uniform_and_may_be_zero(self) -> None:
        """A highest coefficient that is never 0 would rule one value of the secret out."""
        asked: list[int] = []

        def zeros(size: int) -> bytes:
            asked.append(size)
            return bytes(size)

        _, pieces = split(SECRET, threshold=3, count=4, context=CONTEXT, random_bytes=zeros)
        assert asked == [32, 64, 64]
        assert {piece.value.reveal() for piece in pieces} == {bytes(32) + SECRET.reveal()}

    def test_the_outline_says_nothing_about_a_guessable_secret(self) -> None:
        """Two splittings of one secret have nothing in common: the blinding is fresh."""
        first, second = split_up()[0], split_up()[0]
        assert first.commitment != second.commitment
        assert not set(first.digests) & set(second.digests)

    def test_fewer_do_not_combine(self) -> None:
        outline, pieces = split_up()
        with pytest.raises(ConfigurationError, match="shares: expected 3, got 2"):
            combine(outline, pieces[:2], context=CONTEXT)

    def test_interpolating_fewer_gives_something_else(self) -> None:
        _, pieces = split_up()
        assert interpolate(VectorSpace(64), pieces[:2])[BLINDING_BYTES:] != SECRET.reveal()


class TestAWrongPiece:
    def changed(self, piece: Piece, place: int = 40) -> Piece:
        value = bytearray(piece.value.reveal())
        value[place] ^= 1
        return Piece(index=piece.index, value=SecretBytes(value))

    def test_a_change_anywhere(self) -> None:
        outline, pieces = split_up()
        for place in range(64):
            assert not is_piece_of(outline, self.changed(pieces[1], place), context=CONTEXT)

    def test_a_changed_one_is_named(self) -> None:
        outline, pieces = split_up()
        assert not is_piece_of(outline, self.changed(pieces[1]), context=CONTEXT)
        with pytest.raises(PieceRejectedError, match="as number 2"):
            combine(outline, [pieces[0], self.changed(pieces[1]), pieces[2]], context=CONTEXT)

    def test_one_of_another_splitting(self) -> None:
        outline, pieces = split_up()
        foreign = split_up()[1]
        with pytest.raises(PieceRejectedError, match="as number 1, 4"):
            combine(outline, [foreign[0], pieces[1], foreign[3]], context=CONTEXT)

    def test_one_under_another_number(self) -> None:
        outline, pieces = split_up()
        assert not is_piece_of(outline, Piece(index=2, value=pieces[0].value), context=CONTEXT)

    @pytest.mark.parametrize("index", [0, 6, 300])
    def test_a_number_that_there_is_not(self, index: int) -> None:
        outline, pieces = split_up()
        assert not is_piece_of(outline, Piece(index=index, value=pieces[0].value), context=CONTEXT)

    def test_another_context(self) -> None:
        outline, pieces = split_up()
        with pytest.raises(PieceRejectedError, match="as number 1, 2, 3"):
            combine(outline, pieces[:3], context=b"another")

    def test_one_twice(self) -> None:
        outline, pieces = split_up()
        with pytest.raises(ConfigurationError, match="one of them twice"):
            combine(outline, [pieces[0], pieces[0], pieces[1]], context=CONTEXT)


class TestAnOutlineThatLies:
    """Whoever vouches for an outline can lie; what comes out is still only what was committed to."""

    def forged(self, *values: bytes, threshold: int = 2) -> tuple[Outline, list[Piece]]:
        from s3ml.keyservice.escrow.splitting import _digest

        pieces = [Piece(index=i, value=SecretBytes(value)) for i, value in enumerate(values, start=1)]
        commitment = bytes(32)
        digests = tuple(_digest(CONTEXT, commitment, piece) for piece in pieces)
        return Outline(threshold=threshold, commitment=commitment, digests=digests), pieces

    def test_pieces_that_give_something_else(self) -> None:
        outline, pieces = self.forged(bytes(64), bytes(64))
        with pytest.raises(PieceRejectedError, match="not what was committed to"):
            combine(outline, pieces, context=CONTEXT)

    def test_pieces_of_several_lengths(self) -> None:
        outline, pieces = self.forged(bytes(64), bytes(65))
        with pytest.raises(PieceRejectedError, match="values of one length"):
            combine(outline, pieces, context=CONTEXT)

    def test_pieces_of_nothing(self) -> None:
        outline, pieces = self.forged(bytes(32), bytes(32))
        with pytest.raises(PieceRejectedError, match="values of one length"):
            combine(outline, pieces, context=CONTEXT)

    @pytest.mark.parametrize(
        ("threshold", "commitment", "digests", "told"),
        [
            (1, bytes(32), (), "expected 1 to 255, got 0"),
            (0, bytes(32), (bytes(32),), "threshold"),
            (2, bytes(32), (bytes(32),), "threshold"),
            (1, bytes(31), (bytes(32),), "32 bytes"),
            (1, bytes(32), (bytes(33),), "32 bytes"),
        ],
    )
    def test_numbers_that_cannot_be(
        self, threshold: int, commitment: bytes, digests: tuple[bytes, ...], told: str
    ) -> None:
        with pytest.raises(ConfigurationError, match=told):
            Outline(threshold=threshold, commitment=commitment, digests=digests)


class TestWhatCannotBeSplit:
    @pytest.mark.parametrize(
        ("threshold", "count", "told"),
        [(1, 0, "shares"), (1, 256, "shares"), (0, 3, "threshold"), (4, 3, "threshold")],
    )
    def test_numbers(self, threshold: int, count: int, told: str) -> None:
        with pytest.raises(ConfigurationError, match=told):
            split_up(threshold, count)

    def test_nothing(self) -> None:
        with pytest.raises(ConfigurationError, match="at least 1 byte"):
            split_up(secret=SecretBytes(b""))


class TestSecretsStaySecret:
    def test_in_what_is_printed(self) -> None:
        _, pieces = split_up()
        assert "redacted" in repr(pieces[0])
        assert repr(pieces[0].value.reveal())[2:10] not in repr(pieces)
