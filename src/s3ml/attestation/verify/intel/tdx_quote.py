"""The layout of TDX quotes, versions 4 and 5, with a PCK certificate chain; read exactly, trusted in nothing.

Both carry a certification of kind 6 (the quoting enclave's report) around one of kind 5 (the chain). Version
5 says before the report which one follows: kind 2 is a TD report 1.0, kind 3 a TD report 1.5. The header has
no security versions: four bytes that SGX uses for them are reserved, and zero. That of the quoting enclave is
taken from its own report.

Source: Intel TDX DCAP Quoting Library API, appendix A.3; Intel DCAP, sgx_quote_4.h and sgx_quote_5.h.
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
from s3ml.attestation.verify.intel.sgx_report import SgxReport
from s3ml.attestation.verify.intel.tdx_report import REPORT_10_BYTES, REPORT_15_BYTES, TdReport

QUOTE_VERSION_4 = 4
QUOTE_VERSION_5 = 5
TEE_TYPE_TDX = 0x81
BODY_TD_REPORT_10 = 2
BODY_TD_REPORT_15 = 3
BODY_BYTES = {BODY_TD_REPORT_10: REPORT_10_BYTES, BODY_TD_REPORT_15: REPORT_15_BYTES}
BODY_HEADER_BYTES = 6
CERTIFICATION_QE_REPORT = 6
LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxQuote:
    """A quote, taken apart."""

    version: int
    domain: TdReport
    certification: Certification


def parse_tdx_quote(data: bytes) -> TdxQuote:
    """Take a quote apart.

    Args:
        data: From an untrusted peer.

    Raises:
        EvidenceMalformedError: too short, too long, another version, key type, TEE, vendor, kind of body or
            kind of certification data, or a reserved byte that is not zero.
    """
    reader = Reader(data)
    version = _read_header(reader)
    domain = TdReport.parse(_read_body(reader, version))
    signed = data[: len(data) - reader.remaining]
    size = reader.number(LENGTH_BYTES, "signature length")
    if size != reader.remaining:
        raise EvidenceMalformedError(f"quote: expected {size} bytes of signature, got {reader.remaining}")
    signature = reader.take(64, "signature")
    attestation_key = reader.take(64, "attestation key")
    reader.expect(CERTIFICATION_QE_REPORT, 2, "kind of outer certification data")
    size = reader.number(4, "outer certification length")
    if size != reader.remaining:
        raise EvidenceMalformedError(
            f"quote: expected {size} bytes of outer certification data, got {reader.remaining}"
        )
    report, report_signature, authentication, chain = read_certified_key(reader)
    certification = Certification(
        signed=signed,
        signature=signature,
        attestation_key=attestation_key,
        report=report,
        report_signature=report_signature,
        authentication=authentication,
        chain=chain,
        qe_svn=SgxReport.parse(report).svn,
        pce_svn=None,
    )
    return TdxQuote(version=version, domain=domain, certification=certification)


def trim_tdx_quote(data: bytes) -> bytes:
    """Return a quote without the zero bytes that Intel's quoting service leaves behind it.

    A verifier takes exact quotes alone; whoever makes evidence cuts the unused end of the service's buffer.

    Args:
        data: From the quoting service of this very platform.

    Raises:
        EvidenceMalformedError: too short, another version or kind of body, or something else than zeros
            behind the quote.
    """
    reader = Reader(data)
    _read_body(reader, _read_header(reader))
    reader.take(reader.number(LENGTH_BYTES, "signature length"), "signature")
    end = len(data) - reader.remaining
    if any(data[end:]):
        raise EvidenceMalformedError(f"quote: expected nothing but zeros from byte {end} on, got other bytes")
    return data[:end]


def _read_header(reader: Reader) -> int:
    """Read the header and return the version."""
    version = reader.number(2, "version")
    if version not in {QUOTE_VERSION_4, QUOTE_VERSION_5}:
        raise EvidenceMalformedError(
            f"quote: version: expected {QUOTE_VERSION_4} or {QUOTE_VERSION_5}, got {version}"
        )
    reader.expect(ATTESTATION_KEY_ECDSA_P256, 2, "attestation key type")
    reader.expect(TEE_TYPE_TDX, 4, "TEE type")
    reader.expect(0, 4, "reserved")
    if reader.take(16, "QE vendor") != INTEL_QE_VENDOR:
        raise EvidenceMalformedError(f"quote: QE vendor: expected {INTEL_QE_VENDOR.hex()}")
    reader.take(HEADER_BYTES - 28, "user data")
    return version


def _read_body(reader: Reader, version: int) -> bytes:
    if version == QUOTE_VERSION_4:
        return reader.take(REPORT_10_BYTES, "TD report")
    kind = reader.number(2, "kind of body")
    if kind not in BODY_BYTES:
        known = " or ".join(str(one) for one in BODY_BYTES)
        raise EvidenceMalformedError(f"quote: kind of body: expected {known}, got {kind}")
    reader.expect(BODY_BYTES[kind], 4, "body length")
    return reader.take(BODY_BYTES[kind], "TD report")
