"""The layout of SGX quotes, version 3, with a PCK certificate chain; read exactly, trusted in nothing.

Source: Intel SGX ECDSA QuoteLibReference DCAP API, appendix A.4.
"""

from dataclasses import dataclass

from s3ml.attestation.errors import EvidenceMalformedError
from s3ml.attestation.verify.intel.quote import (
    ATTESTATION_KEY_ECDSA_P256,
    HEADER_BYTES,
    INTEL_QE_VENDOR,
    Certification,
    Reader,
    read_certified_key,
)
from s3ml.attestation.verify.intel.sgx_report import REPORT_BYTES, SgxReport

SIGNED_BYTES = HEADER_BYTES + REPORT_BYTES
QUOTE_VERSION = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SgxQuote:
    """A quote, taken apart."""

    enclave: SgxReport
    certification: Certification


def parse_sgx_quote(data: bytes) -> SgxQuote:
    """Take a quote apart.

    Args:
        data: From an untrusted peer.

    Raises:
        EvidenceMalformedError: too short, too long, another version, key type, vendor or kind of
            certification data.
    """
    reader = Reader(data)
    reader.expect(QUOTE_VERSION, 2, "version")
    reader.expect(ATTESTATION_KEY_ECDSA_P256, 2, "attestation key type")
    reader.expect(0, 4, "reserved")
    qe_svn = reader.number(2, "QE SVN")
    pce_svn = reader.number(2, "PCE SVN")
    if reader.take(16, "QE vendor") != INTEL_QE_VENDOR:
        raise EvidenceMalformedError(f"quote: QE vendor: expected {INTEL_QE_VENDOR.hex()}")
    reader.take(20, "user data")
    enclave = SgxReport.parse(reader.take(REPORT_BYTES, "enclave report"))
    size = reader.number(4, "signature length")
    if size != reader.remaining:
        raise EvidenceMalformedError(f"quote: expected {size} bytes of signature, got {reader.remaining}")
    signature = reader.take(64, "signature")
    attestation_key = reader.take(64, "attestation key")
    report, report_signature, authentication, chain = read_certified_key(reader)
    certification = Certification(
        signed=data[:SIGNED_BYTES],
        signature=signature,
        attestation_key=attestation_key,
        report=report,
        report_signature=report_signature,
        authentication=authentication,
        chain=chain,
        qe_svn=qe_svn,
        pce_svn=pce_svn,
    )
    return SgxQuote(enclave=enclave, certification=certification)
