"""Which alternative of a policy examined evidence satisfies: pure comparison, all mismatches at once."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from s3ml.attestation.errors import Mismatch
from s3ml.attestation.policy import Alternative
from s3ml.attestation.verify.amd.appraisal import appraise_snp
from s3ml.attestation.verify.claims import SgxClaims, SnpClaims, TdxClaims
from s3ml.attestation.verify.comparison import claimed, mismatch_unless, one_of
from s3ml.attestation.verify.intel.appraisal import appraise_sgx, appraise_tdx
from s3ml.attestation.verify.result import Examination


def closest(
    examination: Examination, alternatives: Sequence[Alternative], *, now: datetime
) -> tuple[Alternative, tuple[Mismatch, ...]]:
    """Return the alternative that comes closest, and what is wrong with it: nothing where it holds.

    1. The code is what the alternative names.
    2. The platform is in a tolerated state.
    3. The collateral is new enough, by its age.

    Args:
        examination: Of evidence under the root that all of `alternatives` trust.
        alternatives: At least one, all for the technology of the evidence.
        now: Aware UTC.
    """
    verdicts = []
    for alternative in alternatives:
        mismatches = (
            *_check_measurement(examination, alternative, alternatives),  # (1)
            *_check_technology(examination, alternative),  # (1), (2)
            *_check_age(examination, alternative, now),  # (3)
        )
        if not mismatches:
            return alternative, mismatches
        verdicts.append((alternative, mismatches))
    return min(verdicts, key=lambda verdict: len(verdict[1]))


def note_age(examination: Examination, alternative: Alternative, now: datetime) -> tuple[str, ...]:
    """Say that the collateral should be renewed, where it is older than the policy likes."""
    limit_s = alternative.warn_collateral_age_s
    if limit_s is None or examination.issued_at is None:
        return ()
    age = now - examination.issued_at
    if age <= timedelta(seconds=limit_s):
        return ()
    return (
        f"collateral is {age.total_seconds():.0f} s old: renew it, as the policy asks from {limit_s} s on",
    )


def _check_measurement(
    examination: Examination, alternative: Alternative, alternatives: Sequence[Alternative]
) -> list[Mismatch]:
    if alternative.measurements is None:
        return []
    measurement, doubt = examination.claims.measurement, examination.doubt
    if measurement in alternative.measurements and not doubt:
        return []
    named = sorted({one for accepted in alternatives for one in accepted.measurements or ()})
    return [Mismatch(claim="measurement", expected=one_of(named), got=claimed(measurement, doubt))]


def _check_technology(examination: Examination, alternative: Alternative) -> list[Mismatch]:
    match examination.claims:
        case SgxClaims() as claims:
            return appraise_sgx(claims, alternative, doubt=examination.doubt)
        case TdxClaims() as claims:
            return appraise_tdx(claims, alternative, doubt=examination.doubt)
        case SnpClaims() as claims:
            return appraise_snp(claims, alternative, doubt=examination.doubt)


def _check_age(examination: Examination, alternative: Alternative, now: datetime) -> list[Mismatch]:
    if examination.issued_at is None:
        return []
    age = now - examination.issued_at
    return mismatch_unless(
        holds=age <= timedelta(seconds=alternative.max_collateral_age_s),
        claim="collateral_age",
        expected=f"at most {alternative.max_collateral_age_s} s",
        got=f"{age.total_seconds():.0f} s",
    )
