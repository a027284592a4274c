"""Quotes and collateral in the one form in which they are verified, and the keys of what was proved.

Anybody can change the line ends of a certificate in PEM, the sign of an ECDSA signature or the NUL behind a
chain, and what it proves stays the same. So dcap-qvl is never given what came, but what was read of it,
written in one way: whoever writes the same differently gets the same verdict, whether it is remembered or
not. It also leaves no room for two parsers of PEM to disagree.

Source: docs/adr/0010-verdict-cache.md; RFC 7468 (PEM); SEC 1, section 4.1.4 (s and n - s verify alike).
"""

from collections.abc import Sequence

from dcap_qvl import QuoteCollateralV3

from s3ml.attestation.evidence import Collateral
from s3ml.attestation.verify.certificates import PemChain, read_pem
from s3ml.attestation.verify.intel.quote import CERTIFICATION_PCK_CHAIN, Certification
from s3ml.attestation.verify.intel.tdx_quote import CERTIFICATION_QE_REPORT
from s3ml.primitives.encoding import tagged_sha256

_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_P256_HALF = (_P256_ORDER // 2).to_bytes(32)
_LAST_UNWRAPPED_VERSION = 3


def low_s(signature: bytes) -> bytes:
    """Return the P-256 signature r || s, or its twin r || n - s with the lower s: both verify or neither."""
    if signature[32:] <= _P256_HALF:
        return signature
    s = int.from_bytes(signature[32:])
    return signature[:32] + (_P256_ORDER - s).to_bytes(32) if s < _P256_ORDER else signature


def canonical_quote(certification: Certification, chain: PemChain) -> bytes:
    """Write a quote.

    Args:
        certification: Who vouches for it.
        chain: The certificates that it holds.
    """
    pem = chain.text.encode("ascii")
    certified = b"".join(
        (
            certification.report,
            low_s(certification.report_signature),
            len(certification.authentication).to_bytes(2, "little"),
            certification.authentication,
            CERTIFICATION_PCK_CHAIN.to_bytes(2, "little"),
            len(pem).to_bytes(4, "little"),
            pem,
        )
    )
    if int.from_bytes(certification.signed[:2], "little") > _LAST_UNWRAPPED_VERSION:
        wrapped = CERTIFICATION_QE_REPORT.to_bytes(2, "little") + len(certified).to_bytes(4, "little")
        certified = wrapped + certified
    signature = low_s(certification.signature) + certification.attestation_key + certified
    return certification.signed + len(signature).to_bytes(4, "little") + signature


def parse_issuers(collateral: Collateral) -> tuple[PemChain, ...]:
    """Return the chains of PCK CRL, TCB info and QE identity.

    Raises:
        EvidenceMalformedError: one is no strict PEM.
    """
    return (
        read_pem(collateral.pck_crl_issuer_chain, what="PCK CRL's chain"),
        read_pem(collateral.tcb_info_issuer_chain, what="TCB info's chain"),
        read_pem(collateral.qe_identity_issuer_chain, what="QE identity's chain"),
    )


def canonical_collateral(collateral: Collateral) -> QuoteCollateralV3:
    """Write collateral; EvidenceMalformedError where a chain in it is no strict PEM."""
    crl, tcb, qe = parse_issuers(collateral)
    return QuoteCollateralV3(
        pck_crl_issuer_chain=crl.text,
        root_ca_crl=collateral.root_ca_crl,
        pck_crl=collateral.pck_crl,
        tcb_info_issuer_chain=tcb.text,
        tcb_info=collateral.tcb_info,
        tcb_info_signature=low_s(collateral.tcb_info_signature),
        qe_identity_issuer_chain=qe.text,
        qe_identity=collateral.qe_identity,
        qe_identity_signature=low_s(collateral.qe_identity_signature),
    )


def identify_certified_key(
    certification: Certification, collateral: Collateral, chains: Sequence[PemChain], *, root: bytes
) -> bytes:
    """Return a digest of all that vouches for an attestation key.

    Args:
        certification: Of that key.
        collateral: From an untrusted peer.
        chains: The quote's own and those of `parse_issuers`.
        root: The root of trust, DER.
    """
    return tagged_sha256(
        "S3ML certified key v1",
        root,
        certification.attestation_key,
        certification.report,
        low_s(certification.report_signature),
        certification.authentication,
        *(chain.digest for chain in chains),
        collateral.root_ca_crl,
        collateral.pck_crl,
        collateral.tcb_info.encode(),
        low_s(collateral.tcb_info_signature),
        collateral.qe_identity.encode(),
        low_s(collateral.qe_identity_signature),
    )


def identify_platform(certified_key: bytes, decisive: bytes) -> bytes:
    """Return the key of all but what an enclave itself says, and the signature over it.

    Args:
        certified_key: From `identify_certified_key`.
        decisive: What of header and report may decide over the platform.
    """
    return tagged_sha256("S3ML verified platform v1", certified_key, decisive)


def identify_quote(certified_key: bytes, certification: Certification, event_log: bytes | None) -> bytes:
    """Return the key of a whole quote.

    Args:
        certified_key: From `identify_certified_key`.
        certification: What it signed.
        event_log: What the claims also follow from.
    """
    return tagged_sha256(
        "S3ML verified quote v1",
        certified_key,
        certification.signed,
        low_s(certification.signature),
        b"without a log" if event_log is None else b"with a log",
        event_log or b"",
    )
