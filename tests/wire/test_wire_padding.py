"""Padding: few sizes, at little cost."""

from hypothesis import given
from hypothesis import strategies as st

from s3ml.wire.padding import FLOOR_BYTES, padded_length

SIZES = st.integers(0, 1 << 40)


class TestPadme:
    def test_small_messages_look_alike(self) -> None:
        assert {padded_length(size) for size in (0, 1, 1000, 1024)} == {FLOOR_BYTES}

    def test_known_sizes(self) -> None:
        assert [padded_length(size) for size in (1025, 1088, 1089, 4097, 600_000, 16_777_216)] == [
            1088,
            1088,
            1152,
            4352,
            606_208,
            16_777_216,
        ]

    @given(size=SIZES)
    def test_costs_at_most_twelve_per_cent_above_the_floor(self, size: int) -> None:
        padded = padded_length(size)

        assert size <= padded
        assert padded <= max(FLOOR_BYTES, size * 1.12)

    @given(size=SIZES)
    def test_a_padded_size_is_its_own(self, size: int) -> None:
        padded = padded_length(size)

        assert padded_length(padded) == padded

    @given(smaller=SIZES, larger=SIZES)
    def test_keeps_the_order(self, smaller: int, larger: int) -> None:
        if smaller <= larger:
            assert padded_length(smaller) <= padded_length(larger)

    def test_there_are_few_sizes_up_to_the_request_limit(self) -> None:
        sizes: set[int] = set()
        size = 0
        while size <= 1 << 24:
            sizes.add(padded_length(size))
            size = padded_length(size) + 1

        assert len(sizes) < 400
