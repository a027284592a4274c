"""A policy in plain words: everything that is asked, and everything that is left open."""

import hashlib
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3ml.attestation import Alternative, AppraisalPolicy, SnpTcb, Tee
from s3ml.attestation.evidence import Technology
from s3ml.attestation.policy.explain import explain_alternative, explain_in_lines, explain_policy
from tests.attestation.policy_world import (
    ADVISORIES,
    ALTERNATIVES,
    CHIPS,
    CODES,
    EVENTS,
    HOST_DATA,
    IDS,
    LONG_CODES,
    REGISTERS,
    ROOTS,
)

IMAGE = f"image {IDS[1]} of family {IDS[0]}"
SGX = Alternative(tee=Tee.SGX, measurements=CODES[:1])
TDX = Alternative(tee=Tee.TDX, measurements=LONG_CODES[:1])
SNP = Alternative(tee=Tee.SEV_SNP, measurements=LONG_CODES[:1])


class TestWords:
    """Each technology has its own words; what is open is in capitals."""

    def test_sgx(self) -> None:
        assert explain_alternative(SGX) == (
            f"code measured (MRENCLAVE) as {CODES[0]}",
            "platform with TCB status UpToDate",
            "no open advisory",
            "judged by ANY TCB recovery whose documents are not expired",
            "collateral at most 30 days old",
        )

    def test_tdx(self) -> None:
        assert explain_alternative(TDX) == (
            f"firmware measured (MRTD) as {LONG_CODES[0]}",
            "firmware configuration (RTMR0): ANY",
            "boot loader and kernel (RTMR1): ANY",
            "command line and initial file system (RTMR2): ANY",
            "what the guest measured of itself (RTMR3): ANY",
            "configuration (MRCONFIGID): ANY",
            "platform with TCB status UpToDate",
            "no open advisory",
            "judged by ANY TCB recovery whose documents are not expired",
            "collateral at most 30 days old",
        )

    def test_snp(self) -> None:
        assert explain_alternative(SNP) == (
            f"launch measured (firmware, and what it was told to check) as {LONG_CODES[0]}",
            "host data: ANY",
            "shares no core with others (no SMT)",
            "no migration agent",
            "report asked for by software at VMPL 0",
            "processor Milan or Genoa or Turin, endorsed by VCEK",
            "chip: ANY",
            "ANY firmware and microcode",
            "revocation list of AMD's at hand",
            "collateral at most 400 days old",
        )

    @pytest.mark.parametrize(
        ("base", "changes", "line"),
        [
            (
                SGX,
                {"tcb_statuses": ("UpToDate", "OutOfDate")},
                "platform with TCB status UpToDate or OutOfDate",
            ),
            (SGX, {"advisories": ADVISORIES}, f"despite advisory {ADVISORIES[1]}"),
            (
                SGX,
                {"min_tcb_evaluation_data_number": 17},
                "judged by TCB recovery 17 (tcbEvaluationDataNumber) or later",
            ),
            (SGX, {"min_qe_svn": 8}, "quoting enclave of version 8 or later"),
            (SGX, {"min_pce_svn": 9}, "provisioning certification enclave of version 9 or later"),
            (SGX, {"max_collateral_age_s": 86_400}, "collateral at most 1 day old"),
            (SGX, {"max_collateral_age_s": 7200}, "collateral at most 2 hours old"),
            (SGX, {"max_collateral_age_s": 61}, "collateral at most 61 s old"),
            (SGX, {"warn_collateral_age_s": 864_000}, "with a note from 10 days on"),
            (
                SGX,
                {"measurements": None, "signer": CODES[1], "product_id": 3, "min_svn": 7},
                f"ANY code that {CODES[1]} signed as product 3, version 7 or later",
            ),
            (SGX, {"measurements": CODES}, f"  {CODES[2]}"),
            (TDX, {"rtmr1": REGISTERS[:1]}, f"boot loader and kernel (RTMR1) {REGISTERS[0]}"),
            (TDX, {"rtmr2": REGISTERS}, "command line and initial file system (RTMR2) one of"),
            (TDX, {"events": EVENTS}, f"with the measured event {'e' * 96} in RTMR3"),
            (TDX, {"config_ids": REGISTERS[:1]}, f"configuration (MRCONFIGID) {REGISTERS[0]}"),
            (
                SNP,
                {
                    "measurements": None,
                    "signer": LONG_CODES[1],
                    "family_id": IDS[0],
                    "image_id": IDS[1],
                    "min_svn": 7,
                },
                f"ANY code that {LONG_CODES[1]} signed as {IMAGE}, version 7 or later",
            ),
            (SNP, {"author": LONG_CODES[2]}, f"signer vouched for by author {LONG_CODES[2]}"),
            (SNP, {"host_data": HOST_DATA[:1]}, f"host data {HOST_DATA[0]}"),
            (SNP, {"chip_ids": CHIPS[:1]}, f"chip {CHIPS[0]}"),
            (SNP, {"allow_smt": True}, "MAY share its cores with others (SMT)"),
            (SNP, {"allow_migration_agent": True}, "MAY have a migration agent"),
            (SNP, {"max_vmpl": 2}, "report asked for by software at VMPL 2 or more privileged"),
            (SNP, {"products": ("Turin",)}, "processor Turin, endorsed by VCEK"),
            (
                SNP,
                {"endorsement_keys": ("VCEK", "VLEK"), "products": ("Milan",)},
                "processor Milan, endorsed by VCEK or VLEK",
            ),
            (
                SNP,
                {"min_tcb": SnpTcb(snp=8, microcode=115)},
                "firmware and microcode of at least snp 8, microcode 115",
            ),
            (SNP, {"require_crl": False}, "revocation list of AMD's MAY be missing"),
        ],
        ids=str,
    )
    def test_a_field_has_its_line(self, base: Alternative, changes: dict[str, Any], line: str) -> None:
        assert line not in explain_alternative(base)
        assert line in explain_alternative(msgspec.structs.replace(base, **changes))

    def test_simulated_says_so_and_names_its_root(self) -> None:
        alternative = msgspec.structs.replace(TDX, tee=Tee.SIMULATED, simulates=Technology.TDX, root=ROOTS[0])
        (one,) = explain_policy(AppraisalPolicy(accept=(alternative,)))
        assert one.title == "SIMULATED, protects nothing: a trust domain of Intel TDX"
        assert one.lines[0] == f"under the simulation root {hashlib.sha256(ROOTS[0]).hexdigest()}"


class TestWhole:
    """Alternatives are numbered; the same policy is told in the same words, and another in others."""

    def test_alternatives_are_numbered(self) -> None:
        lines = explain_in_lines(AppraisalPolicy(accept=(SGX, TDX)))
        assert lines[0] == "1. An enclave of Intel SGX:"
        assert lines[1] == f"   code measured (MRENCLAVE) as {CODES[0]}"
        assert "2. A trust domain of Intel TDX:" in lines

    @settings(deadline=None, max_examples=40)
    @given(data=st.data(), technology=st.sampled_from(list(Technology)))
    def test_what_differs_is_told_differently(self, data: st.DataObject, technology: Technology) -> None:
        one, other = data.draw(ALTERNATIVES[technology]), data.draw(ALTERNATIVES[technology])
        told = [explain_in_lines(AppraisalPolicy(accept=(a,))) for a in (one, other)]
        assert (told[0] == told[1]) == (one == other)
