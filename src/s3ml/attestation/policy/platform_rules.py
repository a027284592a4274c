"""Rules about the platforms that a policy tolerates.

Source: Intel SGX PCS API, version 4 (TCB statuses, advisories); AMD, SEV-SNP firmware ABI (56860), on guest
policy and attestation; docs/spec/policy.md, section "Lint".
"""

from collections.abc import Iterator
from typing import Final

from s3ml.attestation.evidence import Technology
from s3ml.attestation.policy.alternative import (
    DEFAULT_MAX_COLLATERAL_AGE_S,
    DEFAULT_MAX_CRL_AGE_S,
    Alternative,
    SnpTcb,
)
from s3ml.attestation.policy.findings import Rule, Severity
from s3ml.primitives.units import DAY_S

_OUT_OF_DATE = frozenset({"OutOfDate", "OutOfDateConfigurationNeeded"})
_MISCONFIGURED = frozenset({"ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded"})
_ONLY_UP_TO_DATE = frozenset({"UpToDate"})


def _is_intel(alternative: Alternative) -> bool:
    return alternative.technology is not Technology.SEV_SNP


def _out_of_date(alternative: Alternative) -> Iterator[tuple[str, str]]:
    found = [status for status in alternative.tcb_statuses if status in _OUT_OF_DATE]
    if found:
        yield (
            "tcb_statuses",
            f"tolerates {' and '.join(found)}: platforms with known holes that updates would close",
        )


def _misconfigured(alternative: Alternative) -> Iterator[tuple[str, str]]:
    found = [status for status in alternative.tcb_statuses if status in _MISCONFIGURED]
    if found:
        yield (
            "tcb_statuses",
            f"tolerates {' and '.join(found)}: platforms whose settings leave known holes open",
        )


def _no_advisories(alternative: Alternative) -> Iterator[tuple[str, str]]:
    if not _ONLY_UP_TO_DATE.issuperset(alternative.tcb_statuses) and not alternative.advisories:
        yield (
            "advisories",
            "tolerates a status other than UpToDate, but none of the advisories that come with it",
        )


def _idle_advisories(alternative: Alternative) -> Iterator[tuple[str, str]]:
    if alternative.advisories and _ONLY_UP_TO_DATE.issuperset(alternative.tcb_statuses):
        yield (
            "advisories",
            f"tolerates {' and '.join(alternative.advisories)}, but no status that brings an advisory",
        )


def _no_evaluation_floor(alternative: Alternative) -> Iterator[tuple[str, str]]:
    if _is_intel(alternative) and not alternative.min_tcb_evaluation_data_number:
        yield (
            "min_tcb_evaluation_data_number",
            "accepts collateral from before the latest TCB recovery, as long as it is not expired",
        )


def _old_collateral(alternative: Alternative) -> Iterator[tuple[str, str]]:
    usual_s = DEFAULT_MAX_COLLATERAL_AGE_S if _is_intel(alternative) else DEFAULT_MAX_CRL_AGE_S
    if alternative.max_collateral_age_s > usual_s:
        days = alternative.max_collateral_age_s // DAY_S
        yield (
            "max_collateral_age_s",
            f"accepts collateral {days} days old; the vendor renews it within {usual_s // DAY_S} days",
        )


def _idle_warning(alternative: Alternative) -> Iterator[tuple[str, str]]:
    warn_s = alternative.warn_collateral_age_s
    if warn_s is not None and warn_s >= alternative.max_collateral_age_s:
        yield "warn_collateral_age_s", f"never warns: collateral {warn_s} s old is rejected already"


def _no_tcb_floor(alternative: Alternative) -> Iterator[tuple[str, str]]:
    if not _is_intel(alternative) and alternative.min_tcb == SnpTcb():
        yield (
            "min_tcb",
            "accepts any firmware and microcode: AMD publishes no status, so min_tcb is the only floor",
        )


