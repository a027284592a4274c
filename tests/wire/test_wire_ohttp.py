"""Oblivious HTTP: one request, one response, one key."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3ml.primitives.errors import ConfigurationError
from s3ml.wire import ohttp
from s3ml.wire.errors import SealRejectedError, UnknownKeyError
from s3ml.wire.hpke import HYBRID_AES256, X25519_AES128, Aead, Kdf, Kem, PrivateKey, Suite
from s3ml.wire.ohttp import (
    DATE_PROBLEM,
    OHTTP_KEY_PROBLEM,
    PROBLEM_MEDIA_TYPE,
    KeyConfig,
    decapsulate_request,
    encapsulate_request,
    encode_key_configs,
    is_problem,
    parse_key_configs,
)

CHACHA = Suite(Kem.X25519, Kdf.HKDF_SHA256, Aead.CHACHA20_POLY1305)


@dataclass(frozen=True, slots=True)
class Key:
    config: KeyConfig
    private_key: PrivateKey


def _key(key_id: int, *suites: Suite) -> Key:
    kem = suites[0].kem
    private_key = PrivateKey.generate(kem)
    config = KeyConfig(key_id=key_id, kem=kem, public_key=private_key.public, suites=suites)
    return Key(config, private_key)


HYBRID = _key(1, HYBRID_AES256)
CLASSIC = _key(2, X25519_AES128, CHACHA)
KEYS: Mapping[int, Key] = {1: HYBRID, 2: CLASSIC}
CONFIGS = (HYBRID.config, CLASSIC.config)


def test_package_exports_what_it_documents() -> None:
    assert set(ohttp.__all__) <= set(dir(ohttp))
    assert ohttp.KEYS_MEDIA_TYPE == "application/ohttp-keys"
    assert ohttp.REQUEST_MEDIA_TYPE == "message/ohttp-req"
    assert ohttp.RESPONSE_MEDIA_TYPE == "message/ohttp-res"


class TestExchange:
    """Whoever opened the request seals the response, and nobody else."""

    @pytest.mark.parametrize("suite", [HYBRID_AES256, X25519_AES128, CHACHA])
    def test_goes_there_and_back(self, suite: Suite) -> None:
        key = HYBRID if suite is HYBRID_AES256 else CLASSIC

        body, opener = encapsulate_request(key.config, b"request", suite=suite)
        opened = decapsulate_request(KEYS, body)

        assert (opened.key_id, opened.plaintext) == (key.config.key_id, b"request")
        assert opener.open(opened.seal_response(b"response")) == b"response"

    def test_the_first_suite_is_the_default(self) -> None:
        body, _ = encapsulate_request(CLASSIC.config, b"request")

        assert body[:7] == b"\x02\x00\x20\x00\x01\x00\x01"

    def test_a_suite_that_is_not_offered_rejects(self) -> None:
        with pytest.raises(ConfigurationError, match="offers"):
            encapsulate_request(HYBRID.config, b"request", suite=X25519_AES128)

    def test_a_response_to_another_request_does_not_open(self) -> None:
        body, _ = encapsulate_request(HYBRID.config, b"request")
        _, opener = encapsulate_request(HYBRID.config, b"request")

        with pytest.raises(SealRejectedError):
            opener.open(decapsulate_request(KEYS, body).seal_response(b"response"))

    def test_a_changed_response_does_not_open(self) -> None:
        body, opener = encapsulate_request(HYBRID.config, b"request")
        sealed = bytearray(decapsulate_request(KEYS, body).seal_response(b"response"))
        sealed[0] ^= 1

        with pytest.raises(SealRejectedError):
            opener.open(bytes(sealed))

    def test_a_truncated_response_does_not_open(self) -> None:
        _, opener = encapsulate_request(HYBRID.config, b"request")

        with pytest.raises(SealRejectedError):
            opener.open(bytes(47))

    def test_each_response_is_sealed_afresh(self) -> None:
        body, _ = encapsulate_request(HYBRID.config, b"request")
        opened = decapsulate_request(KEYS, body)

        assert opened.seal_response(b"response") != opened.seal_response(b"response")

    def test_the_plaintext_does_not_show(self) -> None:
        body, _ = encapsulate_request(HYBRID.config, b"request")

        assert "request" not in repr(decapsulate_request(KEYS, body))


class TestOpening:
    def test_an_unknown_key_id_is_named(self) -> None:
        body, _ = encapsulate_request(replace(HYBRID.config, key_id=9), b"request")

        with pytest.raises(UnknownKeyError, match="id 9"):
            decapsulate_request(KEYS, body)

    @pytest.mark.parametrize(
        ("key_id", "algorithms"),
        [
            pytest.param(1, "002000010001", id="another KEM"),
            pytest.param(2, "002000010002", id="an AEAD that is not offered"),
            pytest.param(2, "002000020001", id="a KDF that is not offered"),
        ],
    )
    def test_algorithms_that_are_not_offered_are_unknown(self, key_id: int, algorithms: str) -> None:
        with pytest.raises(UnknownKeyError):
            decapsulate_request(KEYS, bytes([key_id]) + bytes.fromhex(algorithms) + bytes(2000))

    def test_the_header_is_authenticated(self) -> None:
        """Another suite of the same key does not open the request."""
        body, _ = encapsulate_request(CLASSIC.config, b"request")

        with pytest.raises(SealRejectedError):
            decapsulate_request(KEYS, body[:6] + b"\x03" + body[7:])

    def test_a_truncated_request_does_not_open(self) -> None:
        body, _ = encapsulate_request(CLASSIC.config, b"request")

        for size in (0, 6, 7, 38, 54, len(body) - 1):
            with pytest.raises(SealRejectedError):
                decapsulate_request(KEYS, body[:size])

    @given(body=st.binary(max_size=100), key_id=st.sampled_from([0, 1, 2]))
    def test_anything_is_rejected(self, body: bytes, key_id: int) -> None:
        with pytest.raises((SealRejectedError, UnknownKeyError)):
            decapsulate_request(KEYS, bytes([key_id]) + body)


class TestKeyConfigurations:
    """A list is well-formed as a whole, or rejected as a whole."""

    def test_survive_encoding(self) -> None:
        assert parse_key_configs(encode_key_configs(CONFIGS)) == CONFIGS

    def test_of_an_unknown_kem_are_skipped(self) -> None:
        unknown = b"\x00\x0a\x07\x00\x10" + bytes(7)

        assert parse_key_configs(unknown + encode_key_configs(CONFIGS)) == CONFIGS

    def test_unknown_algorithms_are_skipped(self) -> None:
        encoded = bytearray(encode_key_configs([CLASSIC.config]))
        encoded[-8:-6] = b"\x00\x02"

        (config,) = parse_key_configs(bytes(encoded))

        assert config.suites == (CHACHA,)

    def test_with_unknown_algorithms_only_are_skipped(self) -> None:
        encoded = bytearray(encode_key_configs([HYBRID.config]))
        encoded[-1] = 0xFF

        assert parse_key_configs(bytes(encoded)) == ()

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(b"", id="nothing"),
            pytest.param(b"\x00", id="half a length"),
            pytest.param(b"\x00\x02\x01\x00", id="less than a KEM"),
            pytest.param(encode_key_configs(CONFIGS)[:-1], id="truncated"),
            pytest.param(encode_key_configs(CONFIGS) + b"\x00", id="trailing byte"),
            pytest.param(encode_key_configs([CLASSIC.config] * 2), id="the same id twice"),
            pytest.param(b"\x00\x25\x01\x00\x20" + bytes(32) + b"\x00\x00", id="no algorithms"),
            pytest.param(b"\x00\x28\x01\x00\x20" + bytes(32) + b"\x00\x03" + bytes(3), id="half a pair"),
            pytest.param(b"\x00\x29\x01\x00\x20" + bytes(32) + b"\x00\x08" + bytes(4), id="wrong length"),
            pytest.param(bytes(64 * 1024 + 1), id="too large"),
        ],
    )
    def test_malformed_lists_are_discarded(self, data: bytes) -> None:
        with pytest.raises(ConfigurationError):
            parse_key_configs(data)

    @given(data=st.binary(max_size=200))
    def test_anything_is_accepted_or_rejected(self, data: bytes) -> None:
        try:
            parse_key_configs(data)
        except ConfigurationError:
            return

    @pytest.mark.parametrize("key_id", [-1, 256])
    def test_ids_are_one_byte(self, key_id: int) -> None:
        with pytest.raises(ConfigurationError, match="0 to 255"):
            replace(HYBRID.config, key_id=key_id)

    @pytest.mark.parametrize("suites", [(), (X25519_AES128,)])
    def test_suites_are_of_the_kem(self, suites: tuple[Suite, ...]) -> None:
        with pytest.raises(ConfigurationError, match="at least one suite"):
            replace(HYBRID.config, suites=suites)

    def test_the_public_key_is_checked(self) -> None:
        with pytest.raises(ConfigurationError, match="1216 bytes"):
            replace(HYBRID.config, public_key=bytes(32))


class TestProblems:
    def test_their_documents_are_those_of_the_rfc(self) -> None:
        assert OHTTP_KEY_PROBLEM.content == (
            b'{"type":"https://iana.org/assignments/http-problem-types#ohttp-key",'
            b'"title":"key identifier unknown"}'
        )
        assert DATE_PROBLEM.content == (
            b'{"type":"https://iana.org/assignments/http-problem-types#date",'
            b'"title":"date field in request outside of acceptable range"}'
        )

    @pytest.mark.parametrize("media_type", [PROBLEM_MEDIA_TYPE, "Application/Problem+JSON; charset=utf-8"])
    def test_are_recognised(self, media_type: str) -> None:
        assert is_problem(OHTTP_KEY_PROBLEM, media_type=media_type, content=OHTTP_KEY_PROBLEM.content)

    @pytest.mark.parametrize(
        ("media_type", "content"),
        [
            pytest.param(None, OHTTP_KEY_PROBLEM.content, id="no media type"),
            pytest.param("application/json", OHTTP_KEY_PROBLEM.content, id="another media type"),
            pytest.param(PROBLEM_MEDIA_TYPE, DATE_PROBLEM.content, id="another problem"),
            pytest.param(PROBLEM_MEDIA_TYPE, b"{}", id="no type"),
            pytest.param(PROBLEM_MEDIA_TYPE, b"[]", id="no object"),
            pytest.param(PROBLEM_MEDIA_TYPE, b"", id="nothing"),
            pytest.param(PROBLEM_MEDIA_TYPE, b'{"type":"\xff"}', id="not UTF-8"),
            pytest.param(PROBLEM_MEDIA_TYPE, b'{"a":' + b"[" * 4000 + b"}", id="nested too deep"),
            pytest.param(PROBLEM_MEDIA_TYPE, OHTTP_KEY_PROBLEM.content + b" " * 4096, id="too large"),
        ],
    )
    def test_anything_else_is_none(self, media_type: str | None, content: bytes) -> None:
        assert not is_problem(OHTTP_KEY_PROBLEM, media_type=media_type, content=content)
