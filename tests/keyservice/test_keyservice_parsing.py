"""Documents from untrusted peers: accepted, or rejected with a documented error."""

from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3ml.keyservice import documents
from s3ml.keyservice.documents import (
    ControlStatement,
    Document,
    LogEntry,
    ReleasedKey,
    ReleasedModel,
    TrustBundle,
)
from s3ml.keyservice.errors import RefusedError, mismatch
from s3ml.keyservice.parsing import DocumentMalformedError, parse_document
from s3ml.primitives.envelope import Envelope

KINDS = [
    kind
    for kind in vars(documents).values()
    if isinstance(kind, type) and issubclass(kind, Document) and kind is not Document
]


class TestDocuments:
    @given(st.sampled_from(KINDS), st.binary(max_size=200))
    def test_bytes_are_a_document_or_an_error(self, kind: type[Document], data: bytes) -> None:
        with suppress(DocumentMalformedError):
            assert isinstance(parse_document(data, kind, what="document", limit_bytes=1000), kind)

    def test_a_deep_document_is_an_error(self) -> None:
        with pytest.raises(DocumentMalformedError):
            parse_document(b"[" * 100_000, list, what="document", limit_bytes=200_000)

    def test_a_large_document_is_not_looked_at(self) -> None:
        with pytest.raises(DocumentMalformedError, match="at most 10 bytes, got 11"):
            parse_document(b" " * 11, TrustBundle, what="bundle", limit_bytes=10)

    def test_unknown_fields_reject(self) -> None:
        with pytest.raises(DocumentMalformedError, match="unknown field"):
            parse_document(b'{"kind":"log","surprise":1}', LogEntry, what="entry", limit_bytes=1000)

    @pytest.mark.parametrize(
        "resource",
        [
            "policies/..",
            "policies/a/b",
            "policies/-a",
            "policies/a-",
            "services/A",
            "services/tumоurs",
            "services/",
            "keys/a",
            "services/a\n",
            "services/" + "a" * 64,
            "/services/a",
            "services/a%2f",
        ],
    )
    def test_look_alike_and_climbing_names_reject(self, resource: str) -> None:
        fields = {
            "deployment": "ab" * 32,
            "method": "PUT",
            "resource": resource,
            "resource_version": 1,
            "previous_sha256": "",
            "body_sha256": "ab" * 32,
            "nonce": bytes(32),
            "created_at": "2026-01-01T00:00:00Z",
        }
        with pytest.raises(DocumentMalformedError, match="resource"):
            parse_document(msgspec.json.encode(fields), ControlStatement, what="x", limit_bytes=1000)


class TestSecretsStaySecret:
    def test_no_repr_shows_them(self) -> None:
        key = ReleasedKey(key_config=b"public", private_key=b"very secret")
        model = ReleasedModel(
            manifest=Envelope(payload_type="t", payload=b""), identity="AGE-SECRET-KEY-1SECRET"
        )
        assert "secret" not in repr((key, model)).lower().replace("redacted", "")


class TestRefusals:
    def test_all_mismatches_are_told(self) -> None:
        error = RefusedError("thing", [mismatch("a", expected=1, got=2), mismatch("b", expected=3, got=4)])
        assert str(error) == "thing: a: expected 1, got 2; b: expected 3, got 4"
