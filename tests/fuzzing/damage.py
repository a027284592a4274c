"""Damage to honest bytes: cut, spliced, doubled, overwritten with numbers that lengths are made of."""

import random
from collections.abc import Callable

from hypothesis import strategies as st

NUMBERS = (
    0,
    1,
    2,
    3,
    4,
    5,
    16,
    32,
    48,
    64,
    127,
    128,
    255,
    256,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0xFFFFFFFF,
)
LONGEST_PIECE = 600
DAMAGES = 4
_HALF = 0.5

Change = Callable[[bytes], bytes]


def damaged(honest: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    """Return a strategy of what becomes of `honest` after a few damages, none included."""
    places = st.floats(0, 1, exclude_max=True)
    pieces = st.one_of(
        st.binary(max_size=8),
        st.sampled_from(honest).flatmap(_piece_of),
        st.builds(_number, st.sampled_from(NUMBERS), st.sampled_from((1, 2, 4, 8)), st.booleans()),
        st.integers(1, LONGEST_PIECE).map(bytes),
        st.sampled_from((b"\n", b"\r\n", b"\x00", b"=", b"[", b'"', b"-----BEGIN CERTIFICATE-----\n")),
    )
    changes = st.one_of(
        st.builds(_cut, places),
        st.builds(_inserted, places, pieces),
        st.builds(_overwritten, places, pieces),
        st.builds(_removed, places, st.integers(1, LONGEST_PIECE)),
        st.builds(_doubled, places, st.integers(1, LONGEST_PIECE)),
        st.builds(_flipped, places, st.integers(0, 7)),
    )
    return st.builds(_apply, st.sampled_from(honest), st.lists(changes, max_size=DAMAGES))


def _apply(data: bytes, changes: list[Change]) -> bytes:
    for change in changes:
        data = change(data)
    return data


def _piece_of(data: bytes) -> st.SearchStrategy[bytes]:
    ends = st.integers(0, len(data))
    return st.tuples(ends, st.integers(0, LONGEST_PIECE)).map(lambda span: data[span[0] : sum(span)])


def _number(value: int, size: int, is_big: bool) -> bytes:
    return (value & ((1 << 8 * size) - 1)).to_bytes(size, "big" if is_big else "little")


def _cut(place: float) -> Change:
    return lambda data: data[: int(place * len(data))]


def _inserted(place: float, piece: bytes) -> Change:
    return lambda data: data[: int(place * len(data))] + piece + data[int(place * len(data)) :]


def _overwritten(place: float, piece: bytes) -> Change:
    return lambda data: data[: int(place * len(data))] + piece + data[int(place * len(data)) + len(piece) :]


def _removed(place: float, size: int) -> Change:
    return lambda data: data[: int(place * len(data))] + data[int(place * len(data)) + size :]


def _doubled(place: float, size: int) -> Change:
    return lambda data: data[: int(place * len(data)) + size] + data[int(place * len(data)) :]


def _flipped(place: float, bit: int) -> Change:
    def change(data: bytes) -> bytes:
        at = int(place * len(data))
        return data[:at] + bytes(byte ^ 1 << bit for byte in data[at : at + 1]) + data[at + 1 :]

    return change


def damage(chance: random.Random, honest: tuple[bytes, ...]) -> bytes:
    """Return honest bytes after a few damages, without hypothesis: for long runs."""
    data = chance.choice(honest)
    for _ in range(chance.randint(0, DAMAGES)):
        other, size = chance.choice(honest), chance.randint(1, LONGEST_PIECE)
        start = chance.randrange(len(other))
        number = _number(chance.choice(NUMBERS), chance.choice((1, 2, 4, 8)), chance.random() < _HALF)
        piece = chance.choice((other[start : start + size], number, bytes(size), chance.randbytes(4)))
        place = chance.random()
        change = chance.choice(
            (
                _cut(place),
                _inserted(place, piece),
                _overwritten(place, piece),
                _removed(place, size),
                _doubled(place, size),
                _flipped(place, chance.randrange(8)),
            )
        )
        data = change(data)
    return data
