"""Vectors of docs/spec/callers.md and docs/spec/secrets.md."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from s3ml.keyservice.bindings import secret_commitment, secret_info
from s3ml.keyservice.documents import OpaqueSecretDocument, SecretDocument, TokenCallers
from s3ml.modelserver.tokens import TokenReader, is_admitted
from s3ml.primitives.encoding import tagged
from s3ml.primitives.signing import SigningKey, VerifyKey
from s3ml.wire.hpke import HYBRID_AES256, Kem, PrivateKey, open_once
from s3ml.wire.ohttp import Channel, KeyConfig
from s3ml.wire.sealed import (
    InnerRequest,
    KeyRing,
    RequestSigner,
    RingKey,
    parse_proof,
    proof_message,
    unseal_request,
)

FOLDER = Path(__file__).parent / "vectors"


def load(name: str) -> dict[str, Any]:
    vector: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    assert vector["source"]
    return vector


def raw(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


class TestProof:
    vector = load("callers")["proof"]

    def request(self) -> InnerRequest:
        return InnerRequest(
            method=self.vector["method"],
            path=self.vector["path"],
            fields=tuple((name, value) for name, value in self.vector["fields"]),
            content=raw(self.vector["content"]),
        )

    def channel(self) -> Channel:
        return Channel(
            header=bytes.fromhex(self.vector["header"]),
            public_key=bytes.fromhex(self.vector["recipient_public_key"]),
            enc=bytes.fromhex(self.vector["enc"]),
        )

    def test_the_message(self) -> None:
        """Once by the code, and once by the words of the page."""
        vector, request = self.vector, self.request()
        names = {"deployment": vector["deployment"], "service": vector["service"]}
        assert proof_message(self.channel(), request, **names).hex() == vector["message"]
        fields = b"".join(
            len(text).to_bytes(4, "big") + text.encode() for field in vector["fields"] for text in field
        )
        parts = (
            bytes.fromhex(vector["deployment"]),
            vector["service"].encode(),
            bytes.fromhex(vector["header"]),
            bytes.fromhex(vector["recipient_public_key"]),
            bytes.fromhex(vector["enc"]),
            vector["method"].encode(),
            vector["path"].encode(),
            hashlib.sha256(b"S3ML inner fields v1\x00" + fields).digest(),
            hashlib.sha256(raw(vector["content"])).digest(),
        )
        assert tagged("S3ML caller proof v1", *parts).hex() == vector["message"]

    def test_the_field(self) -> None:
        vector = self.vector
        key = SigningKey.from_raw(bytes.fromhex(vector["caller_private_key"]))
        assert str(key.public) == vector["caller_public_key"]
        signer = RequestSigner(key=key, deployment=vector["deployment"], service=vector["service"])
        assert signer.authorization(self.channel(), self.request()) == vector["authorization"]
        proof = parse_proof(vector["authorization"])
        assert proof is not None
        assert proof.key == VerifyKey.parse(vector["caller_public_key"])
        assert proof.is_of(bytes.fromhex(vector["message"]))

    def test_one_in_a_sealed_request(self) -> None:
        vector, sealed = self.vector, self.vector["sealed"]
        private = PrivateKey.from_bytes(Kem.MLKEM768_X25519, bytes.fromhex(sealed["recipient_private_key"]))
        config = KeyConfig(
            key_id=sealed["key_id"], kem=private.kem, public_key=private.public, suites=(HYBRID_AES256,)
        )
        ring = KeyRing.of([RingKey(config=config, private_key=private, service="tumours", epoch=1)])
        opened = unseal_request(ring, raw(sealed["body"]))
        proof = parse_proof(opened.request.field("authorization") or "")
        assert proof is not None
        names = {"deployment": vector["deployment"], "service": vector["service"]}
        assert proof.is_of(proof_message(opened.exchange.opened.channel, opened.request, **names))


class TestTokens:
    vector = load("callers")["tokens"]
    rule = msgspec.convert(vector["rule"], TokenCallers)
    reader = TokenReader([rule])

    def is_let_in(self, text: str) -> bool:
        found = self.reader.read(text)
        return found is not None and is_admitted(found, self.rule, now_s=float(self.vector["now"]))

    @pytest.mark.parametrize("name", vector["admitted"])
    def test_admitted(self, name: str) -> None:
        assert self.is_let_in(self.vector["admitted"][name])

    @pytest.mark.parametrize("name", vector["refused"])
    def test_refused(self, name: str) -> None:
        assert not self.is_let_in(self.vector["refused"][name])


class TestSecret:
    vector = load("secrets")

    def test_it_opens_for_its_purpose(self) -> None:
        vector = self.vector
        names = ("deployment", "service", "secret", "policy_sha256")
        info = secret_info(**{name: vector[name] for name in names})
        assert info.hex() == vector["info"]
        key = PrivateKey.from_bytes(Kem.MLKEM768_X25519, bytes.fromhex(vector["intake_private_key"]))
        opened = open_once(HYBRID_AES256, key, raw(vector["sealed"]), info=info)
        assert opened == bytes.fromhex(vector["salt"]) + raw(vector["value"])

    def test_its_document_commits_to_it(self) -> None:
        vector = self.vector
        document: SecretDocument = msgspec.convert(vector["document"], SecretDocument)
        assert isinstance(document, OpaqueSecretDocument)
        assert document.sealed_sha256 == hashlib.sha256(raw(vector["sealed"])).hexdigest()
        salt, value = bytes.fromhex(vector["salt"]), raw(vector["value"])
        assert document.commitment == secret_commitment(salt, value)
        encoded = b"S3ML secret commitment v1\x00" + b"".join(
            len(part).to_bytes(4, "big") + part for part in (salt, value)
        )
        assert document.commitment == hashlib.sha256(encoded).hexdigest()
