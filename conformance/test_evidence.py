"""Evidence and its verification against vectors: one honest piece, and what happens to it otherwise."""

import json
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from s3ml.attestation import (
    Evidence,
    EvidenceMalformedError,
    EvidenceRejectedError,
    VerifiedEnclave,
    parse_evidence,
    policy_from_table,
    verify_evidence,
)
from s3ml.attestation.verify import SgxClaims

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "vectors" / "evidence.json").read_text())


def evidence(case: dict[str, Any]) -> Evidence:
    """Return the honest evidence with the case's change to its quote."""
    honest = parse_evidence(json.dumps(VECTORS["evidence"]).encode())
    quote = bytearray(honest.quote + bytes.fromhex(case.get("quote_append", "")))
    if change := case.get("quote_xor"):
        quote[change["offset"]] ^= change["mask"]
    return msgspec.structs.replace(honest, quote=bytes(quote))


def found_claims(enclave: VerifiedEnclave) -> dict[str, Any]:
    """Return what was proven, by the names of the vectors."""
    assert isinstance(enclave.claims, SgxClaims)
    tcb = enclave.claims.tcb
    return {
        **asdict(enclave),
        **asdict(enclave.claims),
        "tcb_status": tcb.status,
        "advisories": tcb.advisories,
        "tcb_evaluation_data_number": tcb.evaluation_data_number,
    }


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["name"])
class TestVerification:
    """Each case is accepted, rejected for the named claims, or malformed."""

    def test_case(self, case: dict[str, Any]) -> None:
        policy = policy_from_table(case.get("policy", VECTORS["policy"]))
        report_data = bytes.fromhex(case.get("report_data", VECTORS["report_data"]))
        found: dict[str, Any]
        try:
            enclave = verify_evidence(
                evidence(case), policy, report_data=report_data, now=datetime.fromisoformat(case["now"])
            )
        except EvidenceMalformedError:
            found = {"result": "malformed"}
        except EvidenceRejectedError as error:
            claims = dict.fromkeys(mismatch.claim for mismatch in error.mismatches)
            found = {"result": "rejected", "claims": list(claims)}
        else:
            found = {"result": "accepted"}
            expected = VECTORS["claims"] | {
                "advisories": tuple(VECTORS["claims"]["advisories"]),
                "collateral_issued_at": datetime.fromisoformat(VECTORS["claims"]["collateral_issued_at"]),
            }
            assert {name: found_claims(enclave)[name] for name in expected} == expected
        assert found == {name: case[name] for name in ("result", "claims") if name in case}


@pytest.mark.parametrize("document", VECTORS["malformed"])
class TestMalformed:
    """What is no evidence is malformed."""

    def test_document(self, document: str) -> None:
        with pytest.raises(EvidenceMalformedError):
            parse_evidence(document.encode())
