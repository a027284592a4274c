"""Messages of a join from anybody: within their limits and of their exact type, or refused as malformed."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3ml.keyservice.documents.joining import (
    JOIN_HELLO_LIMIT_BYTES,
    JOIN_OFFER_LIMIT_BYTES,
    JOIN_REPLY_LIMIT_BYTES,
    JOIN_REQUEST_LIMIT_BYTES,
    SEALED_LIMIT_BYTES,
    SECRETS_LIMIT_BYTES,
    JoinHello,
    JoinOffer,
    JoinReply,
    JoinRequest,
)
from s3ml.keyservice.parsing import DocumentMalformedError, encode_document, parse_document
from s3ml.primitives.encoding import to_base64
from s3ml.primitives.units import KIB

NONCE = bytes(32)
LARGEST: dict[type[msgspec.Struct], msgspec.Struct] = {
    JoinHello: JoinHello(deployment="ab" * 32, nonce=NONCE, public_key=bytes(1216)),
    JoinOffer: JoinOffer(
        deployment="ab" * 32,
        nonce=NONCE,
        policy_sha256="cd" * 32,
        log_size=2**63 - 1,
        log_root=NONCE,
        checkpoint="\n" * 16 * KIB + "x" * 16 * KIB,
    ),
    JoinRequest: JoinRequest(nonce=NONCE, evidence=bytes(128 * KIB)),
    JoinReply: JoinReply(sealed=bytes(SEALED_LIMIT_BYTES), evidence=bytes(128 * KIB)),
}
LIMITS = {
    JoinHello: JOIN_HELLO_LIMIT_BYTES,
    JoinOffer: JOIN_OFFER_LIMIT_BYTES,
    JoinRequest: JOIN_REQUEST_LIMIT_BYTES,
    JoinReply: JOIN_REPLY_LIMIT_BYTES,
}
KINDS = list(LARGEST)
FIELDS = [(kind, field) for kind in KINDS for field in kind.__struct_fields__ if field != "version"]
WRONG: dict[str, list[Any]] = {
    "deployment": ["", "AB" * 32, "ab" * 31, "ab" * 33, "ab" * 32 + "\n", 7],
    "nonce": ["", "AA==", "A" * 42 + "==", "?" * 44, None],
    "public_key": ["", "AA==", "A" * 1624, 1],
    "policy_sha256": ["", "zz" * 32],
    "log_size": [0, -1, 2**63, 1.5, "4"],
    "log_root": ["", "AA=="],
    "checkpoint": ["", "x" * (32 * KIB + 1), None],
    "evidence": ["", "*", 5],
    "sealed": ["", "AA==", "A" * 1488],
}


def read(kind: type[msgspec.Struct], data: bytes) -> msgspec.Struct:
    return parse_document(data, kind, what="join", limit_bytes=LIMITS[kind])


def plain(kind: type[msgspec.Struct]) -> dict[str, Any]:
    small = msgspec.structs.replace(
        LARGEST[kind],
        **({"evidence": b"{}"} if "evidence" in kind.__struct_fields__ else {}),
        **({"sealed": bytes(1120)} if "sealed" in kind.__struct_fields__ else {}),
    )
    found: dict[str, Any] = msgspec.json.decode(encode_document(small))
    return found


@pytest.mark.parametrize("kind", KINDS)
class TestEach:
    def test_the_largest_is_read(self, kind: type[msgspec.Struct]) -> None:
        assert read(kind, encode_document(LARGEST[kind])) == LARGEST[kind]

    def test_one_byte_more_than_the_limit_is_not_looked_at(self, kind: type[msgspec.Struct]) -> None:
        data = encode_document(LARGEST[kind])
        assert read(kind, data.ljust(LIMITS[kind])) == LARGEST[kind]
        with pytest.raises(DocumentMalformedError, match="expected at most"):
            read(kind, data.ljust(LIMITS[kind] + 1))

    @pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 4000, b'{"a":' * 600])
    def test_no_document(self, kind: type[msgspec.Struct], data: bytes) -> None:
        with pytest.raises(DocumentMalformedError):
            read(kind, data)

    def test_an_unknown_field(self, kind: type[msgspec.Struct]) -> None:
        with pytest.raises(DocumentMalformedError, match="unknown field"):
            read(kind, msgspec.json.encode({**plain(kind), "debug": True}))

    def test_another_version(self, kind: type[msgspec.Struct]) -> None:
        with pytest.raises(DocumentMalformedError, match="version"):
            read(kind, msgspec.json.encode({**plain(kind), "version": 2}))

    @settings(max_examples=60, deadline=None)
    @given(data=st.data())
    def test_any_change_is_read_or_malformed(self, kind: type[msgspec.Struct], data: st.DataObject) -> None:
        changed = bytearray(msgspec.json.encode(plain(kind)))
        for _ in range(data.draw(st.integers(1, 4))):
            position = data.draw(st.integers(0, len(changed) - 1))
            changed[position] = data.draw(st.integers(0, 255))
        try:
            read(kind, bytes(changed))
        except DocumentMalformedError:
            return


@pytest.mark.parametrize(("kind", "field"), FIELDS)
class TestFields:
    def test_a_missing_one(self, kind: type[msgspec.Struct], field: str) -> None:
        rest = {name: value for name, value in plain(kind).items() if name != field}
        with pytest.raises(DocumentMalformedError, match=field):
            read(kind, msgspec.json.encode(rest))

    def test_a_wrong_one(self, kind: type[msgspec.Struct], field: str) -> None:
        for value in WRONG[field]:
            with pytest.raises(DocumentMalformedError):
                read(kind, msgspec.json.encode({**plain(kind), field: value}))


class TestOversized:
    @pytest.mark.parametrize("kind", [JoinRequest, JoinReply])
    def test_evidence(self, kind: type[msgspec.Struct]) -> None:
        large = to_base64(bytes(128 * KIB + 1))
        with pytest.raises(DocumentMalformedError, match="evidence"):
            read(kind, msgspec.json.encode({**plain(kind), "evidence": large}))

    def test_what_is_sealed(self) -> None:
        reply = msgspec.structs.replace(LARGEST[JoinReply], sealed=bytes(SEALED_LIMIT_BYTES + 1))
        with pytest.raises(DocumentMalformedError, match="sealed"):
            read(JoinReply, encode_document(reply))
        assert SECRETS_LIMIT_BYTES + 1120 + 16 <= SEALED_LIMIT_BYTES

    @pytest.mark.parametrize("text", [r"\ud800", r"\udc00", r"\ud800\ud800"])
    def test_text_that_is_no_unicode(self, text: str) -> None:
        data = msgspec.json.encode({**plain(JoinOffer), "checkpoint": "PLACE"})
        with pytest.raises(DocumentMalformedError):
            read(JoinOffer, data.replace(b"PLACE", text.encode()))
