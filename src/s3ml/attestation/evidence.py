"""Evidence: what a TEE sends to show what runs in it, with what is needed to check it.

JSON, UTF-8, at most 128 KiB; bytes as standard base64. Unknown fields reject. Nothing here is trusted:
only `s3ml.attestation.verify` turns `Evidence` into a `VerifiedEnclave`. Quotes are malleable, so nothing
is ever keyed on the hash of one.

Source: docs/spec/evidence.md; RFC 9334, section 4 (evidence and collateral, there "endorsements").
"""

from enum import StrEnum
from typing import Annotated, Literal

import msgspec

from s3ml.attestation.errors import EvidenceMalformedError
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.units import KIB

MEDIA_TYPE = "application/vnd.s3ml.evidence.v1+json"
EVIDENCE_LIMIT_BYTES = 128 * KIB
QUOTE_LIMIT_BYTES = 16 * KIB
EVENT_LOG_LIMIT_BYTES = 48 * KIB
CRL_LIMIT_BYTES = 16 * KIB
CHAIN_LIMIT_CHARACTERS = 16 * KIB
REPORT_DATA_BYTES = 64


class Tee(StrEnum):
    """A kind of trusted execution environment."""

    SGX = "sgx"
    TDX = "tdx"
    SEV_SNP = "sev-snp"
    SIMULATED = "simulated"


class Technology(StrEnum):
    """Whose formats evidence has; a simulated TEE has those of a real one."""

    SGX = "sgx"
    TDX = "tdx"
    SEV_SNP = "sev-snp"


Chain = Annotated[str, msgspec.Meta(min_length=1, max_length=8 * KIB)]
SignedJSON = Annotated[str, msgspec.Meta(min_length=2, max_length=24 * KIB)]
Signature = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
RevocationList = Annotated[bytes, msgspec.Meta(min_length=1, max_length=CRL_LIMIT_BYTES)]
CertificateChain = Annotated[str, msgspec.Meta(min_length=1, max_length=CHAIN_LIMIT_CHARACTERS)]
Quote = Annotated[bytes, msgspec.Meta(min_length=1, max_length=QUOTE_LIMIT_BYTES)]
EventLog = Annotated[bytes, msgspec.Meta(min_length=1, max_length=EVENT_LOG_LIMIT_BYTES)]


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


class SnpCertificates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What AMD's key distribution service says of a processor.

    The chain is PEM, leaf first: the VCEK or VLEK, the ASK or ASVK, the ARK. The revocation list is the
    ARK's, DER.

    Source: AMD, VCEK Certificate and KDS Interface Specification (57230).
    """

    chain: CertificateChain
    crl: RevocationList | None = None


class Evidence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A quote, what it claims to come from, and what is needed to check it.

    Args:
        version: Of the container.
        tee: Whose evidence this claims to be.
        simulates: With ``simulated`` alone: whose formats the quote has; without it, SGX's.
        quote: An SGX or TDX quote, or a SEV-SNP report.
        collateral: What Intel says of the platform, for SGX and TDX.
        certificates: What AMD says of the processor, for SEV-SNP.
        event_log: What TDX measured at run time, as the firmware's TCG2 log has it.
    """

    version: Literal[1] = 1
    tee: Tee
    simulates: Technology | None = None
    quote: Quote
    collateral: Collateral | None = None
    certificates: SnpCertificates | None = None
    event_log: EventLog | None = None

    def __post_init__(self) -> None:
        if self.simulates is not None and self.tee is not Tee.SIMULATED:
            raise ConfigurationError(f"evidence: simulates: expected none with tee {self.tee}")

    @property
    def technology(self) -> Technology:
        """Whose formats the quote has."""
        return technology_of(self.tee, self.simulates)


def technology_of(tee: Tee, simulates: Technology | None) -> Technology:
    """Return whose formats the evidence of `tee` has; a simulated one has SGX's unless it says otherwise."""
    if tee is Tee.SIMULATED:
        return simulates or Technology.SGX
    return Technology(tee)


_DECODER = msgspec.json.Decoder(Evidence)


def encode_evidence(evidence: Evidence) -> bytes:
    """Return `evidence` as JSON of the media type `MEDIA_TYPE`."""
    return msgspec.json.encode(evidence)


def parse_evidence(data: bytes) -> Evidence:
    """Parse evidence from an untrusted peer; what it claims is not checked.

    Args:
        data: JSON, at most 128 KiB.

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
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ConfigurationError) as error:
        raise EvidenceMalformedError(f"evidence: expected version 1 of {MEDIA_TYPE}: {error}") from error
