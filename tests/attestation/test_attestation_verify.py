"""What honest evidence proves, and who is asked what."""

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from s3ml.attestation import (
    Alternative,
    AppraisalPolicy,
    EvidenceRejectedError,
    Technology,
    Tee,
    VerifiedEnclave,
    verify_evidence,
)
from s3ml.attestation.simulated.collateral import TcbState
from s3ml.attestation.simulated.pki import SimulatedPKI
from s3ml.attestation.verify import SgxClaims
from s3ml.attestation.verify.steps import STEPS
from s3ml.primitives.errors import ConfigurationError
from tests.attestation.attestation_world import (
    CREATED,
    ISSUED,
    MEASUREMENT,
    NOW,
    REPORT_DATA,
    SIGNER,
    World,
)

OTHER_CODE = "cd" * 32


def sgx_claims(enclave: VerifiedEnclave) -> SgxClaims:
    assert isinstance(enclave.claims, SgxClaims)
    return enclave.claims


class TestHonestEvidence:
    """Honest evidence is accepted, and its claims are returned."""

    def test_the_claims(self, world: World) -> None:
        enclave = world.verify()
        claims = sgx_claims(enclave)
        assert (enclave.tee, enclave.technology) == (Tee.SIMULATED, Technology.SGX)
        assert enclave.is_simulated
        assert enclave.measurement == claims.measurement == MEASUREMENT.hex()
        assert (claims.signer, claims.product_id, claims.svn) == (SIGNER.hex(), 7, 5)
        assert (claims.tcb.status, claims.tcb.advisories) == ("UpToDate", ())
        assert claims.tcb.evaluation_data_number == 1
        assert enclave.collateral_issued_at == enclave.signed_at == ISSUED

    def test_the_steps_are_numbered_and_say_simulated(self, world: World) -> None:
        steps = world.verify().steps
        assert [step.number for step in steps] == list(range(1, len(STEPS) + 1))
        assert all(step.holds for step in steps)
        assert steps[0].detail == "simulated: SIMULATED, it protects nothing"
        assert steps[8].detail == f"measurement {MEASUREMENT.hex()}"

    def test_by_signer_product_and_version(self, world: World) -> None:
        identity: dict[str, Any] = {"signer": SIGNER.hex(), "product_id": 7, "min_svn": 5}
        enclave = world.with_policy(measurements=None, **identity).verify()
        assert sgx_claims(enclave).signer == SIGNER.hex()

    def test_tolerated_status_and_advisories(self, world: World) -> None:
        tcb = TcbState(status="SWHardeningNeeded", advisories=("INTEL-SA-00615",), evaluation_data_number=9)
        enclave = (
            world.with_tcb(tcb)
            .with_policy(
                tcb_statuses=("UpToDate", "SWHardeningNeeded"),
                advisories=("INTEL-SA-00615", "INTEL-SA-00001"),
                min_tcb_evaluation_data_number=9,
            )
            .verify()
        )
        found = sgx_claims(enclave).tcb
        assert (found.status, found.advisories) == ("SWHardeningNeeded", ("INTEL-SA-00615",))
        assert found.evaluation_data_number == 9

    def test_one_alternative_of_several_is_enough(self, world: World) -> None:
        strict = Alternative(tee=Tee.SIMULATED, root=world.pki.root_der, measurements=(OTHER_CODE,))
        foreign = Alternative(
            tee=Tee.SIMULATED, root=SimulatedPKI.create(CREATED).root_der, measurements=(OTHER_CODE,)
        )
        hardware = Alternative(tee=Tee.SGX, measurements=(OTHER_CODE,))
        policy = AppraisalPolicy(accept=(hardware, foreign, strict, *world.policy.accept))
        assert world.with_(policy=policy).rejected_claims() == []

    @pytest.mark.parametrize("now", [ISSUED, ISSUED + timedelta(days=30) - timedelta(seconds=1)])
    def test_the_first_and_last_second_of_collateral(self, world: World, now: datetime) -> None:
        assert world.with_(now=now).rejected_claims() == []

    def test_any_time_zone(self, world: World) -> None:
        tokyo = NOW.astimezone(timezone(timedelta(hours=9)))
        assert world.with_(now=tokyo).rejected_claims() == []

    def test_production_attributes(self, world: World) -> None:
        """CET and AEX-Notify protect; they are tolerated."""
        assert world.with_quote(flags=0x05 | 0x40 | 0x400).rejected_claims() == []

    def test_chains_may_have_the_line_ends_of_the_web(self, world: World) -> None:
        assert world.collateral is not None
        chain = world.collateral.tcb_info_issuer_chain.replace("\n", "\r\n").rstrip()
        assert world.with_collateral(tcb_info_issuer_chain=chain).rejected_claims() == []

    def test_a_chain_may_end_with_the_nul_of_intels_library(self, world: World) -> None:
        start = 48 + 384
        size = int.from_bytes(world.quote[start : start + 4], "little")
        chain = start + 4 + 584 + 32
        chain_size = int.from_bytes(world.quote[chain - 4 : chain], "little")
        quote = (
            world.quote[:start]
            + (size + 1).to_bytes(4, "little")
            + world.quote[start + 4 : chain - 4]
            + (chain_size + 1).to_bytes(4, "little")
            + world.quote[chain:]
            + b"\x00"
        )
        assert world.with_(quote=quote).rejected_claims() == []


