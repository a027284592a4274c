"""Certificate chains of an SGX quote and its collateral: their form, and the role of each certificate.

dcap-qvl proves that a chain leads to the root. It does not ask *which* of the vendor's certificates signed
what; that is decided here, by the common names that Intel reserves for each role.

Source: Intel SGX PCK Certificate and Certificate Revocation List Profile Specification 1.5; Intel's own
verification library checks the same names.
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from s3ml.attestation.errors import EvidenceMalformedError, Mismatch

ROLE_ROOT = "SGX Root CA"
ROLES_PCK_CA = ("SGX PCK Platform CA", "SGX PCK Processor CA")
ROLE_PCK = "SGX PCK Certificate"
ROLE_TCB_SIGNING = "SGX TCB Signing"

CHAIN_LIMIT = 3
_BLOCK = r"-----BEGIN CERTIFICATE-----\r?\n([A-Za-z0-9+/=\r\n]+)-----END CERTIFICATE-----\r?\n?"
_BLOCKS = re.compile(_BLOCK)
_CHAIN = re.compile(f"(?:{_BLOCK}){{1,{CHAIN_LIMIT}}}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RootOfTrust:
    """The one root under which a quote must verify."""

    der: bytes
    not_before: datetime
    not_after: datetime

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the certificate, hexadecimal."""
        return hashlib.sha256(self.der).hexdigest()


@lru_cache(maxsize=32)
def root_of_trust(der: bytes) -> RootOfTrust:
    """Read a root that the caller trusts: compiled in, or named by the caller's policy."""
    certificate = x509.load_der_x509_certificate(der)
    return RootOfTrust(
        der=der, not_before=certificate.not_valid_before_utc, not_after=certificate.not_valid_after_utc
    )


def parse_chain(pem: str, *, what: str) -> tuple[bytes, ...]:
    """Return the certificates (DER) of a strict PEM chain: nothing before, between or after its blocks.

    Raises:
        EvidenceMalformedError: no PEM, stray text, or more than 3 certificates.
    """
    if not _CHAIN.fullmatch(pem):
        raise EvidenceMalformedError(f"{what}: expected 1 to {CHAIN_LIMIT} PEM certificates and nothing else")
    try:
        return tuple(
            base64.b64decode("".join(block.split()), validate=True) for block in _BLOCKS.findall(pem)
        )
    except binascii.Error as error:
        raise EvidenceMalformedError(f"{what}: expected base64 in PEM") from error


def check_chain(
    chain: tuple[bytes, ...], roles: tuple[tuple[str, ...], ...], root: RootOfTrust, *, what: str
) -> list[Mismatch]:
    """Check that `chain` is one certificate for each of `roles`, leaf first, followed by `root` itself.

    Args:
        chain: DER certificates; their signatures are *not* checked here.
        roles: For each certificate but the last, the roles of which its common name must end with one.
        root: Compared byte for byte.
        what: Names the chain for people.

    Raises:
        EvidenceMalformedError: a certificate cannot be read.
    """
    if len(chain) != len(roles) + 1:
        return [
            Mismatch(
                claim="certificate_chain",
                expected=f"{len(roles) + 1} certificates in the {what}",
                got=str(len(chain)),
            )
        ]
    mismatches = [
        Mismatch(claim="certificate_role", expected=f"{' or '.join(accepted)} in the {what}", got=name)
        for der, accepted in zip(chain, roles, strict=False)
        if not (name := common_name(der, what=what)).endswith(accepted)
    ]
    if chain[-1] != root.der:
        mismatches.append(
            Mismatch(
                claim="root",
                expected=f"the root with SHA-256 {root.fingerprint} in the {what}",
                got=hashlib.sha256(chain[-1]).hexdigest(),
            )
        )
    return mismatches


def common_name(der: bytes, *, what: str) -> str:
    """Return the one common name of a certificate.

    Raises:
        EvidenceMalformedError: it cannot be read, or has not exactly one common name.
    """
    try:
        names = x509.load_der_x509_certificate(der).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError as error:
        raise EvidenceMalformedError(f"{what}: expected DER certificates") from error
    if len(names) != 1:
        raise EvidenceMalformedError(
            f"{what}: expected one common name in each certificate, got {len(names)}"
        )
    return str(names[0].value)


def is_same_authority(first: bytes, second: bytes, *, what: str) -> bool:
    """Tell whether two DER certificates have the same subject and public key.

    Raises:
        EvidenceMalformedError: one of them cannot be read.
    """
    return first == second or _authority(first, what) == _authority(second, what)


def _authority(der: bytes, what: str) -> tuple[x509.Name, bytes]:
    try:
        certificate = x509.load_der_x509_certificate(der)
        key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise EvidenceMalformedError(f"{what}: expected DER certificates of known algorithms") from error
    return certificate.subject, key
