"""A caller's proof: it is of one request, sealed once, to one service."""

import base64
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.signing import SigningKey
from s3ml.wire.hpke import HYBRID_AES256, PrivateKey
from s3ml.wire.ohttp import Channel, KeyConfig
from s3ml.wire.sealed import (
    InnerRequest,
    KeyRing,
    RequestSigner,
    RingKey,
    UnsealedRequest,
    parse_proof,
    proof_message,
    seal_request,
    unseal_request,
)

NOW = datetime(2026, 11, 23, 8, 0, 0, tzinfo=UTC)
DEPLOYMENT, OTHER_DEPLOYMENT = "d0" * 32, "d1" * 32
KEY = SigningKey.from_raw(bytes([7]) * 32)
SIGNER = RequestSigner(key=KEY, deployment=DEPLOYMENT, service="tumours")
CHANNEL = Channel(header=bytes(7), public_key=b"p", enc=b"e")
INFER = InnerRequest(
    method="POST",
    path="/v2/models/tumours/infer",
    fields=(("content-type", "application/json"),),
    content=b'{"inputs":[]}',
)
PRIVATE = PrivateKey.generate(HYBRID_AES256.kem)
CONFIG = KeyConfig(key_id=1, kem=PRIVATE.kem, public_key=PRIVATE.public, suites=(HYBRID_AES256,))
RING = KeyRing.of([RingKey(config=CONFIG, private_key=PRIVATE, service="tumours", epoch=1)])


def sealed(signer: RequestSigner = SIGNER, request: InnerRequest = INFER) -> UnsealedRequest:
    return unseal_request(RING, seal_request(CONFIG, request, date=NOW, signer=signer).body)


def holds(unsealed: UnsealedRequest, **changes: Any) -> bool:
    """Tell whether the proof in a request is of it, as a server that believes `changes` sees it."""
    proof = parse_proof(unsealed.request.field("authorization") or "")
    assert proof is not None
    assert proof.key == KEY.public
    fields = {
        "channel": unsealed.exchange.opened.channel,
        "request": unsealed.request,
        "deployment": DEPLOYMENT,
        "service": "tumours",
        **changes,
    }
    return proof.is_of(proof_message(fields.pop("channel"), fields.pop("request"), **fields))


class TestProof:
    """A proof is of one request, and of everything about it."""

    def test_it_holds_where_it_was_made_for(self) -> None:
        assert holds(sealed())

    @pytest.mark.parametrize(
        "change",
        [{"deployment": OTHER_DEPLOYMENT}, {"service": "tumors"}],
        ids=lambda change: next(iter(change)),
    )
    def test_not_elsewhere(self, change: dict[str, str]) -> None:
        assert not holds(sealed(), **change)

    @pytest.mark.parametrize("field", ["header", "public_key", "enc"])
    def test_not_sealed_to_another_key_or_sealed_again(self, field: str) -> None:
        unsealed = sealed()
        channel = unsealed.exchange.opened.channel
        assert not holds(unsealed, channel=replace(channel, **{field: getattr(channel, field) + b"\x00"}))

    @pytest.mark.parametrize(
        "change",
        [
            {"method": "GET"},
            {"path": "/v2/models/other/infer"},
            {"content": b'{"inputs":[1]}'},
            {"fields": ()},
            {"fields": (("content-type", "application/json"), ("date", "Mon, 23 Nov 2026 08:00:00 GMT"))},
            {"fields": (("date", "Mon, 23 Nov 2026 08:00:01 GMT"), ("content-type", "application/json"))},
            {
                "fields": (
                    ("date", "Mon, 23 Nov 2026 08:00:00 GMT"),
                    ("content-type", "application/octet-stream"),
                )
            },
            {"fields": (("date", "Mon, 23 Nov 2026 08:00:00 GMT"),)},
        ],
    )
    def test_not_of_another_request(self, change: dict[str, Any]) -> None:
        unsealed = sealed()
        assert not holds(unsealed, request=replace(unsealed.request, **change))

    def test_a_proof_taken_to_a_request_sealed_later_does_not_hold(self) -> None:
        taken = sealed().request.field("authorization") or ""
        request = replace(INFER, fields=(*INFER.fields, ("authorization", taken)))
        again = unseal_request(RING, seal_request(CONFIG, request, date=NOW).body)
        assert not holds(again)

    def test_another_key_s_signature(self) -> None:
        unsealed = sealed()
        scheme, _, value = (unsealed.request.field("authorization") or "").partition(" ")
        other = SigningKey.generate().public.raw
        text = base64.urlsafe_b64encode(other).rstrip(b"=").decode()
        proof = parse_proof(f"{scheme} {text}.{value.partition('.')[2]}")
        assert proof is not None
        message = proof_message(
            unsealed.exchange.opened.channel, unsealed.request, deployment=DEPLOYMENT, service="tumours"
        )
        assert not proof.is_of(message)


class TestSigning:
    """A proof is added while a request is sealed, once."""

    def test_what_is_signed_already_is_not_signed_again(self) -> None:
        request = replace(INFER, fields=(("authorization", "Bearer x"),))
        with pytest.raises(ConfigurationError, match="expected no authorization"):
            seal_request(CONFIG, request, date=NOW, signer=SIGNER)

    @pytest.mark.parametrize(
        "change", [{"fields": (("accept", "é"),)}, {"path": "/v2/ł"}, {"method": "PÖST"}]
    )
    def test_what_http_cannot_carry_is_refused(self, change: dict[str, Any]) -> None:
        with pytest.raises(ConfigurationError):
            seal_request(CONFIG, replace(INFER, **change), date=NOW, signer=SIGNER)

    def test_nothing_shows_the_private_key(self) -> None:
        assert KEY.to_raw().hex() not in repr(SIGNER)
        assert repr(KEY.to_raw()) not in repr(SIGNER)


class TestForm:
    """A proof has one form."""

    GOOD = SIGNER.authorization(CHANNEL, INFER)

    def test_the_form(self) -> None:
        assert len(self.GOOD) == 10 + 1 + 43 + 1 + 86
        assert parse_proof(self.GOOD) is not None

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "S3ML-Proof",
            GOOD.lower(),
            GOOD.replace(" ", "  "),
            GOOD + "=",
            GOOD + "\n",
            GOOD[:-1],
            " " + GOOD,
            GOOD.replace("-Proof", "-proof"),
            GOOD.replace(".", ","),
            GOOD[:-1] + "_",
            GOOD[:53] + "_" + GOOD[54:],
            "Bearer " + GOOD.partition(" ")[2],
        ],
    )
    def test_no_other(self, text: str) -> None:
        assert parse_proof(text) is None

    @given(st.text())
    def test_anything_is_read_or_ignored(self, text: str) -> None:
        assert parse_proof(text) is None
        assert parse_proof(f"S3ML-Proof {text}") is None
