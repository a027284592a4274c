"""A LiteRT model is told from other bytes, and from one that needs more files."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3ml.bundle import check_litert
from s3ml.primitives.errors import ConfigurationError


def flatbuffer(*, external: dict[int, int] | None = None, entries: int = 10) -> bytes:
    """A root table with nothing in it but the vectors of `external`: field number to length."""
    offsets = [0] * entries
    vectors, table = b"", struct.pack("<i", 4 + 2 * entries)
    for number, length in (external or {}).items():
        offsets[number] = len(table)
        ahead = 4 * (len(external or {}) - len(vectors) // 4) + len(vectors)
        table += struct.pack("<I", ahead)
        vectors += struct.pack("<I", length)
    virtual = struct.pack(f"<HH{entries}H", 4 + 2 * entries, len(table), *offsets)
    return struct.pack("<I", 8 + len(virtual)) + b"TFL3" + virtual + table + vectors


class TestFlatbuffer:
    """Everything that a LiteRT model needs is in its one file."""

    @pytest.mark.parametrize("entries", [0, 8, 9, 10, 12])
    def test_a_table_that_names_no_file_is_accepted(self, entries: int) -> None:
        check_litert(flatbuffer(entries=entries))

    def test_vectors_without_a_file_name_none(self) -> None:
        check_litert(flatbuffer(external={8: 0, 9: 0}))

    @pytest.mark.parametrize("external", [{8: 1}, {9: 1}, {8: 0, 9: 2}])
    def test_weights_elsewhere_are_refused(self, external: dict[int, int]) -> None:
        with pytest.raises(ConfigurationError, match="expected everything in one file"):
            check_litert(flatbuffer(external=external))

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
            check_litert(flatbuffer(external={8: 0})[:-cut])

    @given(st.binary(max_size=60))
    def test_any_bytes_are_read_or_refused(self, data: bytes) -> None:
        try:
            check_litert(b"\x08\x00\x00\x00TFL3" + data)
        except ConfigurationError as error:
            assert "expected" in str(error)
