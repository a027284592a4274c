"""Certificate chains of an SGX quote and its collateral: their form, and the role of each certificate.

dcap-qvl proves that a chain leads to the root. It does not ask *which* of the vendor's certificates signed
what; that is decided here, by the common names that Intel reserves for each role.

Source: Intel SGX PCK Certificate and Certificate Revocation List Profile Specification 1.5; Intel's own
verification library checks the same names.
"""

import binascii
import hashlib
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from s3ml.attestation.errors import EvidenceMalformedError, Mismatch
from s3ml.attestation.verify.names import common_name, locate_names
from s3ml.primitives.encoding import tagged_sha256

ROLES_PCK_CA = ("SGX PCK Platform CA", "SGX PCK Processor CA")
ROLES_PCK = ("SGX PCK Certificate",)
ROLES_TCB_SIGNING = ("SGX TCB Signing",)

CHAIN_LIMIT = 3
_HEADER = "-----BEGIN CERTIFICATE-----\n"
_FOOTER = "-----END CERTIFICATE-----\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class RootOfTrust:
    """The one root under which a quote must verify; `subject` is DER."""

    der: bytes
    subject: bytes
    not_before: datetime
    not_after: datetime

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the certificate, hexadecimal."""
        return hashlib.sha256(self.der).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What is read of a certificate below the root; its signature is not checked here.

    `subject` and `issuer` are DER and compared byte for byte; `role` is the subject's common name.
    """

    der: bytes
    role: str
    subject: bytes
    issuer: bytes
    serial: int
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A chain, leaf first; its last certificate is what it *claims* as its root."""

    what: str
    certificates: tuple[Certificate, ...]
    root_der: bytes


@lru_cache(maxsize=32)
def root_of_trust(der: bytes) -> RootOfTrust:
    """Read a root that the caller trusts: compiled in, or named by the caller's policy."""
    certificate = x509.load_der_x509_certificate(der)
    return RootOfTrust(
        der=der,
        subject=locate_names(certificate.tbs_certificate_bytes)[1],
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PemChain:
    """Certificates as DER, leaf first, and the one text that stands for them: a line of base64 each."""

    ders: tuple[bytes, ...]
    text: str

    @property
    def digest(self) -> bytes:
        """What stands for them in a longer digest."""
        return _digest_of(self.ders)


def parse_pem(pem: str, *, what: str) -> tuple[bytes, ...]:
    """Return the certificates (DER) of a strict PEM chain; see `read_pem`."""
    return read_pem(pem, what=what).ders


def read_pem(pem: str, *, what: str) -> PemChain:
    """Read a strict PEM chain: nothing before, between or after its blocks.

    Raises:
        EvidenceMalformedError: no PEM, stray text, or more than 3 certificates.
    """
    chain = _split_pem(pem)
    if chain is None:
        raise EvidenceMalformedError(f"{what}: expected 1 to {CHAIN_LIMIT} PEM certificates and nothing else")
    if not chain.ders:
        raise EvidenceMalformedError(f"{what}: expected canonical base64 in PEM")
    return chain


@lru_cache(maxsize=64)  # of at most 16 KiB each
def _split_pem(pem: str) -> PemChain | None:
    """Return the blocks of a chain, none where their base64 is not canonical, None where it is no chain."""
    text = pem.replace("\r\n", "\n")
    *blocks, rest = (text if text.endswith("\n") else text + "\n").split(_FOOTER)
    if rest or not 1 <= len(blocks) <= CHAIN_LIMIT:
        return None
    if not all(block.startswith(_HEADER) for block in blocks):
        return None
    try:
        read = [_read_block(block) for block in blocks]
    except ValueError:  # binascii.Error, or no ASCII
        return PemChain(ders=(), text="")
    ders = tuple([der for der, _ in read])
    text = "".join([line for _, line in read])
    return PemChain(ders=ders, text=text)


@lru_cache(maxsize=64)
def _digest_of(ders: tuple[bytes, ...]) -> bytes:
    return tagged_sha256("S3ML chain v1", *ders)


@lru_cache(maxsize=128)  # of at most 16 KiB each; chains share most of their certificates
def _read_block(block: str) -> tuple[bytes, str]:
    """Return a certificate (DER) and its one PEM; ValueError where the base64 is not canonical."""
    line = block[len(_HEADER) :].replace("\n", "")
    der = binascii.a2b_base64(line)
    if binascii.b2a_base64(der, newline=False) != line.encode("ascii"):
        raise ValueError("expected canonical base64")
    return der, f"{_HEADER}{line}\n{_FOOTER}"


class ChainReader:
    """Reads chains; what was read lately is remembered by its very bytes."""

    __slots__ = ()

    def read(self, pem: str, *, what: str) -> Chain:
        """Read a PEM chain from an untrusted peer.

        Args:
            pem: Leaf first, root last.
            what: Names the chain for people.

        Raises:
            EvidenceMalformedError: no strict PEM, or a certificate below the root cannot be read.
        """
        *below, root = parse_pem(pem, what=what)
        try:
            certificates = tuple([_read_certificate(der) for der in below])
        except ValueError as error:
            raise EvidenceMalformedError(f"{what}: {error}") from error
        return Chain(what=what, certificates=certificates, root_der=root)


def check_chain(
    chain: Chain, roles: tuple[tuple[str, ...], ...], root: RootOfTrust, now: datetime
) -> list[Mismatch]:
    """Check that `chain` is one certificate for each of `roles`, leaf first, followed by `root` itself.

    1. It has the right length, and ends with `root`, byte for byte.
    2. Each certificate has its role, by the end of its common name.
    3. Each names the next one as its issuer.
    4. Each is valid now.
    """
    mismatches = []
    if chain.root_der != root.der:  # (1)
        got = f"a root with SHA-256 {hashlib.sha256(chain.root_der).hexdigest()}"
        mismatches.append(
            Mismatch(claim="root", expected=f"the root with SHA-256 {root.fingerprint}", got=got)
        )
    if len(chain.certificates) != len(roles):
        expected = f"{len(roles) + 1} certificates in the {chain.what}"
        got = str(len(chain.certificates) + 1)
        return [*mismatches, Mismatch(claim="certificate_chain", expected=expected, got=got)]
    issuers = (*(certificate.subject for certificate in chain.certificates[1:]), root.subject)
    for certificate, accepted, issuer in zip(chain.certificates, roles, issuers, strict=True):
        if not certificate.role.endswith(accepted):  # (2)
            expected = f"{' or '.join(accepted)} in the {chain.what}"
            mismatches.append(
                Mismatch(claim="certificate_role", expected=expected, got=certificate.role[:80])
            )
        if certificate.issuer != issuer:  # (3)
            expected = f"{certificate.role[:80]} issued by the next certificate in the {chain.what}"
            mismatches.append(Mismatch(claim="certificate_chain", expected=expected, got="another issuer"))
        if not certificate.not_before <= now <= certificate.not_after:  # (4)
            expected = f"{certificate.role[:80]} valid at {now.isoformat()}"
            got = f"valid from {certificate.not_before.isoformat()} to {certificate.not_after.isoformat()}"
            mismatches.append(Mismatch(claim="certificate_validity", expected=expected, got=got))
    return mismatches


def is_same_authority(first: Certificate, second: Certificate) -> bool:
    """Tell whether two certificates have the same subject and public key.

    Raises:
        EvidenceMalformedError: a public key cannot be read.
    """
    if first.der == second.der:
        return True
    return first.subject == second.subject and _public_key(first) == _public_key(second)


def is_issued_by(certificate: Certificate, root: RootOfTrust) -> bool:
    """Tell whether `root` issued and signed `certificate`."""
    try:
        subject = x509.load_der_x509_certificate(certificate.der)
        subject.verify_directly_issued_by(x509.load_der_x509_certificate(root.der))
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _public_key(certificate: Certificate) -> bytes:
    try:
        key = x509.load_der_x509_certificate(certificate.der).public_key()
    except Exception as error:  # the parser raises many kinds
        raise EvidenceMalformedError(f"{certificate.role[:80]}: expected a P-256 public key") from error
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@lru_cache(maxsize=128)  # of at most 12 KiB each
def _read_certificate(der: bytes) -> Certificate:
    """Read a certificate; ValueError, in words for people, where that cannot be done."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        issuer, subject = locate_names(certificate.tbs_certificate_bytes)
        read = Certificate(
            der=der,
            role=common_name(subject),
            subject=subject,
            issuer=issuer,
            serial=certificate.serial_number,
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
        )
    except Exception as error:  # the parser raises many kinds
        raise ValueError("expected DER certificates with one printable common name each") from error
    if read.serial <= 0:
        raise ValueError("expected positive serial numbers")
    return read
