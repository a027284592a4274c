"""TDX: honest trust domains are accepted, and each rule, broken exactly once, is named."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3ml.attestation import (
    Alternative,
    AppraisalPolicy,
    Collateral,
    Evidence,
    EvidenceMalformedError,
    EvidenceRejectedError,
    SnpCertificates,
    Technology,
    Tee,
)
from s3ml.attestation.policy import TcbStatus
from s3ml.attestation.simulated.collateral import TCB_STATES, TDX_TCB_SVN, TcbState
from s3ml.attestation.simulated.pki import SimulatedPKI
from s3ml.attestation.simulated.tdx_quote import td_quoting_enclave
from s3ml.attestation.verify import TdxClaims, verify_evidence
from s3ml.attestation.verify.intel.dcap import _SEVERITIES
from s3ml.attestation.verify.intel.tdx_quote import trim_tdx_quote
from s3ml.attestation.verify.intel.tdx_report import (
    FLAG_KEY_LOCKER,
    FLAG_LASS,
    FLAG_PERFMON,
    FLAG_PKS,
    FLAG_SEPT_VE_DISABLE,
)
from tests.attestation.attestation_world import CREATED, World
from tests.attestation.tdx_world import (
    CONFIG_ID,
    EVENTS,
    MEASUREMENT,
    REGISTERS,
    TdxWorld,
    tdx_quoted,
)

Lie = Callable[[TdxWorld], World]
STRANGER = SimulatedPKI.create(CREATED)
OTHER = "ab" * 48


def flags(bits: int) -> Lie:
    return lambda world: world.with_quote(flags=bits)


def tcb_info(edit: Callable[[dict[str, Any]], object]) -> Lie:
    return lambda world: world.with_document("tcb_info", edit)


def forged_attestation_key(world: TdxWorld) -> World:
    """Sign with an attestation key that the quoting enclave never endorsed."""
    forger = replace(world.pki, attestation_key=STRANGER.attestation_key)
    endorsed = {"report_data": endorsement_of(world.pki)}
    return world.with_(quote=tdx_quoted(forger, quoting_enclave=endorsed))


def endorsement_of(pki: SimulatedPKI) -> bytes:
    return td_quoting_enclave(pki).report_data


class TestHonestDomain:
    """What is honest is accepted, and proven."""

    def test_every_format_of_the_quote(self, tdx_world: TdxWorld) -> None:
        for world in (tdx_world, tdx_world.with_version(5), tdx_world.with_report_15()):
            assert world.with_policy_for_registers().rejected_claims() == []

    def test_the_claims(self, tdx_world: TdxWorld) -> None:
        enclave = tdx_world.with_quote(owner=b"\x01" * 48, owner_config=b"\x02" * 48).verify()
        claims = enclave.claims
        assert (enclave.technology, enclave.is_simulated) == (Technology.TDX, True)
        assert isinstance(claims, TdxClaims)
        assert enclave.measurement == claims.measurement == MEASUREMENT.hex()
        assert claims.registers == claims.replayed == tuple(register.hex() for register in REGISTERS)
        assert claims.events is not None
        assert [(e.register, e.digest) for e in claims.events] == [
            (e.register, e.digest.hex()) for e in EVENTS
        ]
        assert (claims.config_id, claims.owner, claims.owner_config) == (
            CONFIG_ID.hex(),
            "01" * 48,
            "02" * 48,
        )
        assert claims.flags == FLAG_SEPT_VE_DISABLE
        assert (claims.tcb.qe_svn, claims.tcb.pce_svn, claims.tcb.status) == (4, 13, "UpToDate")

    def test_the_steps_say_what_is_simulated(self, tdx_world: TdxWorld) -> None:
        steps = tdx_world.verify().steps
        assert steps[0].detail == "simulated tdx: SIMULATED, it protects nothing"
        assert all(step.holds for step in steps)

    @pytest.mark.parametrize("bit", [FLAG_LASS, FLAG_PKS, FLAG_KEY_LOCKER, FLAG_PERFMON])
    def test_what_a_domain_may_use_inside_itself(self, tdx_world: TdxWorld, bit: int) -> None:
        assert flags(FLAG_SEPT_VE_DISABLE | bit)(tdx_world).rejected_claims() == []

    def test_a_policy_without_registers_needs_no_log(self, tdx_world: TdxWorld) -> None:
        world = tdx_world.with_(event_log=None)
        claims = world.verify().claims
        assert isinstance(claims, TdxClaims)
        assert (claims.replayed, claims.events) == (None, None)

    def test_events_of_a_log_that_does_not_replay_are_no_claims(self, tdx_world: TdxWorld) -> None:
        claims = tdx_world.with_events(EVENTS[:-1]).verify().claims
        assert isinstance(claims, TdxClaims)
        assert claims.replayed is not None
        assert claims.replayed[:3] == claims.registers[:3]
        assert claims.replayed[3] == "00" * 48
        assert claims.events is None

    def test_events_that_extend_nothing_are_no_claims(self, tdx_world: TdxWorld) -> None:
        mrtd = replace(EVENTS[0], index=0)
        claims = tdx_world.with_events([*EVENTS, mrtd]).verify().claims
        assert isinstance(claims, TdxClaims)
        assert claims.events is not None
        assert len(claims.events) == len(EVENTS)

    def test_the_older_major_version_of_the_module(self, tdx_world: TdxWorld) -> None:
        """Intel's levels count for it, not those of a module's identity."""
        assert tdx_world.with_quote(tcb_svn=bytes((5, 0, 2, *bytes(13)))).rejected_claims() == []

    def test_versions_at_their_floor(self, tdx_world: TdxWorld) -> None:
        assert tdx_world.with_policy(min_qe_svn=4, min_pce_svn=13).rejected_claims() == []


class TestRules:
    """What is broken beyond the lies of the corpus."""

    def test_without_proof_registers_and_events_are_claims_too(self, tdx_world: TdxWorld) -> None:
        world = forged_attestation_key(tdx_world.with_policy_for_registers())
        rules = ["rtmr0", "rtmr1", "rtmr2", "rtmr3", "events", "config_id"]
        assert world.rejected_claims() == ["quote_signature", "measurement", *rules]

    def test_every_register_that_does_not_replay_is_named(self, tdx_world: TdxWorld) -> None:
        with pytest.raises(EvidenceRejectedError) as rejected:
            tdx_world.with_policy_for_registers().with_events([EVENTS[3]]).verify()
        assert [m.expected for m in rejected.value.mismatches] == [
            f"a log that replays to RTMR{number} {REGISTERS[number].hex()}" for number in (0, 1, 3)
        ]

    def test_a_log_that_cannot_be_read_is_malformed(self, tdx_world: TdxWorld) -> None:
        """Whether or not the policy depends on it."""
        with pytest.raises(EvidenceMalformedError, match="event log: "):
            tdx_world.with_(event_log=b"log").verify()

    def test_simulated_domains_are_nothing_to_a_policy_for_enclaves(
        self, tdx_world: TdxWorld, world: World
    ) -> None:
        assert tdx_world.with_(policy=world.policy).rejected_claims() == ["tee"]
        assert world.with_(policy=tdx_world.policy).rejected_claims() == ["tee"]

    def test_nothing_of_another_vendors_comes_with_it(self, tdx_world: TdxWorld) -> None:
        evidence = msgspec.structs.replace(
            tdx_world.evidence, collateral=None, certificates=SnpCertificates(chain="AMD's")
        )
        with pytest.raises(EvidenceRejectedError) as rejected:
            verify_evidence(evidence, tdx_world.policy, report_data=tdx_world.report_data, now=tdx_world.now)
        claims = [mismatch.claim for mismatch in rejected.value.mismatches]
        assert claims == ["collateral", "certificates", "measurement"]

    def test_a_quote_of_an_enclave_is_no_domain(self, tdx_world: TdxWorld, world: World) -> None:
        with pytest.raises(EvidenceMalformedError, match="quote: version: expected 4 or 5, got 3"):
            tdx_world.with_(quote=world.quote).verify()


class TestStates:
    """Each state that the simulation can be put into is what it is called."""

    @pytest.mark.parametrize("technology", [Technology.SGX, Technology.TDX])
    @pytest.mark.parametrize("name", TCB_STATES)
    def test_it_is_tolerated_where_it_is_named_and_only_there(
        self, tdx_world: TdxWorld, world: World, name: str, technology: Technology
    ) -> None:
        state = TCB_STATES[name]
        is_tdx = technology is Technology.TDX
        changed = (tdx_world if is_tdx else world).with_tcb(state)
        statuses = {state.status, state.qe_status, *([state.module_status] if is_tdx else [])}
        statuses -= {"UpToDate"}
        advisories = (*state.advisories, *state.qe_advisories, *(state.module_advisories if is_tdx else ()))
        if "Revoked" in statuses:
            assert changed.rejected_claims() == ["tcb_status", "measurement"]
            return
        expected = [*(["tcb_status"] if statuses else []), *(["advisories"] if advisories else [])]
        assert changed.rejected_claims() == expected
        tolerant = changed.with_policy(tcb_statuses=tuple(statuses) or ("UpToDate",), advisories=advisories)
        assert tolerant.rejected_claims() == []

    def test_the_number_of_the_evaluation(self, tdx_world: TdxWorld) -> None:
        claims = tdx_world.with_tcb(TcbState(evaluation_data_number=7)).verify().claims
        assert isinstance(claims, TdxClaims)
        assert claims.tcb.evaluation_data_number == 7

    def test_the_honest_modules_version(self) -> None:
        assert TDX_TCB_SVN[:3] == b"\x05\x01\x02"


def older_levels(status: str) -> Callable[[dict[str, Any]], object]:
    """Let TCB info know the module's version before the current one, and older microcode, in this state."""

    def edit(document: dict[str, Any]) -> None:
        (current,) = document["tcbLevels"]
        older = {**current, "tcbStatus": status, "advisoryIDs": ["INTEL-SA-00001"]}
        components = [*current["tcb"]["tdxtcbcomponents"]]
        components[2] = {"svn": 1}
        document["tcbLevels"].append({**older, "tcb": {**current["tcb"], "tdxtcbcomponents": components}})
        levels = document["tdxModuleIdentities"][0]["tcbLevels"]
        levels.append({**older, "tcb": {"isvsvn": 4}})

    return edit


