"""Whether AMD signed an item: the right authority for the processor line, under the pinned ARK.

The same rules hold for what was just fetched and for what a cache or a file gives back. Whether a certificate
was revoked is left to the verifier.

Source: AMD 57230, VCEK Certificate and KDS Interface Specification, chapters 2 and 3.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from cryptography.hazmat.primitives.asymmetric import rsa

from s3ml.attestation.collateral.item import CollateralRejectedError, Item, Proof, as_utc
from s3ml.attestation.errors import EvidenceMalformedError
from s3ml.attestation.policy.alternative import EndorsementKey, SnpTcb
from s3ml.attestation.verify.amd.certificate import AmdCertificate, parse_certificate
from s3ml.attestation.verify.amd.endorsement import read_endorsement
from s3ml.attestation.verify.amd.product import Product, describe_tcb
from s3ml.attestation.verify.amd.revocation import parse_revocation_list
from s3ml.attestation.verify.amd.roots import PINNED
from s3ml.attestation.verify.amd.signature import is_signed_by_authority
from s3ml.attestation.verify.certificates import ChainReader

_AUTHORITY_NAMES: dict[EndorsementKey, str] = {"VCEK": "SEV-{}", "VLEK": "SEV-VLEK-{}"}

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """What the certificate of a report's key must say.

    Args:
        key: Which of the two kinds it is.
        product: The processor line.
        chip_id: The processor's, 64 bytes; None for a VLEK, which names none.
        tcb: The firmware versions that the key stands for.
    """

    key: EndorsementKey
    product: Product
    chip_id: bytes | None
    tcb: SnpTcb


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorities:
    """The two certificates above the leaf."""

    issuer: AmdCertificate
    root: AmdCertificate


def prove_authorities(
    item: Item, now: datetime, *, key: EndorsementKey, product: Product, root: bytes | None
) -> Proof:
    """Check that `item` is the issuing authority of `product` and its ARK.

    1. The ARK is the pinned one, byte for byte.
    2. The ASK, or for VLEKs the ASVK, has its name, and the ARK signed it.
    3. Both are valid now.

    Raises:
        CollateralRejectedError: it is not.
    """
    authorities = read_authorities_of(item)
    fingerprint = hashlib.sha256(authorities.root.der).hexdigest()
    expected = hashlib.sha256(root).hexdigest() if root is not None else _pinned(product)
    if fingerprint != expected:  # (1)
        raise CollateralRejectedError(f"expected the ARK with SHA-256 {expected}, got {fingerprint}")
    name = _AUTHORITY_NAMES[key].format(product.name)
    if not authorities.issuer.common_name.endswith(name):  # (2)
        got = authorities.issuer.common_name[:80]
        raise CollateralRejectedError(f"expected the authority {name}, got {got!r}")
    _check_signed(authorities.issuer, authorities.root)
    return _prove_validity((authorities.issuer, authorities.root), now)  # (3)


def read_authorities_of(item: Item) -> Authorities:
    """Read the two certificates of an item; they are proven where the item is.

    Raises:
        CollateralRejectedError: no strict PEM of two certificates of AMD's profile.
    """
    chain = _read(lambda: ChainReader().read(item.chain, what="authorities"))
    if len(chain.certificates) != 1:
        raise CollateralRejectedError(
            f"expected the certificates of 2 authorities, got {len(chain.certificates) + 1}"
        )
    return Authorities(
        issuer=_read(lambda: parse_certificate(chain.certificates[0].der)),
        root=_read(lambda: parse_certificate(chain.root_der)),
    )


def prove_leaf(item: Item, now: datetime, *, leaf: Leaf, issuer: AmdCertificate) -> Proof:
    """Check that `item` is the certificate `leaf`, signed by `issuer`.

    1. The issuer signed it.
    2. It is for this kind of key, this processor and these firmware versions.
    3. It is valid now.

    Raises:
        CollateralRejectedError: it is not.
    """
    certificate = _read(lambda: parse_certificate(item.der))
    _check_signed(certificate, issuer)  # (1)
    got = _read(lambda: read_endorsement(item.der))
    if (got.kind, got.product) != (leaf.key, leaf.product):  # (2)
        expected = f"a {leaf.key} of {leaf.product.name}"
        raise CollateralRejectedError(f"expected {expected}, got a {got.kind} of {got.product.name}")
    if got.tcb != leaf.tcb:
        told = f"expected a {leaf.key} for {describe_tcb(leaf.tcb)}, got {describe_tcb(got.tcb)}"
        raise CollateralRejectedError(told)
    if got.chip_id != leaf.chip_id:
        raise CollateralRejectedError(f"expected the {leaf.key} of this very chip, got another's")
    return _prove_validity((certificate,), now)  # (3)


def prove_amd_crl(item: Item, now: datetime, *, root: AmdCertificate) -> Proof:
    """Check that `item` is the revocation list of the ARK `root`; `now` decides nothing.

    Raises:
        CollateralRejectedError: it is not.
    """
    _ = now
    crl = _read(lambda: parse_revocation_list(item.der))
    if crl.issuer != root.subject or not _is_signed(root, crl.signature, crl.signed):
        raise CollateralRejectedError("expected a revocation list signed by the ARK, got another")
    return Proof(issued_at=as_utc(crl.issued), valid_until=as_utc(crl.expires), revoked=crl.serials)


def _read(parse: Callable[[], T]) -> T:
    """Return what the verifier's strict parser reads, or reject in its words."""
    try:
        return parse()
    except EvidenceMalformedError as error:
        raise CollateralRejectedError(str(error)) from error


def _pinned(product: Product) -> str:
    return next(digest for digest, name in PINNED.items() if name == product.name)


def _check_signed(certificate: AmdCertificate, issuer: AmdCertificate) -> None:
    is_issued = issuer.is_authority and certificate.issuer == issuer.subject
    if not is_issued or not _is_signed(issuer, certificate.signature, certificate.signed):
        got = f"{certificate.common_name[:80]!r} by another"
        raise CollateralRejectedError(
            f"expected a certificate signed by {issuer.common_name[:80]!r}, got {got}"
        )


def _is_signed(issuer: AmdCertificate, signature: bytes, signed: bytes) -> bool:
    return isinstance(issuer.key, rsa.RSAPublicKey) and is_signed_by_authority(issuer.key, signature, signed)


def _prove_validity(certificates: tuple[AmdCertificate, ...], now: datetime) -> Proof:
    start = max(as_utc(one.not_before) for one in certificates)
    end = min(as_utc(one.not_after) for one in certificates)
    if not start <= now <= end:
        raise CollateralRejectedError(
            f"expected certificates valid at {now.isoformat()}, "
            f"got from {start.isoformat()} to {end.isoformat()}"
        )
    return Proof(issued_at=start, valid_until=end, is_ordered=False)
