"""Certificates and revocation lists shaped like AMD's, signed by whoever holds a key. SIMULATED throughout.

Each field is the caller's to choose, because a verifier has to reject the wrong ones: nothing is checked.

Source: RFC 5280, sections 4.1 and 5.1; AMD 57230, VCEK Certificate and KDS Interface Specification,
section 2.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from s3ml.attestation.simulated.der import bit_string, element, integer, object_id, time
from s3ml.attestation.verify.amd.certificate import OID_BASIC_CONSTRAINTS, OID_KEY_USAGE
from s3ml.attestation.verify.amd.der import (
    BIT_STRING,
    BOOLEAN,
    OBJECT_ID,
    OCTET_STRING,
    SEQUENCE,
    SET,
    UTF8_STRING,
)
from s3ml.attestation.verify.amd.signature import PSS_ALGORITHM_WITH_TRAILER, PSS_SALT_BYTES

COMMON_NAME = "2.5.4.3"
ORGANIZATION = "2.5.4.10"
CRL_NUMBER = bytes.fromhex("551d14")
NOTICE = "S3ML simulation, proves nothing"

_TRUE = element(BOOLEAN, b"\xff")
_EXPLICIT_0, _EXPLICIT_3 = 0xA0, 0xA3


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """An extension: the content of its object identifier, and its value."""

    name: bytes
    value: bytes
    is_critical: bool = False

    def encode(self) -> bytes:
        """Return it as DER."""
        critical = _TRUE if self.is_critical else b""
        return element(SEQUENCE, element(OBJECT_ID, self.name), critical, element(OCTET_STRING, self.value))


AUTHORITY = (
    Extension(name=OID_BASIC_CONSTRAINTS, value=element(SEQUENCE, _TRUE), is_critical=True),
    Extension(name=OID_KEY_USAGE, value=element(BIT_STRING, b"\x01\x06"), is_critical=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFields:
    """What a certificate says.

    Args:
        subject: Its name, DER.
        issuer: The issuer's name, DER.
        key: The public key, DER.
        serial: AMD's endorsement keys all have 0.
        not_before: With `not_after`: when it is valid; aware.
        not_after: See `not_before`.
        extensions: In their order.
        algorithm: Named inside and outside of the signed part.
        version: 2 stands for version 3.
    """

    subject: bytes
    issuer: bytes
    key: bytes
    serial: int
    not_before: datetime
    not_after: datetime
    extensions: tuple[Extension, ...]
    algorithm: bytes = PSS_ALGORITHM_WITH_TRAILER
    version: int = 2

    def encode(self) -> bytes:
        """Return the part that is signed."""
        return element(
            SEQUENCE,
            element(_EXPLICIT_0, integer(self.version)),
            integer(self.serial),
            self.algorithm,
            self.issuer,
            element(SEQUENCE, time(self.not_before), time(self.not_after)),
            self.subject,
            self.key,
            element(_EXPLICIT_3, element(SEQUENCE, *(one.encode() for one in self.extensions))),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationFields:
    """What a revocation list says.

    Args:
        issuer: The issuer's name, DER.
        issued: With `expires`: when it is valid; aware.
        expires: See `issued`.
        serials: Of the certificates that are revoked.
        extensions: In their order.
        algorithm: Named inside and outside of the signed part.
        version: 1 stands for version 2.
    """

    issuer: bytes
    issued: datetime
    expires: datetime
    serials: tuple[int, ...] = ()
    extensions: tuple[Extension, ...] = (Extension(name=CRL_NUMBER, value=integer(1)),)
    algorithm: bytes = PSS_ALGORITHM_WITH_TRAILER
    version: int = 1

    def encode(self) -> bytes:
        """Return the part that is signed."""
        entries = [element(SEQUENCE, integer(serial), time(self.issued)) for serial in self.serials]
        extensions = element(SEQUENCE, *(one.encode() for one in self.extensions))
        return element(
            SEQUENCE,
            integer(self.version),
            self.algorithm,
            self.issuer,
            time(self.issued),
            time(self.expires),
            element(SEQUENCE, *entries) if entries else b"",
            element(_EXPLICIT_0, extensions) if self.extensions else b"",
        )


def sign_document(fields: CertificateFields | RevocationFields, key: rsa.RSAPrivateKey) -> bytes:
    """Return a certificate or a revocation list that says `fields`, signed with `key`; DER."""
    return join_document(fields.encode(), fields.algorithm, key)


def join_document(signed: bytes, algorithm: bytes, key: rsa.RSAPrivateKey) -> bytes:
    """Return `signed`, whatever it is, with the signature of `key` over it."""
    pss = padding.PSS(mgf=padding.MGF1(SHA384()), salt_length=PSS_SALT_BYTES)
    return element(SEQUENCE, signed, algorithm, bit_string(key.sign(signed, pss, SHA384())))


def name(common_name: str, organization: str = NOTICE) -> bytes:
    """Return a name, DER."""
    attributes = ((ORGANIZATION, organization), (COMMON_NAME, common_name))
    return element(
        SEQUENCE,
        *(
            element(SET, element(SEQUENCE, object_id(kind), element(UTF8_STRING, text.encode())))
            for kind, text in attributes
        ),
    )


def key_info(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    """Return the public half of `key` as certificates have it, DER."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def revoke(issuer: bytes, key: rsa.RSAPrivateKey, now: datetime, lifetime: timedelta, *serials: int) -> bytes:
    """Return the revocation list of `issuer` (its name) over `serials`, issued at `now`; DER."""
    start = now.replace(microsecond=0)
    fields = RevocationFields(issuer=issuer, issued=start, expires=start + lifetime, serials=serials)
    return sign_document(fields, key)
