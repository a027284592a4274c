import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3ml.primitives.aead import OVERHEAD_BYTES, StorageTamperedError, unwrap, wrap
from s3ml.primitives.secret import SecretBytes

KEY = SecretBytes(bytes(32))


class TestWrapping:
    """A stored ciphertext opens under its key and its name, whole, and in no other way."""

    @given(st.binary(max_size=100), st.binary(max_size=20))
    def test_it_opens_under_its_context(self, plaintext: bytes, context: bytes) -> None:
        assert unwrap(KEY, wrap(KEY, plaintext, context=context), context=context) == plaintext

    def test_two_wrappings_differ(self) -> None:
        assert wrap(KEY, b"x", context=b"c") != wrap(KEY, b"x", context=b"c")

    def test_another_context_rejects(self) -> None:
        with pytest.raises(StorageTamperedError):
            unwrap(KEY, wrap(KEY, b"x", context=b"a"), context=b"b")

    def test_another_key_rejects(self) -> None:
        with pytest.raises(StorageTamperedError):
            unwrap(SecretBytes(b"\x01" * 32), wrap(KEY, b"x", context=b"a"), context=b"a")

    def test_every_flipped_byte_rejects(self) -> None:
        sealed = wrap(KEY, b"x", context=b"a")
        for index in range(len(sealed)):
            changed = bytearray(sealed)
            changed[index] ^= 1
            with pytest.raises(StorageTamperedError):
                unwrap(KEY, bytes(changed), context=b"a")

    def test_too_short_rejects(self) -> None:
        with pytest.raises(StorageTamperedError):
            unwrap(KEY, b"\x01" + bytes(OVERHEAD_BYTES - 2), context=b"a")
