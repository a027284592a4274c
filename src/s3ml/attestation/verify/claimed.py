"""What evidence claims before anything is proven; for auditors who read, never for a decision.

Source: the layouts in docs/spec/evidence.md.
"""

from s3ml.attestation.errors import EvidenceMalformedError
from s3ml.attestation.evidence import REPORT_DATA_BYTES, Evidence, Technology

_QUOTE_VERSION_5 = 5
_SGX_OFFSET = 48 + 320
_TDX_OFFSET = 48 + 520
_TDX_BODY_HEADER_BYTES = 6
_SNP_OFFSET = 0x50


def claimed_report_data(evidence: Evidence) -> bytes:
    """Return the 64 bytes of report data that a quote carries, unproven.

    Verifying against them says nothing of freshness: anybody can replay a quote with its own report data.

    Args:
        evidence: From an untrusted peer.

    Raises:
        EvidenceMalformedError: the quote is too short to carry any.
    """
    offset = _offset(evidence)
    data = evidence.quote[offset : offset + REPORT_DATA_BYTES]
    if len(data) != REPORT_DATA_BYTES:
        raise EvidenceMalformedError(
            f"quote: expected at least {offset + REPORT_DATA_BYTES} bytes, got {len(evidence.quote)}"
        )
    return data


def _offset(evidence: Evidence) -> int:
    match evidence.technology:
        case Technology.SGX:
            return _SGX_OFFSET
        case Technology.TDX:
            version = int.from_bytes(evidence.quote[:2], "little")
            return _TDX_OFFSET + (_TDX_BODY_HEADER_BYTES if version == _QUOTE_VERSION_5 else 0)
        case Technology.SEV_SNP:
            return _SNP_OFFSET