class TestNotes:
    """What is tolerated and deserves attention is said."""

    def test_collateral_that_should_be_renewed(self, world: World) -> None:
        (note,) = world.with_policy(warn_collateral_age_s=3599).verify().notes
        assert note == "collateral is 3600 s old: renew it, as the policy asks from 3599 s on"

    @pytest.mark.parametrize("limit_s", [None, 3600])
    def test_collateral_that_is_new_enough(self, world: World, limit_s: int | None) -> None:
        assert world.with_policy(warn_collateral_age_s=limit_s).verify().notes == ()


class TestKindOfTee:
    """Evidence speaks for the TEE that it names, and only where the policy accepts it."""

    @pytest.mark.parametrize("tee", [Tee.SGX, Tee.TDX, Tee.SEV_SNP])
    def test_another_tee_rejects_by_name(self, world: World, tee: Tee) -> None:
        with pytest.raises(EvidenceRejectedError) as rejected:
            world.with_(tee=tee).verify()
        assert str(rejected.value) == (f"evidence rejected: tee: expected simulated, got {tee.value}")

    def test_simulated_evidence_is_nothing_to_a_policy_for_hardware(self, world: World) -> None:
        policy = AppraisalPolicy(accept=(Alternative(tee=Tee.SGX, measurements=(MEASUREMENT.hex(),)),))
        with pytest.raises(EvidenceRejectedError, match="tee: expected sgx, got simulated"):
            world.with_(policy=policy).verify()

    def test_what_one_tee_may_run_another_may_not(self, world: World) -> None:
        """Evidence is held against the alternatives of its own TEE alone."""
        policy = AppraisalPolicy(
            accept=(Alternative(tee=Tee.SGX, measurements=(OTHER_CODE,)), *world.policy.accept)
        )
        with pytest.raises(EvidenceRejectedError) as rejected:
            world.with_(tee=Tee.SGX, policy=policy).verify()
        assert rejected.value.mismatches[-1].expected == OTHER_CODE

    def test_what_one_simulation_may_run_another_may_not(self, world: World) -> None:
        """Evidence is held against the alternatives of its own root alone."""
        mine = Alternative(tee=Tee.SIMULATED, root=world.pki.root_der, measurements=(OTHER_CODE,))
        foreign = Alternative(
            tee=Tee.SIMULATED,
            root=SimulatedPKI.create(CREATED).root_der,
            measurements=(MEASUREMENT.hex(),),
        )
        for accept in ((mine, foreign), (foreign, mine)):
            claims = world.with_(policy=AppraisalPolicy(accept=accept)).rejected_claims()
            assert claims == ["measurement"]

    def test_simulated_quotes_called_sgx_fail_under_intels_root(self, world: World) -> None:
        policy = AppraisalPolicy(
            accept=(Alternative(tee=Tee.SGX, measurements=(MEASUREMENT.hex(),)), *world.policy.accept)
        )
        claims = world.with_(tee=Tee.SGX, policy=policy).rejected_claims()
        assert "root" in claims
        assert claims[-1] == "measurement"


class TestCaller:
    """What the caller gets wrong is no fault of the evidence."""

    @pytest.mark.parametrize("size", [0, 32, 63, 65])
    def test_report_data_of_another_size(self, world: World, size: int) -> None:
        with pytest.raises(ConfigurationError, match=f"report data: expected 64 bytes, got {size}"):
            world.with_(report_data=bytes(size)).verify()

    def test_a_time_without_a_zone(self, world: World) -> None:
        with pytest.raises(ConfigurationError, match="now: expected a time with its zone"):
            verify_evidence(
                world.evidence, world.policy, report_data=REPORT_DATA, now=NOW.replace(tzinfo=None)
            )


