"""Putting items together: the collateral of a quote, the certificates of a report.

Source: Intel SGX PCS API, version 4; docs/spec/collateral.md.
"""

from collections.abc import Callable

from s3ml.attestation.collateral.amd import (
    AmdService,
    Signer,
    ask_authorities,
    ask_crl,
    ask_leaf,
    candidates,
    read_signer,
)
from s3ml.attestation.collateral.amd_proof import read_authorities_of
from s3ml.attestation.collateral.freshness import Freshness
from s3ml.attestation.collateral.intel import IntelService, ask_intel, read_platform
from s3ml.attestation.collateral.item import CollateralUnavailableError, Inquiry, Proven
from s3ml.attestation.errors import EvidenceMalformedError
from s3ml.attestation.evidence import Collateral, SnpCertificates
from s3ml.attestation.pem import encode_pem
from s3ml.attestation.verify.amd.certificate import parse_certificate
from s3ml.attestation.verify.amd.product import Product
from s3ml.attestation.verify.amd.report import parse_report
from s3ml.primitives.errors import UnavailableError

Getter = Callable[[Inquiry], Proven]


def collect_collateral(
    get: Getter, quote: bytes, *, service: IntelService, freshness: Freshness
) -> Collateral:
    """Get the four items that an SGX or TDX quote needs.

    Args:
        get: Gets one item.
        quote: Its own certificates say which platform it is of; nothing else of it is read.
        service: Intel's, with the pinned root.
        freshness: The greatest ages.

    Raises:
        EvidenceMalformedError: no such quote.
        UnavailableError: an item cannot be had.
    """
    inquiries = ask_intel(service, read_platform(quote), freshness)
    root_crl = get(inquiries.root_crl).item
    pck_crl = get(inquiries.pck_crl).item
    tcb_info = get(inquiries.tcb_info).item
    qe_identity = get(inquiries.qe_identity).item
    return Collateral(
        pck_crl_issuer_chain=pck_crl.chain,
        root_ca_crl=root_crl.der,
        pck_crl=pck_crl.der,
        tcb_info_issuer_chain=tcb_info.chain,
        tcb_info=tcb_info.text,
        tcb_info_signature=tcb_info.signature,
        qe_identity_issuer_chain=qe_identity.chain,
        qe_identity=qe_identity.text,
        qe_identity_signature=qe_identity.signature,
    )


def collect_certificates(
    get: Getter,
    report: bytes,
    *,
    leaf: bytes | None = None,
    service: AmdService,
    freshness: Freshness,
) -> SnpCertificates:
    """Get the certificates and the revocation list that a SEV-SNP report needs.

    Args:
        get: Gets one item.
        report: It says itself which processor it is of; nothing else of it is read.
        leaf: The certificate of the key that signed it, DER, where the host gave it: then it is not asked
            for, and its signature not checked.
        service: AMD's, with the pinned roots.
        freshness: The greatest ages.

    Raises:
        EvidenceMalformedError: no such report, or one that hides which processor it is of.
        UnavailableError: an item cannot be had; with a report that does not say its processor line, of no
            line that was tried.
    """
    read = parse_report(report)
    signer = read_signer(read)
    failures = []
    for product in candidates(service, read):
        try:
            return _collect_certificates(
                get, signer, product, leaf=leaf, service=service, freshness=freshness
            )
        except (UnavailableError, EvidenceMalformedError) as failure:
            failures.append(failure)
    waits = [getattr(failure, "retry_after_s", None) for failure in failures]
    raise CollateralUnavailableError(
        "; ".join(str(failure) for failure in failures),
        retry_after_s=min((wait for wait in waits if wait is not None), default=None),
    )


def _collect_certificates(
    get: Getter,
    signer: Signer,
    product: Product,
    *,
    leaf: bytes | None,
    service: AmdService,
    freshness: Freshness,
) -> SnpCertificates:
    above = get(ask_authorities(service, signer.key, product)).item
    authorities = read_authorities_of(above)
    if leaf is None:
        leaf = get(ask_leaf(service, product, signer, authorities=authorities)).item.der
    elif parse_certificate(leaf).issuer != authorities.issuer.subject:
        raise EvidenceMalformedError(
            f"certificate of the host: expected one issued by {authorities.issuer.common_name[:80]!r}"
        )
    crl = get(ask_crl(service, signer.key, product, authorities=authorities, freshness=freshness)).item
    return SnpCertificates(chain=encode_pem(leaf) + above.chain, crl=crl.der)
