"""The index of a repository, from both sides."""

import pytest

from s3ml.wire.oip import IndexEntry, ModelState, OIPError, decode_index, decode_index_request, encode_index
from s3ml.wire.oip.repository import INDEX_LIMIT

ENTRY = IndexEntry(name="m", version="1", state=ModelState.READY)


class TestRequest:
    """Nothing, an empty object, or whether only what is ready is asked for."""

    @pytest.mark.parametrize(
        ("content", "expected"), [(b"", False), (b"{}", False), (b'{"ready":true,"more":1}', True)]
    )
    def test_is_read(self, content: bytes, *, expected: bool) -> None:
        assert decode_index_request(content) is expected

    @pytest.mark.parametrize(
        "content", [b"[]", b"{", b'{"ready":1}', b'{"ready":"\xff"}', b'{"a":' + b"[" * 100_000]
    )
    def test_anything_else_is_a_400(self, content: bytes) -> None:
        with pytest.raises(OIPError) as rejected:
            decode_index_request(content)

        assert rejected.value.status == 400


class TestIndex:
    """What is encoded is decoded; nothing else is."""

    def test_round_trip(self) -> None:
        failed = IndexEntry(name="m", version="2", state=ModelState.UNAVAILABLE, reason="too large")

        assert decode_index(encode_index((ENTRY, failed))) == (ENTRY, failed)

    @pytest.mark.parametrize("content", [b"", b"{}", b'[{"name":"m","version":"1","state":"GONE"}]', b"\xff"])
    def test_malformed(self, content: bytes) -> None:
        with pytest.raises(OIPError):
            decode_index(content)

    def test_too_many_entries(self) -> None:
        with pytest.raises(OIPError, match="at most 4096"):
            decode_index(encode_index((ENTRY,) * (INDEX_LIMIT + 1)))