class TestMismatches:
    """All that is wrong is said at once, with what was expected and got."""

    def test_every_mismatch_is_listed(self, world: World) -> None:
        lies = world.with_quote(measurement=bytes(32), report_data=bytes(64), flags=0x85)
        lies = lies.with_policy(min_qe_svn=9, min_tcb_evaluation_data_number=2)
        assert lies.rejected_claims() == [
            "attributes",
            "report_data",
            "measurement",
            "qe_svn",
            "tcb_evaluation_data_number",
        ]

    def test_a_wrong_measurement_is_named(self, world: World) -> None:
        with pytest.raises(EvidenceRejectedError) as rejected:
            world.with_quote(measurement=b"\xee" * 32).verify()
        (mismatch,) = rejected.value.mismatches
        assert mismatch.expected == MEASUREMENT.hex()
        assert mismatch.got == "ee" * 32

    def test_all_accepted_measurements_are_named(self, world: World) -> None:
        other = Alternative(tee=Tee.SIMULATED, root=world.pki.root_der, measurements=(OTHER_CODE,))
        policy = AppraisalPolicy(accept=(*world.policy.accept, other))
        with pytest.raises(EvidenceRejectedError) as rejected:
            world.with_(policy=policy).with_quote(measurement=b"\xee" * 32).verify()
        (mismatch,) = rejected.value.mismatches
        assert mismatch.expected == f"one of {', '.join(sorted((MEASUREMENT.hex(), OTHER_CODE)))}"

    def test_the_honest_measurement_in_a_forged_quote_is_only_a_claim(self, world: World) -> None:
        forged = bytearray(world.quote)
        forged[440] ^= 1
        with pytest.raises(EvidenceRejectedError) as rejected:
            world.with_(quote=bytes(forged)).verify()
        assert [mismatch.claim for mismatch in rejected.value.mismatches] == [
            "quote_signature",
            "measurement",
        ]
        assert rejected.value.mismatches[1].got == (
            f"{MEASUREMENT.hex()} claimed by a quote whose signature does not hold"
        )

    def test_the_closest_alternative_is_explained(self, world: World) -> None:
        """A policy with a hopeless alternative does not hide the one thing that is wrong."""
        hopeless = Alternative(
            tee=Tee.SIMULATED, root=world.pki.root_der, signer=OTHER_CODE, product_id=1, min_svn=99
        )
        policy = AppraisalPolicy(accept=(hopeless, *world.with_policy(min_pce_svn=99).policy.accept))
        assert world.with_(policy=policy).rejected_claims() == ["pce_svn"]

    def test_what_is_found_twice_is_said_once(self, world: World) -> None:
        """dcap-qvl rejects debug enclaves too; our own words for it are enough."""
        assert world.with_quote(flags=0x07).rejected_claims() == ["attributes", "measurement"]

    def test_expired_collateral_is_not_called_a_broken_signature(self, world: World) -> None:
        with pytest.raises(EvidenceRejectedError) as rejected:
            world.with_(now=NOW + timedelta(days=31)).verify()
        (measurement,) = [m for m in rejected.value.mismatches if m.claim == "measurement"]
        assert measurement.got == f"{MEASUREMENT.hex()} claimed by a quote that does not verify"

    def test_tolerated_advisories_are_named(self, world: World) -> None:
        found = world.with_tcb(TcbState(advisories=("INTEL-SA-00002", "INTEL-SA-00001")))
        expectations = {(): "none", ("INTEL-SA-00001",): "none but INTEL-SA-00001"}
        for advisories, expected in expectations.items():
            with pytest.raises(EvidenceRejectedError) as rejected:
                found.with_policy(advisories=advisories).verify()
            assert rejected.value.mismatches[0].expected == expected

    def test_the_steps_name_the_platforms_advisories(self, world: World) -> None:
        found = world.with_tcb(TcbState(advisories=("INTEL-SA-00001",)))
        tolerated = found.with_policy(advisories=("INTEL-SA-00001",)).verify()
        assert tolerated.steps[9].detail.endswith("advisories: INTEL-SA-00001")
        assert world.verify().steps[9].detail.endswith("advisories: none")
