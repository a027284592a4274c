"""The examples of RFC 9292, section 5."""

import json
from pathlib import Path
from typing import Any

import pytest

from s3ml.wire import bhttp

VECTORS = json.loads((Path(__file__).parent / "vectors" / "bhttp_rfc9292.json").read_text())


def _fields(pairs: list[list[str]]) -> bhttp.Fields:
    return tuple((name.encode(), value.encode()) for name, value in pairs)


def _request(vector: dict[str, Any]) -> bhttp.Request:
    return bhttp.Request(
        method=vector["method"].encode(),
        scheme=vector["scheme"].encode(),
        authority=vector["authority"].encode(),
        path=vector["path"].encode(),
        fields=_fields(vector["fields"]),
        content=vector["content"].encode(),
        trailers=_fields(vector["trailers"]),
    )


def _response(vector: dict[str, Any]) -> bhttp.Response:
    return bhttp.Response(
        status=vector["status"],
        fields=_fields(vector["fields"]),
        content=vector["content"].encode(),
        trailers=_fields(vector["trailers"]),
        informational=tuple(
            bhttp.Informational(status=interim["status"], fields=_fields(interim["fields"]))
            for interim in vector["informational"]
        ),
    )


@pytest.mark.parametrize("vector", VECTORS["requests"], ids=lambda vector: vector["name"])
class TestRequests:
    def test_decodes(self, vector: dict[str, Any]) -> None:
        assert bhttp.decode_request(bytes.fromhex(vector["encoded"])) == _request(vector)

    def test_encodes(self, vector: dict[str, Any]) -> None:
        encoded = bhttp.encode_request(
            _request(vector),
            is_indeterminate=vector["is_indeterminate"],
            padded_length=lambda size: size + vector["padding_bytes"],
        )

        assert encoded.hex() == vector["encoded"]

    def test_means_the_same_without_what_may_be_truncated(self, vector: dict[str, Any]) -> None:
        encoded = bytes.fromhex(vector["encoded"])
        removable = vector["padding_bytes"] + 2

        for size in range(1, removable + 1):
            assert bhttp.decode_request(encoded[:-size]) == _request(vector)


@pytest.mark.parametrize("vector", VECTORS["responses"], ids=lambda vector: vector["name"])
class TestResponses:
    def test_decodes(self, vector: dict[str, Any]) -> None:
        assert bhttp.decode_response(bytes.fromhex(vector["encoded"])) == _response(vector)

    def test_encodes(self, vector: dict[str, Any]) -> None:
        encoded = bhttp.encode_response(_response(vector), is_indeterminate=vector["is_indeterminate"])

        assert encoded.hex() == vector["encoded"]
