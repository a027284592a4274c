"""Each rule of lint: a policy that breaks it, and a twin that keeps it."""

from typing import Any

import msgspec
import pytest

from s3ml.attestation import Alternative, AppraisalPolicy, RuntimeEvent, SnpTcb, Tee
from s3ml.attestation.policy.lint import RULES, Severity, lint_policy
from tests.attestation.policy_world import (
    ADVISORIES,
    CODES,
    EVENTS,
    HOST_DATA,
    IDS,
    LONG_CODES,
    NO_CODE,
    NO_LONG_CODE,
    REGISTERS,
    ROOTS,
)

SGX = Alternative(tee=Tee.SGX, measurements=CODES[:1], min_tcb_evaluation_data_number=17)
SIGNED = Alternative(tee=Tee.SGX, signer=CODES[0], product_id=1, min_svn=2, min_tcb_evaluation_data_number=17)
TDX = Alternative(
    tee=Tee.TDX,
    measurements=LONG_CODES[:1],
    rtmr0=REGISTERS[:1],
    rtmr1=REGISTERS[:1],
    rtmr2=REGISTERS[:1],
    min_tcb_evaluation_data_number=17,
)
SNP = Alternative(tee=Tee.SEV_SNP, measurements=LONG_CODES[:1], min_tcb=SnpTcb(snp=8, microcode=115))
SNP_SIGNED = Alternative(
    tee=Tee.SEV_SNP,
    signer=LONG_CODES[0],
    family_id=IDS[0],
    image_id=IDS[0],
    min_svn=1,
    author=LONG_CODES[1],
    min_tcb=SnpTcb(snp=8, microcode=115),
)
SIMULATED = Alternative(
    tee=Tee.SIMULATED, root=ROOTS[0], measurements=CODES[:1], min_tcb_evaluation_data_number=17
)
IN_KERNEL = RuntimeEvent(register=1, digest="e" * 96)
OPEN: dict[str, Any] = {"advisories": ADVISORIES}
SOUND = (SGX, SIGNED, TDX, SNP, SNP_SIGNED)

# (rule, field, an alternative that keeps the rule, the changes that break it)
BREAKING: tuple[tuple[str, str, Alternative, dict[str, Any]], ...] = (
    ("P01", "rtmr1", TDX, {"rtmr1": None, "rtmr2": None}),
    ("P02", "rtmr2", TDX, {"rtmr2": None}),
    ("P02", "rtmr1", TDX, {"rtmr1": None}),
    ("P03", "rtmr0", TDX, {"rtmr0": None}),
    ("P04", "rtmr1", TDX, {"rtmr1": (REGISTERS[0], NO_LONG_CODE)}),
    ("P04", "rtmr2", TDX, {"rtmr2": (NO_LONG_CODE,)}),
    ("P05", "measurements", SGX, {"measurements": (CODES[0], NO_CODE)}),
    ("P05", "signer", SIGNED, {"signer": NO_CODE}),
    ("P05", "signer", SNP_SIGNED, {"signer": NO_LONG_CODE}),
    ("P05", "author", SNP_SIGNED, {"author": NO_LONG_CODE}),
    ("P06", "min_svn", SIGNED, {"min_svn": 0}),
    ("P06", "min_svn", SNP_SIGNED, {"min_svn": 0}),
    ("P07", "min_tcb", SNP, {"min_tcb": SnpTcb(snp=1, microcode=1, fmc=1), "products": ("Milan", "Genoa")}),
    ("P07", "events", TDX, {"rtmr3": (NO_LONG_CODE,), "events": (EVENTS[1],)}),
    ("P08", "min_tcb", SNP, {"min_tcb": SnpTcb(snp=1, microcode=1, fmc=1), "products": ("Milan", "Turin")}),
    ("P09", "tcb_statuses", SGX, {"tcb_statuses": ("UpToDate", "OutOfDate"), "advisories": ADVISORIES}),
    ("P09", "tcb_statuses", TDX, {"tcb_statuses": ("OutOfDateConfigurationNeeded",), **OPEN}),
    ("P10", "tcb_statuses", SGX, {"tcb_statuses": ("ConfigurationNeeded",), "advisories": ADVISORIES}),
    ("P10", "tcb_statuses", TDX, {"tcb_statuses": ("ConfigurationAndSWHardeningNeeded",), **OPEN}),
    ("P11", "advisories", SGX, {"tcb_statuses": ("UpToDate", "SWHardeningNeeded")}),
    ("P12", "advisories", SGX, {"advisories": ADVISORIES}),
    ("P13", "min_tcb_evaluation_data_number", SGX, {"min_tcb_evaluation_data_number": 0}),
    ("P13", "min_tcb_evaluation_data_number", TDX, {"min_tcb_evaluation_data_number": 0}),
    ("P14", "max_collateral_age_s", SGX, {"max_collateral_age_s": 2_592_001}),
    ("P14", "max_collateral_age_s", SNP, {"max_collateral_age_s": 34_560_001}),
    ("P15", "warn_collateral_age_s", SGX, {"warn_collateral_age_s": 2_592_000}),
    ("P16", "min_tcb", SNP, {"min_tcb": SnpTcb()}),
    ("P17", "min_tcb", SNP, {"min_tcb": SnpTcb(bootloader=1, snp=1)}),
    ("P17", "min_tcb", SNP, {"min_tcb": SnpTcb(microcode=1)}),
    ("P18", "allow_smt", SNP, {"allow_smt": True}),
    ("P19", "allow_migration_agent", SNP, {"allow_migration_agent": True}),
    ("P20", "host_data", SNP, {"endorsement_keys": ("VCEK", "VLEK")}),
    ("P21", "max_vmpl", SNP, {"max_vmpl": 1}),
    ("P22", "require_crl", SNP, {"require_crl": False}),
)  # fmt: skip

