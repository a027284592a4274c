"""The key service's formats, byte by byte: the tree, notes, entries, control messages, releases, bundles."""

import base64
import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from s3ml.attestation import parse_policy
from s3ml.keyservice.bindings import identity_info, release_binding, release_info
from s3ml.keyservice.client import Authority, TrustAnchor, identify_genesis, verify_trust_bundle
from s3ml.keyservice.control import open_control
from s3ml.keyservice.documents import (
    RELEASE_TYPE,
    ControlEntry,
    EpochEntry,
    GenesisEntry,
    PresenceEntry,
    Release,
    ReleasesEntry,
)
from s3ml.keyservice.log import Chain, origin
from s3ml.keyservice.parsing import encode_document
from s3ml.keyservice.replaying import audit_digest
from s3ml.primitives.encoding import tagged, tagged_sha256
from s3ml.primitives.envelope import Envelope, pae, parse_envelope
from s3ml.primitives.signing import VerifyKey
from s3ml.transparency.checkpoint import Checkpoint, open_checkpoint
from s3ml.transparency.merkle import EMPTY_ROOT, Tree, leaf_hash, verify_consistency, verify_inclusion
from s3ml.transparency.note import note_key_id, open_note
from s3ml.wire.hpke import HYBRID_AES256, Kem, PrivateKey, open_once

FOLDER = Path(__file__).parent / "vectors"


def load(name: str) -> dict[str, Any]:
    vector: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    assert vector["source"]
    return vector


