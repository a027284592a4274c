"""Whether AMD signed an item: the right authority for the processor line, under the pinned ARK.

The same rules hold for what was just fetched and for what a cache or a file gives back. Whether a certificate
was revoked is left to the verifier.

Source: AMD 57230, VCEK Certificate and KDS Interface Specification, chapters 2 and 3.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from s3ml.attestation.collateral.item import CollateralRejectedError, Item, Proof
from s3ml.attestation.collateral.revocation import prove_crl
from s3ml.attestation.errors import EvidenceMalformedError
from s3ml.attestation.policy.alternative import EndorsementKey, SnpProduct
from s3ml.attestation.verify.certificates import parse_pem

ARK_SHA256: dict[SnpProduct, str] = {
    "Milan": "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd",
    "Genoa": "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1",
    "Turin": "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a",
}
AUTHORITIES = 2
_AUTHORITY_NAMES: dict[EndorsementKey, str] = {"VCEK": "SEV-{}", "VLEK": "SEV-VLEK-{}"}
_LEAF_NAMES: dict[EndorsementKey, str] = {"VCEK": "SEV-VCEK", "VLEK": "SEV-VLEK"}
_EXTENSIONS = "1.3.6.1.4.1.3704.1."
HARDWARE_ID_OID = x509.ObjectIdentifier(f"{_EXTENSIONS}4")
VERSION_OIDS = {
    "blSPL": x509.ObjectIdentifier(f"{_EXTENSIONS}3.1"),
    "teeSPL": x509.ObjectIdentifier(f"{_EXTENSIONS}3.2"),
    "snpSPL": x509.ObjectIdentifier(f"{_EXTENSIONS}3.3"),
    "ucodeSPL": x509.ObjectIdentifier(f"{_EXTENSIONS}3.8"),
    "fmcSPL": x509.ObjectIdentifier(f"{_EXTENSIONS}3.9"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """What the certificate of a report's key must say.

    Args:
        key: Which of the two kinds it is.
        hardware_id: The chip's, 64 bytes, or 8 on Turin; None for a VLEK, which names none.
        versions: The firmware versions that the key stands for, by the names of the query.
    """

    key: EndorsementKey
    hardware_id: bytes | None
    versions: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Authorities:
    """The two certificates above the leaf, proven."""

    issuer: x509.Certificate
    root: x509.Certificate


def prove_authorities(
    item: Item, now: datetime, *, key: EndorsementKey, product: SnpProduct, root: bytes | None
) -> Proof:
    """Check that `item` is the issuing authority of `product` and its ARK.

    1. The ARK is the pinned one, byte for byte.
    2. The ASK, or for VLEKs the ASVK, has its name, and the ARK signed it.
    3. Both are valid now.

    Raises:
        CollateralRejectedError: it is not.
    """
    authorities = read_authorities_of(item)
    fingerprint = hashlib.sha256(authorities.root.public_bytes(Encoding.DER)).hexdigest()
    expected = hashlib.sha256(root).hexdigest() if root is not None else ARK_SHA256[product]
    if fingerprint != expected:  # (1)
        raise CollateralRejectedError(f"expected the ARK with SHA-256 {expected}, got {fingerprint}")
    _check_issued(authorities.issuer, authorities.root, _AUTHORITY_NAMES[key].format(product))  # (2)
    return _prove_validity((authorities.issuer, authorities.root), now)  # (3)


def read_authorities_of(item: Item) -> Authorities:
    """Read the two certificates of an item; they are proven where the item is.

    Raises:
        CollateralRejectedError: no strict PEM of two certificates.
    """
    try:
        ders = parse_pem(item.chain, what="authorities")
    except EvidenceMalformedError as error:
        raise CollateralRejectedError(str(error)) from error
    if len(ders) != AUTHORITIES:
        raise CollateralRejectedError(f"expected the certificates of 2 authorities, got {len(ders)}")
    issuer, root = (load_certificate(der) for der in ders)
    return Authorities(issuer=issuer, root=root)


def load_certificate(der: bytes) -> x509.Certificate:
    """Read a certificate.

    Raises:
        CollateralRejectedError: it is none.
    """
    try:
        return x509.load_der_x509_certificate(der)
    except Exception as error:  # the parser raises many kinds
        raise CollateralRejectedError("expected a DER certificate") from error


def prove_leaf(item: Item, now: datetime, *, leaf: Leaf, issuer: x509.Certificate) -> Proof:
    """Check that `item` is the certificate `leaf`, signed by `issuer`.

    1. It has its name, and the issuer signed it.
    2. It is for this chip and these firmware versions.
    3. It is valid now.

    Raises:
        CollateralRejectedError: it is not.
    """
    certificate = load_certificate(item.der)
    _check_issued(certificate, issuer, _LEAF_NAMES[leaf.key])  # (1)
    for name, version in leaf.versions.items():  # (2)
        got = _extension(certificate, VERSION_OIDS[name])
        if got != _integer(version):
            raise CollateralRejectedError(f"expected a {leaf.key} for {name} {version}, got another")
    if leaf.hardware_id is not None and _extension(certificate, HARDWARE_ID_OID) != leaf.hardware_id:
        raise CollateralRejectedError(f"expected the {leaf.key} of this very chip, got another's")
    return _prove_validity((certificate,), now)  # (3)


def prove_amd_crl(item: Item, now: datetime, *, root: x509.Certificate) -> Proof:
    """Check that `item` is the revocation list of the ARK `root`; `now` decides nothing.

    Raises:
        CollateralRejectedError: it is not.
    """
    _ = now
    return prove_crl(item.der, root.public_bytes(Encoding.DER))


def _check_issued(certificate: x509.Certificate, issuer: x509.Certificate, name: str) -> None:
    """Check a certificate's common name, whose end counts, and who signed it."""
    try:
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        got = ", ".join(str(one.value) for one in names)
        certificate.verify_directly_issued_by(issuer)
    except Exception as error:  # the parser raises many kinds
        raise CollateralRejectedError(
            f"expected {name} signed by its issuer, got another signature"
        ) from error
    if not got.endswith(name):
        raise CollateralRejectedError(f"expected the certificate {name}, got {got[:80]!r}")


def _extension(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> bytes | None:
    """Return an extension's value as it stands, or None."""
    try:
        value = certificate.extensions.get_extension_for_oid(oid).value
    except Exception:  # noqa: BLE001 - missing, repeated, or beside one that cannot be read
        return None
    return value.value if isinstance(value, x509.UnrecognizedExtension) else None


def _integer(version: int) -> bytes:
    """Return a DER INTEGER of 0 to 255; from 128 on it takes a leading zero octet."""
    octets = version.to_bytes(2 if version >= 0x80 else 1, "big")  # noqa: PLR2004 - the sign bit
    return bytes((0x02, len(octets))) + octets


def _prove_validity(certificates: tuple[x509.Certificate, ...], now: datetime) -> Proof:
    start = max(one.not_valid_before_utc for one in certificates)
    end = min(one.not_valid_after_utc for one in certificates)
    if not start <= now <= end:
        raise CollateralRejectedError(
            f"expected certificates valid at {now.isoformat()}, "
            f"got from {start.isoformat()} to {end.isoformat()}"
        )
    return Proof(issued_at=start, valid_until=end, is_ordered=False)