# Changes of the same fields that break no rule.
KEEPING: tuple[tuple[str, Alternative, dict[str, Any]], ...] = (
    ("P01", TDX, {"rtmr1": None, "rtmr2": None, "events": (IN_KERNEL, EVENTS[0])}),
    ("P02", TDX, {"rtmr2": None, "events": (EVENTS[0],)}),
    ("P03", TDX, {"rtmr0": None, "events": (RuntimeEvent(register=0, digest="e" * 96),)}),
    ("P04", TDX, {"rtmr3": (NO_LONG_CODE,)}),
    ("P07", TDX, {"rtmr3": (NO_LONG_CODE, REGISTERS[0]), "events": (EVENTS[1],)}),
    ("P08", SNP, {"min_tcb": SnpTcb(snp=1, microcode=1, fmc=1), "products": ("Turin",)}),
    ("P12", SGX, {"tcb_statuses": ("SWHardeningNeeded",), "advisories": ADVISORIES}),
    ("P14", SGX, {"max_collateral_age_s": 2_592_000}),
    ("P15", SGX, {"warn_collateral_age_s": 2_591_999}),
    ("P20", SNP, {"endorsement_keys": ("VLEK",), "host_data": HOST_DATA[:1]}),
)


def rules_of(*alternatives: Alternative) -> list[tuple[str, str]]:
    return [(found.rule, found.field) for found in lint_policy(AppraisalPolicy(accept=alternatives))]


class TestRules:
    """A rule finds what breaks it, and nothing else."""

    @pytest.mark.parametrize("sound", SOUND, ids=lambda one: str(one.tee))
    def test_a_sound_policy_breaks_none(self, sound: Alternative) -> None:
        assert rules_of(sound) == []

    @pytest.mark.parametrize(("rule", "field", "sound", "changes"), BREAKING, ids=str)
    def test_exactly_the_broken_rule_is_found(
        self, rule: str, field: str, sound: Alternative, changes: dict[str, Any]
    ) -> None:
        assert rules_of(msgspec.structs.replace(sound, **changes)) == [(rule, field)]

    @pytest.mark.parametrize(("rule", "sound", "changes"), KEEPING, ids=str)
    def test_its_twin_keeps_it(self, rule: str, sound: Alternative, changes: dict[str, Any]) -> None:
        assert rules_of(msgspec.structs.replace(sound, **changes)) == []

    def test_simulated_beside_real_is_an_error(self) -> None:
        assert rules_of(SGX, SIMULATED) == [("P23", "tee")]
        assert rules_of(SIMULATED) == [("P24", "tee")]

    def test_an_idle_alternative_is_found_once(self) -> None:
        narrower = msgspec.structs.replace(SGX, max_collateral_age_s=60)
        found = lint_policy(AppraisalPolicy(accept=(narrower, SGX, TDX, SGX)))
        assert [(one.rule, one.field, one.alternative) for one in found] == [
            ("P25", "accept", 1),
            ("P25", "accept", 4),
        ]

    def test_an_alternative_that_accepts_nothing_is_not_also_called_idle(self) -> None:
        never = msgspec.structs.replace(SNP, products=("Milan",), min_tcb=SnpTcb(snp=1, microcode=1, fmc=1))
        assert rules_of(never, SNP) == [("P07", "min_tcb")]

    def test_every_rule_is_broken_here(self) -> None:
        numbers = [rule.number for rule in RULES]
        assert numbers == [f"P{number:02}" for number in range(1, len(RULES) + 1)]
        assert {rule for rule, *_ in BREAKING} | {"P23", "P24", "P25"} == set(numbers)


class TestFindings:
    """A finding says where, what and what to do; errors come first."""

    def test_errors_come_first(self) -> None:
        noted = msgspec.structs.replace(
            SGX, warn_collateral_age_s=2_592_000, min_tcb_evaluation_data_number=0
        )
        found = lint_policy(AppraisalPolicy(accept=(noted, msgspec.structs.replace(SNP, min_tcb=SnpTcb()))))
        assert [(one.severity, one.alternative) for one in found] == [
            (Severity.ERROR, 2),
            (Severity.WARNING, 1),
            (Severity.NOTE, 1),
        ]

    @pytest.mark.parametrize(("rule", "field", "sound", "changes"), BREAKING, ids=str)
    def test_message_and_remedy_are_one_line_each(
        self, rule: str, field: str, sound: Alternative, changes: dict[str, Any]
    ) -> None:
        (found,) = lint_policy(AppraisalPolicy(accept=(msgspec.structs.replace(sound, **changes),)))
        for line in (found.message, found.remedy):
            assert line == line.strip()
            assert "\n" not in line
            assert 10 < len(line) <= 120