class TestCurrentModule:
    """With a report 1.5, the versions at the domain's launch and the current ones both count."""

    CURRENT = bytes((5, 1, 2, *bytes(13)))

    @pytest.mark.parametrize(
        ("older", "status"),
        [
            (bytes((4, 1, 2, *bytes(13))), "OutOfDate"),
            (bytes((5, 1, 1, *bytes(13))), "SWHardeningNeeded"),
            (bytes((5, 1, 1, *bytes(13))), "ConfigurationNeeded"),
            (bytes((5, 1, 1, *bytes(13))), "ConfigurationAndSWHardeningNeeded"),
            (bytes((5, 1, 1, *bytes(13))), "OutOfDate"),
            (bytes((5, 1, 1, *bytes(13))), "OutOfDateConfigurationNeeded"),
        ],
    )
    def test_current_versions_that_are_worse(self, tdx_world: TdxWorld, older: bytes, status: str) -> None:
        changed = tdx_world.with_report_15(tcb_svn=self.CURRENT, current_tcb_svn=older)
        world = tcb_info(older_levels(status))(changed)
        assert world.rejected_claims() == ["tcb_status", "advisories"]
        tolerant = world.with_policy(tcb_statuses=(status,), advisories=("INTEL-SA-00001",))
        assert tolerant.rejected_claims() == []

    def test_revoked_current_versions(self, tdx_world: TdxWorld) -> None:
        changed = tdx_world.with_report_15(current_tcb_svn=bytes((5, 1, 1, *bytes(13))))
        assert tcb_info(older_levels("Revoked"))(changed).rejected_claims() == ["tcb_status", "measurement"]

    def test_a_domain_that_should_be_launched_again_is_never_tolerated(self, tdx_world: TdxWorld) -> None:
        """Its module was replaced by a better one, which cannot mend what the first one may have spoilt."""
        changed = tdx_world.with_report_15(tcb_svn=bytes((4, 1, 1, *bytes(13))), current_tcb_svn=self.CURRENT)
        world = tcb_info(older_levels("OutOfDate"))(changed)
        every = ("UpToDate", "OutOfDate", "OutOfDateConfigurationNeeded")
        with pytest.raises(EvidenceRejectedError) as rejected:
            world.with_policy(tcb_statuses=every, advisories=("INTEL-SA-00001",)).verify()
        assert [(m.claim, m.got) for m in rejected.value.mismatches] == [("tcb_status", "TDRelaunchAdvised")]

    def test_every_status_of_a_policy_has_its_severity(self) -> None:
        assert set(_SEVERITIES) == set(get_args(TcbStatus))

    def test_a_newer_current_module_is_fine(self, tdx_world: TdxWorld) -> None:
        changed = tdx_world.with_report_15(current_tcb_svn=bytes((6, 1, 3, *bytes(13))))
        assert changed.rejected_claims() == []


