"""Which keys and which quoter belong to a technology, and what a folder's platform keeps to."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from s3ml.attestation import (
    Alternative,
    AppraisalPolicy,
    EvidenceRejectedError,
    Technology,
    Tee,
    verify_evidence,
)
from s3ml.attestation.simulated.collateral import TCB_STATES
from s3ml.attestation.simulated.pki import SimulatedPKI
from s3ml.attestation.simulated.quoter import DEFAULT_TCB_STATE, measurement_of_image
from s3ml.attestation.simulated.snp_pki import SimulatedSnpPKI, encode_pem
from s3ml.attestation.simulated.store import open_keys
from s3ml.attestation.simulated.vendors import create_pki, make_quoter, restore_pki
from s3ml.primitives.errors import ConfigurationError

NOW = datetime(2026, 11, 1, tzinfo=UTC)
IMAGE = "ab" * 32
REPORT_DATA = bytes(range(64))


class TestFolder:
    """A folder's platform simulates one technology for good."""

    def test_another_technology_is_refused_with_what_to_do(self, tmp_path: Path) -> None:
        open_keys(tmp_path, now=NOW, simulates=Technology.TDX)
        with pytest.raises(
            ConfigurationError, match="simulates sgx, got one that simulates tdx; use another"
        ):
            open_keys(tmp_path, now=NOW)

    def test_the_same_one_is_kept(self, tmp_path: Path) -> None:
        first, second = (open_keys(tmp_path, now=NOW, simulates=Technology.TDX) for _ in range(2))
        assert second.pki.root_der == first.pki.root_der
        assert second.simulates is Technology.TDX


class TestVendors:
    """Intel's and AMD's infrastructures are kept apart."""

    def test_amd_s_keys_come_back(self) -> None:
        pki = create_pki(Technology.SEV_SNP, NOW)
        restored = restore_pki(Technology.SEV_SNP, pki.to_bytes())
        assert isinstance(restored, SimulatedSnpPKI)
        assert restored.root_pem == pki.root_pem == encode_pem(pki.root_der).encode()

    def test_a_vendor_signs_for_its_own_technologies_alone(self, pki: SimulatedPKI) -> None:
        with pytest.raises(ConfigurationError, match="expected keys of AMD's kind"):
            make_quoter(pki, Technology.SEV_SNP, DEFAULT_TCB_STATE)

    def test_keys_of_another_vendor_are_damage(self, pki: SimulatedPKI) -> None:
        with pytest.raises(ConfigurationError):
            restore_pki(Technology.SEV_SNP, pki.to_bytes())

    def test_an_unknown_state_is_refused(self, pki: SimulatedPKI) -> None:
        with pytest.raises(ConfigurationError, match="TCB state: expected one of up-to-date"):
            make_quoter(pki, Technology.SGX, "perfect")

    def test_amd_names_no_states(self) -> None:
        with pytest.raises(ConfigurationError, match="expected up-to-date with sev-snp"):
            make_quoter(create_pki(Technology.SEV_SNP, NOW), Technology.SEV_SNP, "out-of-date")


class TestStates:
    """What the vendor says of a platform decides, whatever its evidence says."""

    @pytest.mark.parametrize("technology", [Technology.SGX, Technology.TDX])
    @pytest.mark.parametrize("state", sorted(set(TCB_STATES)))
    def test_only_a_platform_up_to_date_is_accepted_by_default(
        self, pki: SimulatedPKI, technology: Technology, state: str
    ) -> None:
        if technology is Technology.SGX and state.startswith("module-"):
            state = DEFAULT_TCB_STATE  # SGX has no module
        policy = AppraisalPolicy(
            accept=(
                Alternative(
                    tee=Tee.SIMULATED,
                    simulates=technology,
                    root=pki.root_der,
                    measurements=(measurement_of_image(IMAGE, technology),),
                ),
            )
        )
        evidence = make_quoter(pki, technology, state).evidence(IMAGE, "key-service", REPORT_DATA, now=NOW)
        if state == DEFAULT_TCB_STATE:
            assert verify_evidence(evidence, policy, report_data=REPORT_DATA, now=NOW).is_simulated
            return
        with pytest.raises(EvidenceRejectedError) as rejected:
            verify_evidence(evidence, policy, report_data=REPORT_DATA, now=NOW)
        claims = {mismatch.claim for mismatch in rejected.value.mismatches}
        assert claims & {"tcb_status", "qe_identity"}
