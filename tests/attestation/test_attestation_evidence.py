"""Evidence as it travels."""

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3ml.attestation import Evidence, EvidenceMalformedError, Tee, encode_evidence, parse_evidence
from s3ml.attestation.evidence import EVIDENCE_LIMIT_BYTES
from tests.attestation.attestation_world import World

UNHURRIED = settings(deadline=None)
MINIMAL: dict[str, Any] = {"version": 1, "tee": "sgx", "quote": "AA=="}


def parsed(**changes: object) -> Evidence:
    return parse_evidence(json.dumps({**MINIMAL, **changes}).encode())


class TestEncoding:
    """Evidence survives its encoding."""

    def test_round_trip(self, world: World) -> None:
        assert parse_evidence(encode_evidence(world.evidence)) == world.evidence

    def test_minimal(self) -> None:
        assert parsed() == Evidence(tee=Tee.SGX, quote=b"\x00")

    @pytest.mark.parametrize("tee", list(Tee))
    def test_every_kind_of_tee_can_be_read(self, tee: Tee) -> None:
        assert parsed(tee=tee.value).tee is tee

    def test_evidence_with_collateral_fits_the_limit(self, world: World) -> None:
        assert len(encode_evidence(world.evidence)) < EVIDENCE_LIMIT_BYTES / 2


class TestLimits:
    """What is malformed or too large is rejected before anything is considered."""

    @pytest.mark.parametrize(
        "changes",
        [
            {"version": 2},
            {"version": "1"},
            {"tee": "trustzone"},
            {"tee": None},
            {"quote": ""},
            {"quote": "no base64!"},
            {"quote": "A" * 4 * 8192},
            {"quote": 7},
            {"collateral": {}},
            {"collateral": "none"},
            {"event_log": 7},
            {"nonce": "AA=="},
        ],
        ids=str,
    )
    def test_wrong_fields_reject(self, changes: dict[str, Any]) -> None:
        with pytest.raises(EvidenceMalformedError, match="evidence: expected version 1 of"):
            parsed(**changes)

    @pytest.mark.parametrize(
        "edit",
        [
            lambda collateral: collateral.update(pck_certificate_chain="-----BEGIN CERTIFICATE-----"),
            lambda collateral: collateral.update(tcb_info_signature="AA=="),
            lambda collateral: collateral.update(tcb_info="x" * 24 * 1024 + "x"),
            lambda collateral: collateral.pop("root_ca_crl"),
        ],
        ids=["overriding chain", "short signature", "large document", "no root CRL"],
    )
    def test_collateral_is_strict(self, world: World, edit: Callable[[dict[str, Any]], object]) -> None:
        document = json.loads(encode_evidence(world.evidence))
        edit(document["collateral"])
        with pytest.raises(EvidenceMalformedError):
            parse_evidence(json.dumps(document).encode())

    def test_too_large_rejects(self) -> None:
        with pytest.raises(EvidenceMalformedError, match="at most 131072 bytes, got 131073"):
            parse_evidence(b" " * (EVIDENCE_LIMIT_BYTES + 1))

    @pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b'{"version":1}', b"null"])
    def test_no_evidence_at_all_rejects(self, data: bytes) -> None:
        with pytest.raises(EvidenceMalformedError):
            parse_evidence(data)

    @UNHURRIED
    @given(data=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
    def test_any_bytes_are_accepted_or_malformed(self, data: bytes) -> None:
        with contextlib.suppress(EvidenceMalformedError):
            parse_evidence(data)