class TestFlips:
    """Every bit of header, report and signatures counts."""

    @given(data=st.data())
    @settings(max_examples=60, deadline=None)
    def test_a_flipped_bit_is_rejected(self, tdx_world: TdxWorld, data: st.DataObject) -> None:
        world = data.draw(st.sampled_from((tdx_world, tdx_world.with_version(5), tdx_world.with_report_15())))
        offset = data.draw(st.integers(0, world.quote.index(b"-----BEGIN") - 1))
        quote = bytearray(world.quote)
        quote[offset] ^= 1 << data.draw(st.integers(0, 7))
        with pytest.raises((EvidenceMalformedError, EvidenceRejectedError)):
            world.with_(quote=bytes(quote)).verify()


REAL_MEASUREMENT = (
    "91eb2b44d141d4ece09f0c75c2c53d247a3c68edd7fafe8a3520c942a604a407de03ae6dc5f87f27428b2538873118b7"
)
REAL_RTMR0 = (
    "44c0197b39157fdd7a4dcc44767f9d6b0bb3977c7a8e347b8492f827fe9d9e5c48aca29b220b80b6a540cf994b9bc9c0"
)
REAL_REPORT_DATA = bytes.fromhex(
    "9a9d48e7f6799642d3d1b34e1e5e1742d4bb02dd6ddd551862c1211d35c304f9"
    "eca3efdbb481601c163cf52493d6e44aed55d51ec39b7e518fadb92c2b523f20"
)
WITHIN = datetime(2025, 6, 20, 12, 0, tzinfo=UTC)
REAL_POLICY = AppraisalPolicy(accept=(Alternative(tee=Tee.TDX, measurements=(REAL_MEASUREMENT,)),))


