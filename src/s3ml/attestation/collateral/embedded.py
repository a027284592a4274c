"""The items that evidence carries, under the names that they have in a folder; trusted in nothing.

Source: docs/spec/evidence.md; docs/spec/collateral.md.
"""

from datetime import datetime

from s3ml.attestation.collateral.amd import AmdService, ask_authorities, ask_crl, ask_leaf, read_signer
from s3ml.attestation.collateral.amd_proof import read_authorities_of
from s3ml.attestation.collateral.freshness import Freshness
from s3ml.attestation.collateral.intel import IntelService, ask_intel, read_platform
from s3ml.attestation.collateral.item import Item
from s3ml.attestation.evidence import Collateral, Evidence, SnpCertificates
from s3ml.attestation.pem import encode_pem
from s3ml.attestation.verify.amd.endorsement import read_endorsement
from s3ml.attestation.verify.amd.report import parse_report
from s3ml.attestation.verify.certificates import parse_pem
from s3ml.attestation.verify.intel.root import INTEL_ROOT_DER
from s3ml.primitives.errors import ConfigurationError

SOURCE = "evidence"


def read_embedded(evidence: Evidence, *, root: bytes | None, now: datetime) -> tuple[Item, ...]:
    """Return the items of evidence.

    Args:
        evidence: From an untrusted peer.
        root: A simulation root, DER; None for the vendors' own.
        now: Aware UTC, when the evidence was read.

    Raises:
        ConfigurationError: it carries none.
        EvidenceMalformedError: its quote, report or certificates cannot be read.
        CollateralRejectedError: its authorities cannot be read.
    """
    if evidence.collateral is not None:
        return _read_collateral(evidence.quote, evidence.collateral, root, now)
    if evidence.certificates is not None:
        return _read_certificates(evidence.quote, evidence.certificates, root, now)
    raise ConfigurationError("evidence: expected collateral or certificates in it, got none")


def _read_collateral(
    quote: bytes, collateral: Collateral, root: bytes | None, now: datetime
) -> tuple[Item, ...]:
    service = IntelService(endpoints=(), root=INTEL_ROOT_DER if root is None else root)
    asked = ask_intel(service, read_platform(quote), Freshness())
    return (
        Item(name=asked.root_crl.name, source=SOURCE, confirmed_at=now, der=collateral.root_ca_crl),
        Item(
            name=asked.pck_crl.name,
            source=SOURCE,
            confirmed_at=now,
            der=collateral.pck_crl,
            chain=collateral.pck_crl_issuer_chain,
        ),
        Item(
            name=asked.tcb_info.name,
            source=SOURCE,
            confirmed_at=now,
            text=collateral.tcb_info,
            signature=collateral.tcb_info_signature,
            chain=collateral.tcb_info_issuer_chain,
        ),
        Item(
            name=asked.qe_identity.name,
            source=SOURCE,
            confirmed_at=now,
            text=collateral.qe_identity,
            signature=collateral.qe_identity_signature,
            chain=collateral.qe_identity_issuer_chain,
        ),
    )


def _read_certificates(
    report: bytes, certificates: SnpCertificates, root: bytes | None, now: datetime
) -> tuple[Item, ...]:
    service = AmdService(endpoints=(), root=root)
    signer = read_signer(parse_report(report))
    leaf, *above = parse_pem(certificates.chain, what="certificates")
    product = read_endorsement(leaf).product
    asked = ask_authorities(service, signer.key, product)
    chain = "".join(encode_pem(der) for der in above)
    authorities_item = Item(name=asked.name, source=SOURCE, confirmed_at=now, chain=chain)
    authorities = read_authorities_of(authorities_item)
    leaf_name = ask_leaf(service, product, signer, authorities=authorities).name
    items = [authorities_item, Item(name=leaf_name, source=SOURCE, confirmed_at=now, der=leaf)]
    if certificates.crl is not None:
        crl = ask_crl(service, signer.key, product, authorities=authorities, freshness=Freshness())
        items.append(Item(name=crl.name, source=SOURCE, confirmed_at=now, der=certificates.crl))
    return tuple(items)