def _partial_tcb_floor(alternative: Alternative) -> Iterator[tuple[str, str]]:
    least = alternative.min_tcb
    if not _is_intel(alternative) and least != SnpTcb():
        missing = [name for name in ("snp", "microcode") if not getattr(least, name)]
        if missing:
            yield "min_tcb", f"accepts any version of {' and '.join(missing)}"


def _smt(alternative: Alternative) -> Iterator[tuple[str, str]]:
    if alternative.allow_smt:
        yield "allow_smt", "accepts simultaneous multithreading: another guest may watch from the same core"


def _migration_agent(alternative: Alternative) -> Iterator[tuple[str, str]]:
    if alternative.allow_migration_agent:
        yield (
            "allow_migration_agent",
            "accepts a migration agent, which can read the guest's memory and is not attested here",
        )


def _cloud_key(alternative: Alternative) -> Iterator[tuple[str, str]]:
    if "VLEK" in alternative.endorsement_keys and alternative.host_data is None:
        yield (
            "host_data",
            "accepts VLEK, which names a cloud and no processor, without anything that binds the guest",
        )


def _lower_privilege(alternative: Alternative) -> Iterator[tuple[str, str]]:
    if alternative.max_vmpl:
        yield (
            "max_vmpl",
            f"accepts reports for software at VMPL {alternative.max_vmpl}, below the guest's own top level",
        )


def _no_revocation_list(alternative: Alternative) -> Iterator[tuple[str, str]]:
    if not alternative.require_crl:
        yield "require_crl", "accepts evidence without a revocation list: a revoked key is then believed"


PLATFORM_RULES: Final[tuple[Rule, ...]] = (
    Rule(
        number="P09",
        severity=Severity.ERROR,
        remedy="update the platforms and remove the status",
        check=_out_of_date,
    ),
    Rule(
        number="P10",
        severity=Severity.WARNING,
        remedy="change the platforms' settings as their advisories say, and remove the status",
        check=_misconfigured,
    ),
    Rule(
        number="P11",
        severity=Severity.NOTE,
        remedy="list the advisories that are tolerated, or remove the status",
        check=_no_advisories,
    ),
    Rule(
        number="P12",
        severity=Severity.WARNING,
        remedy="remove the advisories, or name the status that they come with",
        check=_idle_advisories,
    ),
    Rule(
        number="P13",
        severity=Severity.WARNING,
        remedy="set it to the tcbEvaluationDataNumber of the latest TCB recovery that platforms can have",
        check=_no_evaluation_floor,
    ),
    Rule(
        number="P14",
        severity=Severity.WARNING,
        remedy="renew the collateral instead",
        check=_old_collateral,
    ),
    Rule(
        number="P15",
        severity=Severity.NOTE,
        remedy="set it below max_collateral_age_s",
        check=_idle_warning,
    ),
    Rule(
        number="P16",
        severity=Severity.ERROR,
        remedy="set min_tcb to the versions of AMD's latest security bulletin for the processor line",
        check=_no_tcb_floor,
    ),
    Rule(
        number="P17",
        severity=Severity.WARNING,
        remedy="set floors for snp and microcode, where most holes are closed",
        check=_partial_tcb_floor,
    ),
    Rule(
        number="P18",
        severity=Severity.WARNING,
        remedy="launch the guest with a policy that forbids it",
        check=_smt,
    ),
    Rule(
        number="P19",
        severity=Severity.WARNING,
        remedy="launch the guest with a policy that forbids it",
        check=_migration_agent,
    ),
    Rule(
        number="P20",
        severity=Severity.WARNING,
        remedy="name host_data, or accept VCEK alone",
        check=_cloud_key,
    ),
    Rule(
        number="P21",
        severity=Severity.WARNING,
        remedy="set it to the level of the software that is to be trusted, 0 where in doubt",
        check=_lower_privilege,
    ),
    Rule(
        number="P22",
        severity=Severity.WARNING,
        remedy="send AMD's revocation list with the evidence",
        check=_no_revocation_list,
    ),
)
