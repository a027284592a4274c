"""One form of archive."""

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3ml.bundle import BundleMalformedError
from s3ml.bundle.archive import (
    BLOCK_BYTES,
    MEMBER_LIMIT_BYTES,
    Member,
    decode_header,
    encode_header,
    padding_bytes,
)
from s3ml.primitives.errors import ConfigurationError
from tests.bundle.conftest import tar

HEADER = encode_header(Member(name="model.onnx", size_bytes=5))


class TestHeader:
    """A header has one form."""

    @given(
        name=st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}\Z"),
        size=st.integers(min_value=0, max_value=MEMBER_LIMIT_BYTES),
    )
    def test_survives_a_round_trip(self, name: str, size: int) -> None:
        member = Member(name=name, size_bytes=size)

        assert decode_header(encode_header(member)) == member

    def test_is_what_tarfile_reads(self) -> None:
        data = tar(("files.json", b"{}"), ("model.onnx", b"model"))

        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            assert [(m.name, m.size, m.mode, m.mtime) for m in archive] == [
                ("files.json", 2, 0o444, 0),
                ("model.onnx", 5, 0o444, 0),
            ]

    @pytest.mark.parametrize("position", range(BLOCK_BYTES))
    def test_no_other_byte_is_accepted_anywhere(self, position: int) -> None:
        changed = bytearray(HEADER)
        changed[position] ^= 0x81

        with pytest.raises(BundleMalformedError):
            decode_header(bytes(changed))

    @given(st.binary(min_size=BLOCK_BYTES, max_size=BLOCK_BYTES))
    def test_anything_else_is_rejected_with_our_error(self, block: bytes) -> None:
        try:
            assert decode_header(block) is None
        except BundleMalformedError:
            return
        assert block == bytes(BLOCK_BYTES)

    def test_a_link_is_no_plain_file(self) -> None:
        info = tarfile.TarInfo("model.onnx")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"

        with pytest.raises(BundleMalformedError):
            decode_header(info.tobuf(tarfile.USTAR_FORMAT))

    @pytest.mark.parametrize("name", ["../model.onnx", "/model.onnx", "a/b", ".hidden", "", "ä", "x" * 101])
    def test_a_path_is_no_name(self, name: str) -> None:
        with pytest.raises(ConfigurationError, match="expected a name"):
            encode_header(Member(name=name, size_bytes=0))

    def test_a_path_in_an_untrusted_header_is_malformed(self) -> None:
        info = tarfile.TarInfo("../model.onnx")

        with pytest.raises(BundleMalformedError, match="no folders"):
            decode_header(info.tobuf(tarfile.USTAR_FORMAT))

    @pytest.mark.parametrize("size", [-1, MEMBER_LIMIT_BYTES + 1])
    def test_a_size_that_does_not_fit_is_refused(self, size: int) -> None:
        with pytest.raises(ConfigurationError, match="expected at most"):
            encode_header(Member(name="model.onnx", size_bytes=size))

    @pytest.mark.parametrize(("size", "padding"), [(0, 0), (1, 511), (512, 0), (513, 511)])
    def test_padding_leads_to_the_next_block(self, size: int, padding: int) -> None:
        assert padding_bytes(size) == padding
