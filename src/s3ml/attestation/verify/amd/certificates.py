"""The chain from a processor to AMD's root: the role of each certificate, and that each vouches for the next.

A VCEK, which is the processor's, is issued by the ASK; a VLEK, which is a cloud's, by the ASVK; both of those
by the ARK of the processor line.

Source: AMD 57230, VCEK Certificate and KDS Interface Specification, section 2; RFC 5280, section 6.
"""

from datetime import datetime

from s3ml.attestation.errors import Mismatch
from s3ml.attestation.verify.amd.certificate import AmdCertificate, authority_key, parse_certificate
from s3ml.attestation.verify.amd.endorsement import Endorsement
from s3ml.attestation.verify.amd.product import Product
from s3ml.attestation.verify.amd.roots import SnpRoot, product_of_root
from s3ml.attestation.verify.amd.signature import is_signed_by_authority
from s3ml.attestation.verify.certificates import parse_pem
from s3ml.attestation.verify.comparison import mismatch_unless

CHAIN_CERTIFICATES = 3
AUTHORITY_NAMES = {"VCEK": "SEV-", "VLEK": "SEV-VLEK-"}


def read_chain(pem: str) -> tuple[AmdCertificate, ...]:
    """Read a chain, leaf first.

    Args:
        pem: From an untrusted peer.

    Raises:
        EvidenceMalformedError: no strict PEM of 1 to 3 certificates of AMD's profile.
    """
    return tuple(parse_certificate(der) for der in parse_pem(pem, what="certificate chain"))


def check_chain(
    certificates: tuple[AmdCertificate, ...], endorsement: Endorsement, root: SnpRoot, *, now: datetime
) -> list[Mismatch]:
    """Check that the endorsement key's certificate leads to the root.

    1. The last certificate is the root, byte for byte.
    2. Each has its role: an endorsement key, an authority of the kind that issues such keys, a root.
    3. Each is issued by the next, the last by itself: by name and by signature.
    4. Each is valid now.

    Args:
        certificates: Leaf first: three of them.
        endorsement: What the leaf says.
        root: That the caller trusts.
        now: Aware.

    Raises:
        EvidenceMalformedError: an authority has no RSA key.
    """
    return [
        *root.mismatches,  # (1)
        *_check_roles(certificates, endorsement, root),  # (2)
        *_check_issuers(certificates),  # (3)
        *_check_validity(certificates, now),  # (4)
    ]


def check_product(
    certificates: tuple[AmdCertificate, ...], root: SnpRoot, got: Product | None, what: str
) -> list[Mismatch]:
    """Check that `got`, the processor line that `what` names, is that of the root.

    Args:
        certificates: Leaf first, root last; a root that is for no line has its mismatch by its role.
        root: That the caller trusts.
        got: None where it is no line that is known here.
        what: Where it stands, for people.
    """
    expected = product_of_root(certificates[-1].common_name, root.prefix)
    if expected is None:
        return []
    return mismatch_unless(
        holds=got is expected,
        claim="product",
        expected=f"{expected.name}, which the root is for, in the {what}",
        got=got.name if got else "another processor",
    )


def _check_roles(
    certificates: tuple[AmdCertificate, ...], endorsement: Endorsement, root: SnpRoot
) -> list[Mismatch]:
    leaf, authority, ark = certificates
    line = product_of_root(ark.common_name, root.prefix)
    names = f"{root.prefix}{AUTHORITY_NAMES[endorsement.kind]}"
    return [
        *_check_role(
            leaf, f"{root.prefix}SEV-{endorsement.kind}", holds=not leaf.is_authority, what="no authority"
        ),
        *_check_role(
            authority,
            f"{names}{(line or endorsement.product).name}",
            holds=authority.is_authority,
            what="an authority",
        ),
        *_check_role(
            ark,
            f"{root.prefix}ARK-{(line or endorsement.product).name}",
            holds=ark.is_authority,
            what="an authority",
        ),
    ]


def _check_role(certificate: AmdCertificate, name: str, *, holds: bool, what: str) -> list[Mismatch]:
    got = certificate.common_name
    return mismatch_unless(
        holds=holds and got == name,
        claim="certificate_role",
        expected=f"{name}, {what}",
        got=got[:80] if got != name else f"{name}, which is not",
    )


def _check_issuers(certificates: tuple[AmdCertificate, ...]) -> list[Mismatch]:
    issuers = (*certificates[1:], certificates[-1])
    mismatches = []
    for certificate, issuer in zip(certificates, issuers, strict=True):
        is_named = certificate.issuer == issuer.subject
        is_signed = is_signed_by_authority(authority_key(issuer), certificate.signature, certificate.signed)
        mismatches += mismatch_unless(
            holds=is_named and is_signed,
            claim="certificate_chain",
            expected=f"{certificate.common_name[:80]} issued and signed by {issuer.common_name[:80]}",
            got="another signature" if is_named else "another issuer",
        )
    return mismatches


def _check_validity(certificates: tuple[AmdCertificate, ...], now: datetime) -> list[Mismatch]:
    return [
        Mismatch(
            claim="root_validity" if certificate is certificates[-1] else "certificate_validity",
            expected=f"{certificate.common_name[:80]} valid at {now.isoformat()}",
            got=f"valid from {certificate.not_before.isoformat()} to {certificate.not_after.isoformat()}",
        )
        for certificate in certificates
        if not certificate.not_before <= now <= certificate.not_after
    ]
