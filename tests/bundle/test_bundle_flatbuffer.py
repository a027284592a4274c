"""A LiteRT model is told from other bytes, and from one that needs more files."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3ml.bundle import check_litert
from s3ml.primitives.errors import ConfigurationError


def table(fields: dict[int, bytes], *, entries: int) -> bytes:
    """A virtual table, and the table itself behind it; each field is an inline value."""
    offsets, values = [0] * entries, b""
    for number, value in fields.items():
        offsets[number] = 4 + len(values)
        values += value
    virtual = struct.pack(f"<HH{entries}H", 4 + 2 * entries, 4 + len(values), *offsets)
    return virtual + struct.pack("<i", len(virtual)) + values


def flatbuffer(*, vectors: dict[int, bytes] | None = None, entries: int = 10) -> bytes:
    """A model with nothing in it but these vectors: field number to content behind the length."""
    contents, fields = b"", {}
    for left, (number, content) in zip(
        range(len(vectors or {}), 0, -1), (vectors or {}).items(), strict=True
    ):
        fields[number] = struct.pack("<I", 4 * left + len(contents))
        contents += content
    root = table(fields, entries=entries)
    return struct.pack("<I", 8 + 4 + 2 * entries) + b"TFL3" + root + contents


def operators(*codes: tuple[int, int]) -> bytes:
    """A vector of operator codes, each with its deprecated and its full number; 0 leaves it out."""
    tables = [
        table(
            {
                field: struct.pack(kind, code)
                for field, kind, code in ((0, "<B", short), (3, "<i", full))
                if code
            },
            entries=4,
        )
        for short, full in codes
    ]
    entries, behind = b"", b""
    for number, one in enumerate(tables):
        at = 4 * (len(tables) - number) + len(behind) + 4 + 2 * 4
        entries += struct.pack("<I", at)
        behind += one
    return struct.pack("<I", len(tables)) + entries + behind


def words(count: int) -> bytes:
    """A vector of `count` words."""
    return struct.pack("<I", count) + bytes(4 * count)


class TestFlatbuffer:
    """Everything that a LiteRT model needs is in its one file."""

    @pytest.mark.parametrize("entries", [0, 8, 9, 10, 12])
    def test_a_table_that_names_no_file_is_accepted(self, entries: int) -> None:
        check_litert(flatbuffer(entries=entries))

    def test_vectors_without_a_file_name_none(self) -> None:
        check_litert(flatbuffer(vectors={8: words(0), 9: words(0)}))

    @pytest.mark.parametrize("vectors", [{8: words(1)}, {9: words(1)}, {8: words(0), 9: words(2)}])
    def test_weights_elsewhere_are_refused(self, vectors: dict[int, bytes]) -> None:
        with pytest.raises(ConfigurationError, match="expected everything in one file"):
            check_litert(flatbuffer(vectors=vectors))

    @pytest.mark.parametrize("codes", [((9, 9), (127, 150)), ((0, 0),), ((126, 0), (0, 143))])
    def test_operators_that_keep_nothing_are_accepted(self, codes: tuple[tuple[int, int], ...]) -> None:
        check_litert(flatbuffer(vectors={1: operators(*codes)}))

    @pytest.mark.parametrize("codes", [((127, 144),), ((9, 9), (0, 144)), ((144, 0),)])
    def test_an_operator_that_keeps_something_is_refused(self, codes: tuple[tuple[int, int], ...]) -> None:
        with pytest.raises(ConfigurationError, match="keeps nothing between requests"):
            check_litert(flatbuffer(vectors={1: operators(*codes)}))

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"\x08\x00\x00\x00TFL",
            b"\x08\x00\x00\x00ONNX" + bytes(30),
            b"\xff\xff\xff\xffTFL3" + bytes(30),  # a table past the end
            b"\x08\x00\x00\x00TFL3" + b"\xff\xff\xff\x7f" + bytes(30),  # a virtual table before the beginning
            b"\x0a\x00\x00\x00TFL3\x00\x00\xfd\xff\xff\xff",  # a virtual table that ends too early
        ],
    )
    def test_other_or_damaged_bytes_are_refused(self, data: bytes) -> None:
        with pytest.raises(ConfigurationError, match="expected a LiteRT model"):
            check_litert(data)

    @pytest.mark.parametrize("cut", [1, 4, 5, 8])
    def test_a_vector_past_the_end_is_refused(self, cut: int) -> None:
        with pytest.raises(ConfigurationError, match="expected a LiteRT model"):
            check_litert(flatbuffer(vectors={8: words(1)})[:-cut])

    def test_an_operator_past_the_end_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="expected a LiteRT model"):
            check_litert(flatbuffer(vectors={1: operators((9, 9))})[:-6])

    @given(st.binary(max_size=60))
    def test_any_bytes_are_read_or_refused(self, data: bytes) -> None:
        try:
            check_litert(b"\x08\x00\x00\x00TFL3" + data)
        except ConfigurationError as error:
            assert "expected" in str(error)
