"""SGX enclaves: what their quotes say, and the attributes that production has.

Source: Intel SDM, volume 3D, section 37.7 (attributes).
"""

from collections.abc import Sequence
from datetime import datetime

from s3ml.attestation.errors import Mismatch
from s3ml.attestation.evidence import Evidence
from s3ml.attestation.verify.cache import VerdictCache
from s3ml.attestation.verify.claims import IntelTcb, SgxClaims
from s3ml.attestation.verify.intel.dcap import Body, examine_quote
from s3ml.attestation.verify.intel.quote import HEADER_BYTES, HEADER_FIELDS_BYTES
from s3ml.attestation.verify.intel.sgx_quote import parse_sgx_quote
from s3ml.attestation.verify.intel.sgx_report import (
    FLAG_AEX_NOTIFY,
    FLAG_CET,
    FLAG_INIT,
    FLAG_MODE64BIT,
    SgxReport,
)
from s3ml.attestation.verify.result import Examination

FLAGS_REQUIRED = FLAG_INIT | FLAG_MODE64BIT
FLAGS_TOLERATED = FLAG_CET | FLAG_AEX_NOTIFY
DOCUMENTS = ("SGX", "QE")


def examine_sgx(
    evidence: Evidence, simulated: Sequence[bytes] | None, *, now: datetime, cache: VerdictCache | None = None
) -> Examination:
    """Check everything about an SGX enclave's evidence that no policy changes.

    Args:
        evidence: From an untrusted peer.
        simulated: The simulation roots that the caller's policy names, DER; None for Intel's root.
        now: Aware UTC.
        cache: What was proved before.

    Raises:
        EvidenceMalformedError: a part cannot be read.
    """
    quote = parse_sgx_quote(evidence.quote)
    certification = quote.certification

    def read_body() -> Body:
        return _body(quote.enclave, evidence.event_log)

    return examine_quote(
        evidence,
        certification,
        read_body,
        decisive=_decisive,
        simulated=simulated,
        now=now,
        cache=cache,
    )


def _decisive(signed: bytes) -> bytes:
    """Return header and report without what only the enclave says: user data, identity, report data."""
    report = signed[HEADER_BYTES:]
    return b"".join(
        (signed[:HEADER_FIELDS_BYTES], report[:64], report[96:128], report[160:256], report[260:320])
    )


def _body(enclave: SgxReport, event_log: bytes | None) -> Body:
    mismatches = _check_flags(enclave.flags)
    if event_log is not None:
        mismatches.append(
            Mismatch(claim="event_log", expected="none with SGX", got=f"{len(event_log)} bytes")
        )

    def claims(tcb: IntelTcb) -> SgxClaims:
        return _claims(enclave, tcb)

    return Body(
        documents=DOCUMENTS, report_data=enclave.report_data, mismatches=tuple(mismatches), claims=claims
    )


def _claims(enclave: SgxReport, tcb: IntelTcb) -> SgxClaims:
    return SgxClaims(
        measurement=enclave.measurement.hex(),
        signer=enclave.signer.hex(),
        product_id=enclave.product_id,
        svn=enclave.svn,
        flags=enclave.flags,
        tcb=tcb,
    )


def _check_flags(flags: int) -> list[Mismatch]:
    if flags & FLAGS_REQUIRED == FLAGS_REQUIRED and not flags & ~(FLAGS_REQUIRED | FLAGS_TOLERATED):
        return []
    return [
        Mismatch(
            claim="attributes",
            expected="INIT and MODE64BIT, no DEBUG, PROVISION_KEY, EINITTOKEN_KEY, KSS or reserved bit",
            got=f"{flags:#018x}",
        )
    ]