@pytest.fixture
def real() -> Evidence:
    """Evidence of a real processor, of June 2025, without the zeros behind its quote."""
    folder = os.environ.get("S3ML_FIXTURES")
    if not folder:
        pytest.skip("S3ML_FIXTURES names no folder with quotes/tdx_quote and its collateral")
    quotes = Path(folder) / "quotes"
    collateral = json.loads((quotes / "tdx_quote_collateral.json").read_text())
    for name in ("root_ca_crl", "pck_crl", "tcb_info_signature", "qe_identity_signature"):
        collateral[name] = bytes.fromhex(collateral[name])
    quote = trim_tdx_quote((quotes / "tdx_quote").read_bytes())
    return Evidence(tee=Tee.TDX, quote=quote, collateral=Collateral(**collateral))


class TestRealProcessor:
    """Intel's own signatures verify, and only within their time and the policy."""

    def test_a_real_quote(self, real: Evidence, subtests: pytest.Subtests) -> None:
        with subtests.test("it is accepted"):
            enclave = verify_evidence(real, REAL_POLICY, report_data=REAL_REPORT_DATA, now=WITHIN)
            assert (enclave.measurement, enclave.is_simulated) == (REAL_MEASUREMENT, False)
            assert isinstance(enclave.claims, TdxClaims)
            assert enclave.claims.flags == FLAG_SEPT_VE_DISABLE
            assert enclave.claims.tcb.evaluation_data_number == 17
        for year in (2024, 2027):
            now = datetime(year, 1, 1, tzinfo=UTC)
            with (
                subtests.test("it is rejected outside its time", year=year),
                pytest.raises(EvidenceRejectedError, match="collateral_validity"),
            ):
                verify_evidence(real, REAL_POLICY, report_data=REAL_REPORT_DATA, now=now)
        with subtests.test("its registers count for nothing without a log"):
            alternative = Alternative(tee=Tee.TDX, measurements=(REAL_MEASUREMENT,), rtmr0=(REAL_RTMR0,))
            policy = AppraisalPolicy(accept=(alternative,))
            with pytest.raises(EvidenceRejectedError) as rejected:
                verify_evidence(real, policy, report_data=REAL_REPORT_DATA, now=WITHIN)
            assert [m.claim for m in rejected.value.mismatches] == ["event_log"]
        with subtests.test("its padding is malformed"):
            padded = Evidence(tee=Tee.TDX, quote=real.quote + bytes(70), collateral=real.collateral)
            with pytest.raises(EvidenceMalformedError, match="bytes of signature, got"):
                verify_evidence(padded, REAL_POLICY, report_data=REAL_REPORT_DATA, now=WITHIN)
