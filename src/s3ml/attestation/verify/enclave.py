"""From evidence to a verified enclave, for TEEs that speak SGX's quote format."""

from collections.abc import Sequence
from datetime import datetime

from dcap_qvl import QuoteVerifier

from s3ml.attestation.errors import EvidenceRejectedError, Mismatch
from s3ml.attestation.evidence import Evidence, Tee
from s3ml.attestation.policy import Alternative
from s3ml.attestation.verify.appraisal import appraise
from s3ml.attestation.verify.certificates import ChainReader, RootOfTrust
from s3ml.attestation.verify.dcap import Examination, examine
from s3ml.attestation.verify.result import Step, VerifiedEnclave
from s3ml.attestation.verify.sgx_quote import SgxQuote


def verify_under_root(
    evidence: Evidence,
    quote: SgxQuote,
    alternatives: Sequence[Alternative],
    *,
    chains: ChainReader,
    root: RootOfTrust,
    verifier: QuoteVerifier,
    report_data: bytes,
    now: datetime,
) -> VerifiedEnclave:
    """Verify an SGX quote under one root; arguments and errors are those of `verify_evidence`.

    Args:
        evidence: From an untrusted peer.
        quote: Its quote, taken apart.
        alternatives: Those of the policy that trust `root`, at least one.
        chains: A reader for the chains of this evidence.
        root: The one root of trust.
        verifier: dcap-qvl's verifier for that root.
        report_data: The 64 bytes that the quote must carry.
        now: Aware UTC.
    """
    mismatches = _check_completeness(evidence)  # (2)
    if evidence.collateral is None:
        claimed = f"{quote.enclave.measurement.hex()} claimed by a quote that cannot be verified"
        mismatches.append(Mismatch(claim="measurement", expected="a proven measurement", got=claimed))
        raise EvidenceRejectedError(mismatches + _check_report_data(quote, report_data))
    examination = examine(  # (3)
        evidence.quote, quote, evidence.collateral, chains=chains, root=root, verifier=verifier, now=now
    )
    mismatches += examination.mismatches
    mismatches += _check_report_data(quote, report_data)  # (4)
    mismatches += appraise(examination, alternatives, now=now)  # (5)
    if mismatches or examination.tcb_status is None:
        raise EvidenceRejectedError(mismatches)
    return _verified(evidence.tee, examination, examination.tcb_status, root)


def _check_completeness(evidence: Evidence) -> list[Mismatch]:
    mismatches = []
    if evidence.collateral is None:
        mismatches.append(Mismatch(claim="collateral", expected="collateral with the quote", got="none"))
    if evidence.event_log is not None:
        mismatches.append(
            Mismatch(
                claim="event_log",
                expected=f"none with tee {evidence.tee}",
                got=f"{len(evidence.event_log)} bytes",
            )
        )
    return mismatches


def _check_report_data(quote: SgxQuote, report_data: bytes) -> list[Mismatch]:
    got = quote.enclave.report_data
    if got == report_data:
        return []
    return [Mismatch(claim="report_data", expected=report_data.hex(), got=got.hex())]


def _verified(tee: Tee, examination: Examination, tcb_status: str, root: RootOfTrust) -> VerifiedEnclave:
    enclave, facts = examination.quote.enclave, examination.facts
    is_simulated = tee is Tee.SIMULATED
    kind = "SIMULATED: it protects nothing" if is_simulated else str(tee)
    platform = (
        f"{tcb_status}, advisories: {', '.join(examination.advisories) or 'none'}, tcbEvaluationDataNumber "
        f"{facts.evaluation_data_number}, collateral of {facts.issued_at.isoformat()}"
    )
    titles = (
        ("The policy accepts this kind of TEE", kind),
        ("The evidence is complete and exact", "a quote with its collateral"),
        ("The quote verifies under the root", f"root certificate {root.fingerprint}; {platform}"),
        ("The quote answers this very request", f"report data {enclave.report_data.hex()[:16]}…"),
        ("The code is one that the policy names", f"measurement {enclave.measurement.hex()}"),
    )
    return VerifiedEnclave(
        tee=tee,
        is_simulated=is_simulated,
        measurement=enclave.measurement.hex(),
        signer=enclave.signer.hex(),
        product_id=enclave.product_id,
        svn=enclave.svn,
        tcb_status=tcb_status,
        advisories=examination.advisories,
        tcb_evaluation_data_number=facts.evaluation_data_number,
        collateral_issued_at=facts.issued_at,
        steps=tuple(
            Step(number=n, title=title, detail=detail) for n, (title, detail) in enumerate(titles, start=1)
        ),
    )