def raw(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


class TestMerkle:
    vector = load("merkle_rfc6962")
    tree = Tree(leaf_hash(bytes.fromhex(leaf)) for leaf in vector["leaves"])

    def test_roots(self) -> None:
        assert EMPTY_ROOT.hex() == self.vector["empty_root"]
        assert [self.tree.root(size).hex() for size in range(1, 9)] == self.vector["roots"]

    @pytest.mark.parametrize("case", vector["inclusion"])
    def test_inclusion(self, case: dict[str, Any]) -> None:
        index, size, path = case["index"], case["size"], [bytes.fromhex(node) for node in case["path"]]
        assert list(self.tree.inclusion(index, size)) == path
        verify_inclusion(
            index, size, self.tree.leaf(index), path, bytes.fromhex(self.vector["roots"][size - 1])
        )

    @pytest.mark.parametrize("case", vector["consistency"])
    def test_consistency(self, case: dict[str, Any]) -> None:
        first, second = case["first"], case["second"]
        path = [bytes.fromhex(node) for node in case["path"]]
        assert list(self.tree.consistency(first, second)) == path
        roots = [bytes.fromhex(root) for root in self.vector["roots"]]
        verify_consistency(first, roots[first - 1], second, roots[second - 1], path)


class TestSignedNote:
    def test_it_opens_under_its_published_key(self) -> None:
        vector = load("signed_note")
        name, key_id, encoded = vector["verifier_key"].split("+", 2)
        key = raw(encoded)
        assert key[:1] == b"\x01"
        public = VerifyKey(key[1:])
        assert note_key_id(name, public).hex() == key_id
        text, signed = open_note(vector["note"], {name: public})
        assert signed == {"PeterNeumann"}
        assert text.endswith("what your problem is.\n")


class TestEncodings:
    @pytest.mark.parametrize("case", load("encodings")["cases"])
    def test_tagged(self, case: dict[str, Any]) -> None:
        fields = [bytes.fromhex(field) for field in case["fields"]]
        assert tagged(case["tag"], *fields).hex() == case["encoded"]
        assert tagged_sha256(case["tag"], *fields).hex() == case["sha256"]


class TestLog:
    vector = load("log")
    entries = tuple(raw(entry) for entry in vector["entries"])

    def test_entries_chain(self) -> None:
        chain = Chain()
        kinds = [type(chain.append(entry).body) for entry in self.entries]
        assert kinds == [GenesisEntry, ControlEntry, ControlEntry, EpochEntry, PresenceEntry, ReleasesEntry]
        assert chain.deployment == self.vector["deployment"]
        assert [chain.tree.leaf(n).hex() for n in range(6)] == self.vector["leaf_hashes"]
        assert [chain.tree.root(n).hex() for n in range(1, 7)] == self.vector["roots"]

    def test_entries_are_written_as_they_are_read(self) -> None:
        chain = Chain()
        assert tuple(encode_document(chain.append(entry)) for entry in self.entries) == self.entries

    def test_the_deployment_is_the_hash_of_genesis(self) -> None:
        digest = hashlib.sha256(
            b"S3ML deployment v1\x00" + len(self.entries[0]).to_bytes(4, "big") + self.entries[0]
        )
        assert digest.hexdigest() == self.vector["deployment"]

    def test_the_checkpoint(self) -> None:
        key = VerifyKey.parse(self.vector["checkpoint_key"])
        name = origin(self.vector["deployment"])
        root = bytes.fromhex(self.vector["roots"][-1])
        opened = open_checkpoint(self.vector["checkpoint"], origin=name, key=key)
        assert opened == Checkpoint(origin=name, size=6, root=root)
        assert self.vector["checkpoint"].startswith(f"{name}\n6\n{base64.b64encode(root).decode()}\n\n")

    def test_the_audit_stream(self) -> None:
        batch = msgspec.json.decode(self.entries[5])["body"]
        records = [raw(record) for record in self.vector["audit_records"]]
        assert batch["sha256"] == audit_digest(records)


class TestControlMessage:
    vector = load("control_message")

    def test_it_opens(self) -> None:
        genesis = identify_genesis(raw(self.vector["genesis"]))
        assert [str(key) for key in genesis.owners] == self.vector["owners"]
        envelope = msgspec.convert(self.vector["statement"], Envelope)
        opened = open_control(envelope, raw(self.vector["body"]), Authority.of(genesis))
        assert (opened.resource, opened.resource_version) == ("services/tumours", 2)
        message = pae(envelope.payload_type, envelope.payload)
        assert message.startswith(b"DSSEv1 36 application/vnd.s3ml.control.v1+json ")

    def test_the_sealed_identity_opens(self) -> None:
        case = self.vector["identity"]
        names = ("deployment", "service", "policy_sha256", "model", "model_version")
        info = identity_info(**{name: case[name] for name in names})
        assert info.hex() == case["info"]
        key = PrivateKey.from_bytes(Kem.MLKEM768_X25519, bytes.fromhex(case["intake_private_key"]))
        assert open_once(HYBRID_AES256, key, raw(case["sealed"]), info=info).decode() == case["opened"]


class TestRelease:
    def test_it_opens_and_is_signed(self) -> None:
        vector = load("release")
        key = PrivateKey.from_bytes(Kem.MLKEM768_X25519, bytes.fromhex(vector["private_key"]))
        assert key.public == raw(vector["public_key"])
        bound = release_binding(
            deployment=vector["deployment"],
            nonce=bytes.fromhex(vector["nonce"]),
            attester_nonce=bytes.fromhex(vector["attester_nonce"]),
            public_key=key.public,
            service=vector["service"],
            policy_sha256=vector["policy_sha256"],
            log_head=bytes.fromhex(vector["log_head"]),
        ).report_data()
        assert bound.hex() == vector["report_data"]
        assert release_info(bound).hex() == vector["info"]
        opened = open_once(HYBRID_AES256, key, raw(vector["sealed"]), info=release_info(bound))
        assert opened == raw(vector["opened"])
        payload = parse_envelope(opened).verify(
            [VerifyKey.parse(vector["statement_key"])], threshold=1, payload_type=RELEASE_TYPE
        )
        release = msgspec.json.decode(payload, type=Release)
        assert encode_document(release) == payload
        assert release.attester_nonce.hex() == vector["attester_nonce"]


class TestTrustBundle:
    def test_every_step_holds(self) -> None:
        vector = load("trust_bundle")
        now = datetime.fromisoformat(vector["now"])
        verified = verify_trust_bundle(
            vector["bundle"].encode(),
            anchor=TrustAnchor(
                deployment=vector["deployment"],
                key_service_policy=parse_policy(vector["key_service_policy"].encode()),
                allow_simulated=True,
                service_policies={"tumours": parse_policy(vector["service_policy"].encode())},
                follow_owners=False,
                known=(vector["known_size"], bytes.fromhex(vector["known_root"])),
            ),
            service=vector["service"],
            nonce=bytes.fromhex(vector["nonce"]),
            requested_at=now,
            now=now,
        )
        assert (verified.log_size, verified.log_root.hex()) == (vector["log_size"], vector["log_root"])
        assert len(verified.steps) == 12
