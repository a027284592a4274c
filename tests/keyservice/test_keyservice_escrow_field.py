"""The field's arithmetic against tables that are computed in another way, and its steps against secrets."""

import itertools
from typing import ClassVar, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3ml.keyservice.escrow.field import VectorSpace, invert, multiply


def tables() -> tuple[list[int], list[int]]:
    """Powers and logarithms of the generator 3, by carry-less long division of polynomials."""
    powers, logarithms, value = [], [0] * 256, 1
    for exponent in range(255):
        powers.append(value)
        logarithms[value] = exponent
        product = value ^ (value << 1)
        value = product ^ (0b1_0001_1011 if product >> 8 & 1 else 0)
    return powers, logarithms


POWERS, LOGARITHMS = tables()


def by_table(left: int, right: int) -> int:
    if 0 in (left, right):
        return 0
    return POWERS[(LOGARITHMS[left] + LOGARITHMS[right]) % 255]


class TestScalars:
    def test_the_table_is_one(self) -> None:
        """3 generates every element but 0: the table is whole."""
        assert sorted(POWERS) == list(range(1, 256))

    def test_all_products(self) -> None:
        for left, right in itertools.product(range(256), repeat=2):
            assert multiply(left, right) == by_table(left, right)

    def test_the_products_of_the_standard(self) -> None:
        """FIPS 197, section 4.2: {57} x {83} = {c1}; section 4.2.1: {57} x {13} = {fe}."""
        assert multiply(0x57, 0x83) == 0xC1
        assert multiply(0x57, 0x13) == 0xFE

    def test_all_inverses(self) -> None:
        for element in range(1, 256):
            assert by_table(element, invert(element)) == 1

    def test_zero_has_none(self) -> None:
        with pytest.raises(ZeroDivisionError):
            invert(0)


class TestVectors:
    def test_all_products(self) -> None:
        """Every element at once, by every scalar."""
        space = VectorSpace(256)
        vector = space.pack(bytes(range(256)))
        for scalar in range(256):
            expected = bytes(by_table(element, scalar) for element in range(256))
            assert space.unpack(space.scale(vector, scalar)) == expected

    @given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255)), min_size=1, max_size=80))
    def test_sums(self, pairs: list[tuple[int, int]]) -> None:
        space = VectorSpace(len(pairs))
        left, right = (space.pack(bytes(column)) for column in zip(*pairs, strict=True))
        assert space.unpack(space.add(left, right)) == bytes(a ^ b for a, b in pairs)

    @given(st.binary(min_size=1, max_size=80))
    def test_packed_and_unpacked(self, elements: bytes) -> None:
        space = VectorSpace(len(elements))
        assert space.unpack(space.pack(elements)) == elements

    def test_another_length(self) -> None:
        with pytest.raises(ValueError, match="expected 2 elements, got 3"):
            VectorSpace(2).pack(bytes(3))


class Watched(int):
    """An integer that records how wide every value is that is made of it, and refuses to steer anything."""

    widths: ClassVar[list[int]] = []

    def __new__(cls, value: int) -> Self:
        cls.widths.append(value.bit_length())
        return super().__new__(cls, value)

    def __bool__(self) -> bool:
        raise AssertionError("a branch on a secret")

    def __index__(self) -> int:
        raise AssertionError("a look-up by a secret")

    def __and__(self, other: int) -> "Watched":
        return Watched(int(self).__and__(int(other)))

    def __or__(self, other: int) -> "Watched":
        return Watched(int(self).__or__(int(other)))

    def __xor__(self, other: int) -> "Watched":
        return Watched(int(self).__xor__(int(other)))

    def __lshift__(self, other: int) -> "Watched":
        return Watched(int.__lshift__(int(self), other))

    def __rshift__(self, other: int) -> "Watched":
        return Watched(int.__rshift__(int(self), other))

    def __int__(self) -> int:
        return int.__add__(self, 0)

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__


class TestNothingDependsOnASecret:
    """No branch, no look-up, and no integer whose length in memory says anything."""

    def widths(self, elements: bytes, scalar: int) -> list[int]:
        space = VectorSpace(len(elements))
        Watched.widths = []
        vector = Watched(space.pack(elements))
        space.add(space.scale(vector, scalar), vector)
        return Watched.widths

    @pytest.mark.parametrize("scalar", [0, 1, 2, 3, 0x80, 0xFF])
    def test_every_step_has_the_same_width(self, scalar: int) -> None:
        zeros, ones = bytes(64), b"\xff" * 64
        leading = bytes(40) + b"\x01" + bytes(23)
        expected = self.widths(zeros, scalar)
        assert len(expected) > 8
        assert self.widths(ones, scalar) == expected
        assert self.widths(leading, scalar) == expected
