"""The vectors of RFC 9180 and of the hybrid KEM's drafts, recipient and sender."""

import json
from pathlib import Path
from typing import Any

import pytest

from s3ml.wire.hpke import (
    Aead,
    Kdf,
    Kem,
    PrivateKey,
    RecipientContext,
    SenderContext,
    Suite,
    setup_recipient,
    setup_sender,
)

VECTORS = Path(__file__).parent / "vectors"


def _load(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((VECTORS / name).read_text())
    return document


RFC9180 = _load("hpke_rfc9180.json")["vectors"]
HYBRID = _load("hpke_hybrid.json")["vectors"]
HYBRID_KEM_ONLY = _load("hpke_hybrid.json")["kem_only"]
XWING = _load("xwing.json")["vectors"]


def _suite(vector: dict[str, Any]) -> Suite:
    return Suite(Kem(vector["kem_id"]), Kdf(vector["kdf_id"]), Aead(vector["aead_id"]))


def _name(vector: dict[str, Any]) -> str:
    return f"{Kem(vector['kem_id']).name}-{vector.get('aead_id', 'kem-only')}"


def _recipient(vector: dict[str, Any]) -> RecipientContext:
    private_key = PrivateKey.from_bytes(Kem(vector["kem_id"]), bytes.fromhex(vector["skRm"]))
    enc, info = bytes.fromhex(vector["enc"]), bytes.fromhex(vector["info"])
    return setup_recipient(_suite(vector), private_key, enc, info)


@pytest.mark.parametrize("vector", [*RFC9180, *HYBRID], ids=_name)
class TestSchedule:
    def test_opens_every_ciphertext_at_its_place(self, vector: dict[str, Any]) -> None:
        context = _recipient(vector)
        sender = SenderContext(
            _suite(vector), bytes.fromhex(vector["shared_secret"]), bytes.fromhex(vector["info"])
        )
        by_sequence = {entry["sequence_number"]: entry for entry in vector["encryptions"]}

        for sequence in range(max(by_sequence) + 1):
            entry = by_sequence.get(sequence, {"aad": "", "pt": ""})
            aad, plaintext = bytes.fromhex(entry["aad"]), bytes.fromhex(entry["pt"])
            sealed = sender.seal(plaintext, aad)
            assert sealed.hex() == entry.get("ct", sealed.hex())
            assert context.open(sealed, aad) == plaintext

    def test_exports_every_value(self, vector: dict[str, Any]) -> None:
        context = _recipient(vector)

        for entry in vector["exports"]:
            exported = context.export(bytes.fromhex(entry["exporter_context"]), entry["L"])
            assert exported.hex() == entry["exported_value"]


@pytest.mark.parametrize("vector", [*RFC9180, *HYBRID, *HYBRID_KEM_ONLY], ids=_name)
class TestKem:
    def test_private_key_gives_the_public_key(self, vector: dict[str, Any]) -> None:
        private_key = PrivateKey.from_bytes(Kem(vector["kem_id"]), bytes.fromhex(vector["skRm"]))

        assert private_key.public.hex() == vector["pkRm"]

    def test_decapsulates(self, vector: dict[str, Any]) -> None:
        private_key = PrivateKey.from_bytes(Kem(vector["kem_id"]), bytes.fromhex(vector["skRm"]))

        assert private_key.decapsulate(bytes.fromhex(vector["enc"])).hex() == vector["shared_secret"]


@pytest.mark.parametrize("vector", RFC9180, ids=_name)
def test_sender_makes_the_vector_from_its_ephemeral_key(
    vector: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secrets.token_bytes", lambda _: bytes.fromhex(vector["skEm"]))

    enc, context = setup_sender(_suite(vector), bytes.fromhex(vector["pkRm"]), bytes.fromhex(vector["info"]))

    first = vector["encryptions"][0]
    assert enc.hex() == vector["enc"]
    assert context.seal(bytes.fromhex(first["pt"]), bytes.fromhex(first["aad"])).hex() == first["ct"]


@pytest.mark.parametrize("vector", XWING)
class TestXWing:
    def test_seed_gives_the_public_key(self, vector: dict[str, Any]) -> None:
        private_key = PrivateKey.from_bytes(Kem.MLKEM768_X25519, bytes.fromhex(vector["seed"]))

        assert private_key.public.hex() == vector["pk"]
        assert private_key.to_bytes().hex() == vector["sk"]

    def test_decapsulates(self, vector: dict[str, Any]) -> None:
        private_key = PrivateKey.from_bytes(Kem.MLKEM768_X25519, bytes.fromhex(vector["seed"]))

        assert private_key.decapsulate(bytes.fromhex(vector["ct"])).hex() == vector["ss"]
