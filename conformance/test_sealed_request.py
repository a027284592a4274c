"""Vectors of docs/spec/sealed-request.md: what an implementation in another language opens and makes."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from s3ml.wire.hpke import Kem, PrivateKey
from s3ml.wire.ohttp import parse_key_configs
from s3ml.wire.padding import padded_length
from s3ml.wire.sealed import (
    InnerRequest,
    InnerResponse,
    KeyRing,
    OpenedRequest,
    ReplayGuard,
    RingKey,
    open_request,
    seal_request,
)

DOCUMENT = json.loads((Path(__file__).parent / "vectors" / "sealed_request.json").read_text())
NOW = datetime(2026, 11, 23, 8, 0, 0, tzinfo=UTC)


def _key(vector: dict[str, Any]) -> RingKey:
    (config,) = parse_key_configs(bytes.fromhex(vector["key_configs"]))
    private_key = PrivateKey.from_bytes(config.kem, bytes.fromhex(vector["private_key"]))
    return RingKey(config=config, private_key=private_key, service="tumours", epoch=1)


def _open(vector: dict[str, Any]) -> OpenedRequest:
    body = bytes.fromhex(vector["sealed_request"])
    return open_request(KeyRing.of([_key(vector)]), body, now=NOW, replays=ReplayGuard())


def _fields(pairs: list[list[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in pairs)


def _request(vector: dict[str, Any], *fields: tuple[str, str]) -> InnerRequest:
    request = vector["request"]
    return InnerRequest(
        method=request["method"],
        path=request["path"],
        fields=(*fields, *_fields(request["fields"])),
        content=request["content"].encode(),
    )


def _response(vector: dict[str, Any]) -> InnerResponse:
    response = vector["response"]
    return InnerResponse(
        status=response["status"],
        fields=_fields(response["fields"]),
        content=response["content"].encode(),
    )


@pytest.mark.parametrize("vector", DOCUMENT["vectors"], ids=lambda vector: vector["name"])
class TestExchange:
    def test_the_request_opens(self, vector: dict[str, Any]) -> None:
        opened = _open(vector)

        digest = hashlib.sha256(opened.exchange.opened.plaintext).hexdigest()
        assert digest == vector["plaintext_request_sha256"]
        assert opened.request == _request(vector, ("date", vector["date"]))

    def test_the_response_is_sealed_byte_for_byte(
        self, vector: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened = _open(vector)
        monkeypatch.setattr("secrets.token_bytes", lambda _: bytes.fromhex(vector["response_nonce"]))

        assert opened.seal_response(_response(vector)).hex() == vector["sealed_response"]


@pytest.mark.parametrize(
    "vector", [vector for vector in DOCUMENT["vectors"] if vector["name"] == Kem.X25519.name.lower()]
)
def test_the_x25519_exchange_is_reproduced_by_the_client(
    vector: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secrets.token_bytes", lambda _: bytes.fromhex(vector["ephemeral_x25519"]))

    request = seal_request(_key(vector).config, _request(vector), date=NOW)

    assert request.body.hex() == vector["sealed_request"]
    assert request.open_response(bytes.fromhex(vector["sealed_response"])) == _response(vector)


@pytest.mark.parametrize(("size", "padded"), DOCUMENT["padding"])
def test_padding(size: int, padded: int) -> None:
    assert padded_length(size) == padded
