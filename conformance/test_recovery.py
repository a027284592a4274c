"""Recovery against its vectors, and against the page that defines it (docs/spec/recovery.md)."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from conformance.vectors.make_recovery import Stream
from s3ml.apps.governance.share_file import combine_files, parse_share
from s3ml.attestation import Binding
from s3ml.keyservice.documents import SHARE_SET_TYPE, RecoveryRequest
from s3ml.keyservice.escrow import judge_recovery
from s3ml.keyservice.escrow.binding import contribution_info, outcome_binding, request_binding
from s3ml.keyservice.escrow.shares import verify_share_set
from s3ml.keyservice.escrow.splitting import Outline, Piece, combine, split
from s3ml.primitives.envelope import Envelope, Signature
from s3ml.primitives.secret import SecretBytes
from s3ml.primitives.signing import VerifyKey

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "vectors" / "recovery.json").read_text())


def encoded(tag: bytes, *fields: bytes) -> bytes:
    return tag + b"\x00" + b"".join(len(field).to_bytes(4, "big") + field for field in fields)


def hashed(tag: bytes, *fields: bytes) -> bytes:
    return hashlib.sha256(encoded(tag, *fields)).digest()


def product(left: int, right: int) -> int:
    """Multiply two polynomials as schoolchildren do, then divide by x^8 + x^4 + x^3 + x + 1."""
    whole = 0
    for bit in range(8):
        if right >> bit & 1:
            whole ^= left << bit
    for degree in range(14, 7, -1):
        if whole >> degree & 1:
            whole ^= 0x11B << (degree - 8)
    return whole


@pytest.mark.parametrize("vector", VECTORS["splittings"], ids=lambda v: f"{v['threshold']} of {v['count']}")
class TestSplitting:
    def test_the_package_splits(self, vector: dict[str, Any]) -> None:
        outline, pieces = split(
            SecretBytes(bytes.fromhex(vector["secret"])),
            threshold=vector["threshold"],
            count=vector["count"],
            context=bytes.fromhex(vector["context"]),
            random_bytes=Stream(),
        )
        assert [piece.value.reveal().hex() for piece in pieces] == vector["values"]
        assert outline.commitment.hex() == vector["commitment"]
        assert [digest.hex() for digest in outline.digests] == vector["digests"]

    def test_the_package_combines(self, vector: dict[str, Any]) -> None:
        outline = Outline(
            threshold=vector["threshold"],
            commitment=bytes.fromhex(vector["commitment"]),
            digests=tuple(bytes.fromhex(digest) for digest in vector["digests"]),
        )
        pieces = [
            Piece(index=index, value=SecretBytes(bytes.fromhex(value)))
            for index, value in enumerate(vector["values"], start=1)
        ]
        found = combine(outline, pieces[-vector["threshold"] :], context=bytes.fromhex(vector["context"]))
        assert found.reveal().hex() == vector["secret"]

    def test_the_page(self, vector: dict[str, Any]) -> None:
        """Powers of the point, one element at a time, without the package."""
        blinded = bytes.fromhex(vector["blinding"] + vector["secret"])
        # The first coefficient drawn is that of the highest power.
        polynomial = [blinded, *(bytes.fromhex(one) for one in reversed(vector["coefficients"]))]
        context, numbers = bytes.fromhex(vector["context"]), bytes([vector["threshold"], vector["count"]])
        commitment = hashed(b"S3ML share commitment v1", context, numbers, blinded)
        assert commitment.hex() == vector["commitment"]
        for point, (value, digest) in enumerate(
            zip(vector["values"], vector["digests"], strict=True), start=1
        ):
            expected, power = bytearray(len(blinded)), 1
            for coefficient in polynomial:
                for place, element in enumerate(coefficient):
                    expected[place] ^= product(element, power)
                power = product(power, point)
            assert expected.hex() == value
            assert (
                hashed(b"S3ML share v1", context, commitment, bytes([point]), bytes(expected)).hex() == digest
            )


class TestShareSet:
    VECTOR = VECTORS["share_set"]

    def test_the_package(self) -> None:
        payload = self.VECTOR["payload"].encode()
        key = VerifyKey.parse(self.VECTOR["statement_key"])
        signature = Signature(keyid=key.key_id, sig=base64.b64decode(self.VECTOR["signature"]))
        envelope = Envelope(payload_type=SHARE_SET_TYPE, payload=payload, signatures=(signature,))
        found = verify_share_set(envelope, deployment=self.VECTOR["deployment"], statement_key=key)
        assert found.sha256 == self.VECTOR["id"]
        assert found.document.recipients == judge_recovery(VECTORS["terms"].encode()).holders

    def test_the_page(self) -> None:
        payload = json.loads(self.VECTOR["payload"])
        assert hashlib.sha256(self.VECTOR["payload"].encode()).hexdigest() == self.VECTOR["id"]
        context = encoded(b"S3ML wrapping key shares v1", bytes.fromhex(self.VECTOR["deployment"]))
        blinded = Stream()(32) + bytes.fromhex(self.VECTOR["wrapping_key"])
        commitment = hashed(b"S3ML share commitment v1", context, bytes([2, 3]), blinded)
        assert base64.b64decode(payload["commitment"]) == commitment


@pytest.mark.parametrize("vector", VECTORS["requests"], ids=lambda vector: vector["purpose"])
class TestRequest:
    def request(self, vector: dict[str, Any]) -> RecoveryRequest:
        fields = dict(vector["fields"])
        for name in ("asker_nonce", "nonce", "public_key", "log_root"):
            fields[name] = bytes.fromhex(fields[name])
        return RecoveryRequest(purpose=vector["purpose"], evidence=b"", **fields)

    def test_the_package(self, vector: dict[str, Any]) -> None:
        request = self.request(vector)
        data = request_binding(request).report_data()
        assert data.hex() == vector["report_data"]
        assert contribution_info(vector["purpose"], data).hex() == vector["contribution_info"]
        bound = outcome_binding(request, outcome=vector["outcome"].encode(), attester_nonce=bytes(32))
        assert bound.verifier_nonce.hex() == vector["outcome_verifier_nonce"]

    def test_the_page(self, vector: dict[str, Any]) -> None:
        fields = vector["fields"]
        nonce = hashed(
            b"S3ML recovery request v1",
            vector["purpose"].encode(),
            bytes.fromhex(fields["asker_nonce"]),
            bytes.fromhex(fields["share_set"]),
            fields["log_size"].to_bytes(8, "big"),
        )
        assert nonce.hex() == vector["verifier_nonce"]
        binding = Binding(
            purpose="recovery",
            deployment=bytes.fromhex(fields["deployment"]),
            role="key-service",
            verifier_nonce=nonce,
            attester_nonce=bytes.fromhex(fields["nonce"]),
            public_key=bytes.fromhex(fields["public_key"]),
            service="",
            policy_digest=bytes.fromhex(fields["policy_sha256"]),
            log_head=bytes.fromhex(fields["log_root"]),
        )
        data = binding.report_data()
        assert data.hex() == vector["report_data"]
        assert hashlib.sha256(data).hexdigest() == vector["request_id"]
        info = encoded(b"S3ML recovery contribution v1", vector["purpose"].encode(), data)
        assert info.hex() == vector["contribution_info"]
        outcome = hashlib.sha256(vector["outcome"].encode()).digest()
        assert hashed(b"S3ML rehearsal outcome v1", data, outcome).hex() == vector["outcome_verifier_nonce"]


class TestShareFile:
    VECTOR = VECTORS["share_files"]

    def test_the_package(self) -> None:
        shares = {
            name: parse_share(text.encode(), what=name)
            for name, text in zip("abc", self.VECTOR["files"], strict=True)
        }
        del shares["b"]
        assert combine_files(shares).reveal().hex() == self.VECTOR["secret"]

    def test_the_page(self) -> None:
        rows = self.VECTOR["files"][1].splitlines()[2:-1]
        body = b""
        for number, row in enumerate(rows, start=1):
            *groups, check = row.split()
            text = "".join(groups)
            data = base64.b32decode(text + "=" * (-len(text) % 8))
            assert (
                base64.b32encode(hashed(b"S3ML share line v1", bytes([number]), data))[:4].decode() == check
            )
            body += data
        assert list(body[:4]) == [1, 2, 3, 2]
        value = body[4 + 32 + 3 * 32 :]
        context = encoded(b"S3ML file shares v1")
        digest = hashed(b"S3ML share v1", context, body[4:36], bytes([2]), value)
        assert digest == body[4 + 32 + 32 : 4 + 32 + 64]
