"""The exchange of RFC 9458, appendix A, byte for byte on both sides."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from s3ml.wire import bhttp
from s3ml.wire.hpke import X25519_AES128, Kem, PrivateKey
from s3ml.wire.ohttp import (
    KeyConfig,
    decapsulate_request,
    encapsulate_request,
    encode_key_configs,
    parse_key_configs,
)

VECTOR = {
    name: bytes.fromhex(value)
    for name, value in json.loads(
        (Path(__file__).parent / "vectors" / "ohttp_rfc9458.json").read_text()
    ).items()
    if name != "source"
}


@dataclass(frozen=True, slots=True)
class Key:
    config: KeyConfig
    private_key: PrivateKey


@pytest.fixture
def config() -> KeyConfig:
    encoded = VECTOR["key_config"]
    (config,) = parse_key_configs(len(encoded).to_bytes(2, "big") + encoded)
    return config


@pytest.fixture
def keys(config: KeyConfig) -> dict[int, Key]:
    return {1: Key(config, PrivateKey.from_bytes(Kem.X25519, VECTOR["private_key"]))}


class TestKeyConfiguration:
    def test_is_that_of_the_private_key(self, keys: dict[int, Key]) -> None:
        assert keys[1].config.key_id == 1
        assert keys[1].config.suites[0] == X25519_AES128
        assert keys[1].config.public_key == keys[1].private_key.public

    def test_encodes_as_it_was(self, config: KeyConfig) -> None:
        assert encode_key_configs([config])[2:] == VECTOR["key_config"]


class TestRequest:
    def test_is_sealed_byte_for_byte(self, config: KeyConfig, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("secrets.token_bytes", lambda _: VECTOR["ephemeral_private_key"])

        body, _ = encapsulate_request(config, VECTOR["request"])

        assert body == VECTOR["encapsulated_request"]

    def test_opens(self, keys: dict[int, Key]) -> None:
        opened = decapsulate_request(keys, VECTOR["encapsulated_request"])

        assert opened.plaintext == VECTOR["request"]
        assert opened.enc == VECTOR["ephemeral_public_key"]

    def test_is_a_binary_http_request(self) -> None:
        request = bhttp.decode_request(VECTOR["request"])

        assert request == bhttp.Request(method=b"GET", authority=b"example.com", path=b"/")


class TestResponse:
    def test_is_sealed_byte_for_byte(self, keys: dict[int, Key], monkeypatch: pytest.MonkeyPatch) -> None:
        opened = decapsulate_request(keys, VECTOR["encapsulated_request"])
        monkeypatch.setattr("secrets.token_bytes", lambda _: VECTOR["encapsulated_response"][:16])

        assert opened.seal_response(VECTOR["response"]) == VECTOR["encapsulated_response"]

    def test_opens(self, config: KeyConfig, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("secrets.token_bytes", lambda _: VECTOR["ephemeral_private_key"])
        _, opener = encapsulate_request(config, VECTOR["request"])

        assert opener.open(VECTOR["encapsulated_response"]) == VECTOR["response"]

    def test_is_a_binary_http_response(self) -> None:
        assert bhttp.decode_response(VECTOR["response"]) == bhttp.Response(status=200)
