"""Which alternative of a policy an examined quote satisfies: pure comparison, all mismatches at once."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from s3ml.attestation.errors import Mismatch
from s3ml.attestation.policy import Alternative
from s3ml.attestation.verify.dcap import Examination


def appraise(
    examination: Examination, alternatives: Sequence[Alternative], *, now: datetime
) -> tuple[Mismatch, ...]:
    """Compare an examined quote with each of `alternatives`.

    1. The code is what the alternative names.
    2. The platform is in a tolerated TCB status, with tolerated advisories only, and its quoting enclave
       is new enough.
    3. The collateral is new enough, by its age and by Intel's numbering.

    Args:
        examination: Of a quote under the root that all of `alternatives` trust.
        alternatives: At least one.
        now: Aware UTC.

    Returns:
        Nothing when one alternative holds; otherwise what is wrong with the closest one.
    """
    named = sorted({m for alternative in alternatives for m in alternative.measurements or ()})
    verdicts = (
        (
            *_check_code(examination, alternative, named),  # (1)
            *_check_platform(examination, alternative),  # (2)
            *_check_collateral(examination, alternative, now),  # (3)
        )
        for alternative in alternatives
    )
    return min(verdicts, key=len)


def _check_code(examination: Examination, alternative: Alternative, named: list[str]) -> list[Mismatch]:
    enclave, doubt = examination.quote.enclave, examination.doubt
    if alternative.measurements is not None:
        expected = named[0] if len(named) == 1 else f"one of {', '.join(named)}"
        is_named = enclave.measurement.hex() in alternative.measurements
        return _mismatch_unless(
            is_named and not doubt, "measurement", expected, _claimed(enclave.measurement.hex(), doubt)
        )
    return [
        *_mismatch_unless(
            enclave.signer.hex() == alternative.signer and not doubt,
            "signer",
            str(alternative.signer),
            _claimed(enclave.signer.hex(), doubt),
        ),
        *_mismatch_unless(
            enclave.product_id == alternative.product_id,
            "product_id",
            str(alternative.product_id),
            _claimed(str(enclave.product_id), doubt),
        ),
        *_at_least("svn", enclave.svn, alternative.min_svn or 0),
    ]


def _check_platform(examination: Examination, alternative: Alternative) -> list[Mismatch]:
    mismatches = [
        *_at_least("qe_svn", examination.quote.qe_svn, alternative.min_qe_svn),
        *_at_least("pce_svn", examination.quote.pce_svn, alternative.min_pce_svn),
    ]
    if examination.tcb_status is None:
        return mismatches
    unexpected = sorted(set(examination.advisories) - set(alternative.advisories))
    return [
        *_mismatch_unless(
            examination.tcb_status in alternative.tcb_statuses,
            "tcb_status",
            " or ".join(alternative.tcb_statuses),
            examination.tcb_status,
        ),
        *_mismatch_unless(
            not unexpected,
            "advisories",
            f"none but {', '.join(alternative.advisories)}" if alternative.advisories else "none",
            ", ".join(unexpected),
        ),
        *mismatches,
    ]


def _check_collateral(examination: Examination, alternative: Alternative, now: datetime) -> list[Mismatch]:
    facts = examination.facts
    age = now - facts.issued_at
    return [
        *_at_least(
            "tcb_evaluation_data_number",
            facts.evaluation_data_number,
            alternative.min_tcb_evaluation_data_number,
        ),
        *_mismatch_unless(
            age <= timedelta(seconds=alternative.max_collateral_age_s),
            "collateral_age",
            f"at most {alternative.max_collateral_age_s} s",
            f"{age.total_seconds():.0f} s",
        ),
    ]


def _claimed(value: str, doubt: str | None) -> str:
    return f"{value} {doubt}" if doubt else value


def _at_least(claim: str, got: int, least: int) -> list[Mismatch]:
    return _mismatch_unless(got >= least, claim, f"at least {least}", str(got))


def _mismatch_unless(holds: bool, claim: str, expected: str, got: str) -> list[Mismatch]:  # noqa: FBT001
    return [] if holds else [Mismatch(claim=claim, expected=expected, got=got)]
