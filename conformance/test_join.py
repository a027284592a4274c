"""The messages of a join, byte by byte: digests, report data, evidence, and what is sealed."""

import base64
import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from s3ml.attestation import parse_evidence, parse_policy, verify_evidence
from s3ml.keyservice.documents.joining import JoinHello, JoinOffer, JoinReply, JoinRequest
from s3ml.keyservice.joining.transcript import join_info, joiner_binding, source_binding
from s3ml.keyservice.parsing import encode_document
from s3ml.wire.hpke import HYBRID_AES256, Kem, PrivateKey, open_once

VECTOR: dict[str, Any] = json.loads((Path(__file__).parent / "vectors" / "join.json").read_text())
KINDS: dict[str, Any] = {"hello": JoinHello, "offer": JoinOffer, "request": JoinRequest, "reply": JoinReply}
SAID = {name: msgspec.convert(VECTOR["messages"][name], kind) for name, kind in KINDS.items()}


def raw(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


class TestJoin:
    @staticmethod
    def field(*fields: bytes) -> bytes:
        return b"".join(len(one).to_bytes(4, "big") + one for one in fields)

    def test_the_digests_follow_from_the_page(self) -> None:
        hello, offer, request, reply = SAID.values()
        deployment, root = bytes.fromhex(hello.deployment), offer.log_root
        policy, size = bytes.fromhex(offer.policy_sha256), offer.log_size.to_bytes(8, "big")
        digest, evidence = b"", hashlib.sha256(request.evidence).digest()
        sealed, note = hashlib.sha256(reply.sealed).digest(), offer.checkpoint.encode()
        for name, fields in (
            ("hello", (deployment, hello.nonce, hello.public_key)),
            ("offer", (deployment, offer.nonce, policy, size, root, note)),
            ("request", (request.nonce, evidence)),
            ("reply", (sealed,)),
        ):
            before = (digest,) if digest else ()
            encoded = f"S3ML join {name} v1".encode() + b"\0" + self.field(*before, *fields)
            digest = hashlib.sha256(encoded).digest()
            assert digest.hex() == VECTOR[f"{name}_digest"]

    def test_both_report_data(self) -> None:
        hello, offer, request, reply = SAID.values()
        joiner = joiner_binding(hello, offer)
        source = source_binding(hello, offer, request, reply.sealed)
        assert joiner.report_data().hex() == VECTOR["joiner_report_data"]
        assert source.report_data().hex() == VECTOR["source_report_data"]
        assert joiner.public_key == hello.public_key + bytes.fromhex(VECTOR["offer_digest"])
        assert source.public_key == hello.public_key + bytes.fromhex(VECTOR["reply_digest"])

    @pytest.mark.parametrize(("side", "message"), [("joiner", "request"), ("source", "reply")])
    def test_both_pieces_of_evidence(self, side: str, message: str) -> None:
        verified = verify_evidence(
            parse_evidence(SAID[message].evidence),
            parse_policy(raw(VECTOR["policy"])),
            report_data=bytes.fromhex(VECTOR[f"{side}_report_data"]),
            now=datetime.fromisoformat(VECTOR["now"]),
        )
        assert verified.is_simulated

    def test_the_secrets_open(self) -> None:
        info = join_info(bytes.fromhex(VECTOR["request_digest"]))
        assert info.hex() == VECTOR["info"]
        key = PrivateKey.from_bytes(Kem.MLKEM768_X25519, bytes.fromhex(VECTOR["private_key"]))
        assert key.public == SAID["hello"].public_key
        opened = open_once(HYBRID_AES256, key, SAID["reply"].sealed, info=info)
        assert opened == raw(VECTOR["opened"])

    @pytest.mark.parametrize("name", KINDS)
    def test_messages_are_written_as_they_are_read(self, name: str) -> None:
        assert json.loads(encode_document(SAID[name])) == VECTOR["messages"][name]
