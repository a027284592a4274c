import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3ml.primitives.encoding import from_base64, from_hex, sha256, tagged, tagged_sha256, to_base64
from s3ml.primitives.errors import ConfigurationError


class TestTagged:
    """Two different values never share an encoding."""

    def test_its_form_is_the_specified_one(self) -> None:
        assert tagged("S3ML x v1", b"ab", b"") == b"S3ML x v1\x00\x00\x00\x00\x02ab\x00\x00\x00\x00"

    @given(st.lists(st.binary(max_size=8), max_size=4), st.lists(st.binary(max_size=8), max_size=4))
    def test_different_fields_encode_differently(self, one: list[bytes], other: list[bytes]) -> None:
        assert (tagged("t", *one) == tagged("t", *other)) == (one == other)

    def test_a_tag_with_nul_is_a_mistake(self) -> None:
        with pytest.raises(ValueError, match="NUL"):
            tagged("a\x00b")

    def test_another_tag_has_another_digest(self) -> None:
        assert tagged_sha256("a", b"x") != tagged_sha256("b", b"x")


class TestSha256:
    """The digest is FIPS 180-4's."""

    def test_it_is_the_published_value(self) -> None:
        """Source: FIPS 180-4 example, one block, "abc"."""
        assert sha256(b"abc").hex().startswith("ba7816bf8f01cfea414140de5dae2223")


class TestTextForms:
    """Bytes have one textual form; everything else rejects."""

    @given(st.binary(max_size=64))
    def test_base64_round_trips(self, data: bytes) -> None:
        assert from_base64(to_base64(data), what="x") == data

    @pytest.mark.parametrize("text", ["YQ", "YR==", "Y Q==", "YQ==\n", "é", "-_8="])
    def test_other_base64_rejects(self, text: str) -> None:
        with pytest.raises(ConfigurationError, match="base64"):
            from_base64(text, what="x")

    def test_hex_is_exact(self) -> None:
        assert from_hex("00ff", what="x", size_bytes=2) == b"\x00\xff"

    @pytest.mark.parametrize("text", ["00FF", "00f", "00ff0", "0x00", " 0ff", "00ff\n"])
    def test_other_hex_rejects(self, text: str) -> None:
        with pytest.raises(ConfigurationError, match="expected 4 lower-case"):
            from_hex(text, what="x", size_bytes=2)
