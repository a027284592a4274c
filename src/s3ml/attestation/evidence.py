"""Evidence: what an enclave sends to show what it is, and the collateral to check it with.

JSON, UTF-8, at most 64 KiB; bytes as standard base64. Unknown fields reject. Nothing here is trusted:
only `s3ml.attestation.verify` turns `Evidence` into a `VerifiedEnclave`. Quotes are malleable, so nothing
is ever keyed on the hash of one.

Source: docs/spec/evidence.md; RFC 9334, section 4 (evidence and collateral, there "endorsements").
"""

from enum import StrEnum
from typing import Annotated, Literal

import msgspec

from s3ml.attestation.errors import EvidenceMalformedError
from s3ml.primitives.units import KIB

MEDIA_TYPE = "application/vnd.s3ml.evidence.v1+json"
EVIDENCE_LIMIT_BYTES = 64 * KIB
QUOTE_LIMIT_BYTES = 16 * KIB
REPORT_DATA_BYTES = 64


class Tee(StrEnum):
    """A kind of trusted execution environment."""

    SGX = "sgx"
    TDX = "tdx"
    SEV_SNP = "sev-snp"
    SIMULATED = "simulated"


Chain = Annotated[str, msgspec.Meta(min_length=1, max_length=8 * KIB)]
SignedJSON = Annotated[str, msgspec.Meta(min_length=2, max_length=24 * KIB)]
Signature = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
RevocationList = Annotated[bytes, msgspec.Meta(min_length=1, max_length=16 * KIB)]
Quote = Annotated[bytes, msgspec.Meta(min_length=1, max_length=QUOTE_LIMIT_BYTES)]
EventLog = Annotated[bytes, msgspec.Meta(max_length=32 * KIB)]


class Collateral(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What Intel's provisioning service says of a platform, as DCAP's QuoteCollateralV3 has it.

    Chains are PEM, leaf first, root last; revocation lists are DER; `tcb_info` and `qe_identity` are the
    exact JSON strings that were signed (P-256, raw r || s). There is no `pck_certificate_chain`: the
    chain of the quoting platform travels inside the quote, and nothing may override it.

    Source: Intel SGX PCS API, version 4.
    """

    pck_crl_issuer_chain: Chain
    root_ca_crl: RevocationList
    pck_crl: RevocationList
    tcb_info_issuer_chain: Chain
    tcb_info: SignedJSON
    tcb_info_signature: Signature
    qe_identity_issuer_chain: Chain
    qe_identity: SignedJSON
    qe_identity_signature: Signature


class Evidence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A quote, what it claims to come from, and what is needed to check it."""

    version: Literal[1] = 1
    tee: Tee
    quote: Quote
    collateral: Collateral | None = None
    event_log: EventLog | None = None


_DECODER = msgspec.json.Decoder(Evidence)


def encode_evidence(evidence: Evidence) -> bytes:
    """Return `evidence` as JSON of the media type `MEDIA_TYPE`."""
    return msgspec.json.encode(evidence)


def parse_evidence(data: bytes) -> Evidence:
    """Parse evidence from an untrusted peer; what it claims is not checked.

    Args:
        data: JSON, at most 64 KiB.

    Raises:
        EvidenceMalformedError: too large, no JSON, another version, an unknown field, or a value out of
            bounds.
    """
    if len(data) > EVIDENCE_LIMIT_BYTES:
        raise EvidenceMalformedError(
            f"evidence: expected at most {EVIDENCE_LIMIT_BYTES} bytes, got {len(data)}"
        )
    try:
        return _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EvidenceMalformedError(f"evidence: expected version 1 of {MEDIA_TYPE}: {error}") from error
