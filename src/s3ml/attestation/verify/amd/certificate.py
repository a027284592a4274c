"""One of AMD's certificates: its fields, read strictly; its signature is checked elsewhere.

Everything that AMD's profile does not have rejects: other algorithms, unique identifiers, critical extensions
of unknown meaning, an extension twice.

Source: RFC 5280, section 4.1; AMD 57230, VCEK Certificate and KDS Interface Specification, section 2.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from s3ml.attestation.errors import EvidenceMalformedError
from s3ml.attestation.verify.amd.der import (
    BIT_STRING,
    OBJECT_ID,
    OCTET_STRING,
    PRINTABLE_STRING,
    SEQUENCE,
    SET,
    UTF8_STRING,
    DerReader,
)
from s3ml.attestation.verify.amd.signature import PSS_ALGORITHMS, RSA_BITS, RSA_EXPONENT

VERSION_3 = 2
SERIAL_LIMIT_BYTES = 20
CACHED_CERTIFICATES = 256

OID_COMMON_NAME = bytes.fromhex("550403")
OID_KEY_USAGE = bytes.fromhex("551d0f")
OID_BASIC_CONSTRAINTS = bytes.fromhex("551d13")
UNDERSTOOD = frozenset({OID_KEY_USAGE, OID_BASIC_CONSTRAINTS})

USAGE_CERTIFICATES = 0x04
USAGE_REVOCATION_LISTS = 0x02

_EXPLICIT_VERSION = 0xA0
_EXPLICIT_EXTENSIONS = 0xA3

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class AmdCertificate:
    """A certificate, taken apart and trusted in nothing.

    Args:
        der: All of it.
        signed: The part that is signed.
        signature: By the issuer's key over `signed`.
        serial: 0 in every VCEK's certificate.
        issuer: The issuer's name, DER.
        subject: Its own, DER.
        common_name: The one common name of its subject.
        not_before: With `not_after`: when it is valid.
        not_after: See `not_before`.
        key: RSA of 4096 bits, or P-384.
        is_authority: Whether it may sign certificates, as far as it says.
        signs_revocation_lists: Whether it may sign revocation lists.
        extensions: The values of all extensions, by the content of their object identifiers.
    """

    der: bytes
    signed: bytes
    signature: bytes
    serial: int
    issuer: bytes
    subject: bytes
    common_name: str
    not_before: datetime
    not_after: datetime
    key: PublicKey
    is_authority: bool
    signs_revocation_lists: bool
    extensions: Mapping[bytes, bytes]


@lru_cache(maxsize=CACHED_CERTIFICATES)
def parse_certificate(der: bytes) -> AmdCertificate:
    """Read a certificate; pure, so that what was read once is not read again.

    Args:
        der: From an untrusted peer.

    Raises:
        EvidenceMalformedError: it is not exactly one certificate of AMD's profile.
    """
    what = "certificate"
    whole = DerReader(der, what)
    outer = whole.enter(SEQUENCE)
    whole.finish()
    signed, content = outer.take_both(SEQUENCE)
    algorithm = outer.take_whole(SEQUENCE)
    signature = outer.take_bits()
    outer.finish()
    fields = DerReader(content, what)
    if fields.enter(_EXPLICIT_VERSION).take_unsigned(1) != VERSION_3:
        raise EvidenceMalformedError(f"{what}: expected version 3")
    serial = fields.take_unsigned(SERIAL_LIMIT_BYTES)
    check_algorithm(fields.take_whole(SEQUENCE), algorithm, what)
    issuer = fields.take_whole(SEQUENCE)
    validity = fields.enter(SEQUENCE)
    not_before, not_after = validity.take_time(), validity.take_time()
    validity.finish()
    subject = fields.take_whole(SEQUENCE)
    key = _read_key(fields.take_whole(SEQUENCE))
    extensions = read_extensions(fields.enter(_EXPLICIT_EXTENSIONS), what, understood=UNDERSTOOD)
    fields.finish()
    is_authority, usage = _read_constraints(extensions), _read_usage(extensions)
    return AmdCertificate(
        der=der,
        signed=signed,
        signature=signature,
        serial=serial,
        issuer=issuer,
        subject=subject,
        common_name=_read_common_name(subject),
        not_before=not_before,
        not_after=not_after,
        key=key,
        is_authority=is_authority and (usage is None or bool(usage & USAGE_CERTIFICATES)),
        signs_revocation_lists=is_authority and (usage is None or bool(usage & USAGE_REVOCATION_LISTS)),
        extensions=extensions,
    )


def authority_key(certificate: AmdCertificate) -> rsa.RSAPublicKey:
    """Return the key of an authority.

    Raises:
        EvidenceMalformedError: it is that of a processor.
    """
    if not isinstance(certificate.key, rsa.RSAPublicKey):
        raise EvidenceMalformedError(
            f"certificate of {certificate.common_name[:80]!r}: expected a key of RSA-4096, got P-384"
        )
    return certificate.key


def check_algorithm(inner: bytes, outer: bytes, what: str) -> None:
    """Check that a document names RSASSA-PSS with AMD's parameters, inside its signed part and beside it.

    Raises:
        EvidenceMalformedError: another algorithm or other parameters.
    """
    if inner != outer or inner not in PSS_ALGORITHMS:
        raise EvidenceMalformedError(f"{what}: expected RSASSA-PSS with SHA-384, MGF1 and a salt of 48 bytes")


def read_extensions(wrapped: DerReader, what: str, *, understood: frozenset[bytes]) -> dict[bytes, bytes]:
    """Return the values of all extensions by the content of their object identifiers.

    Args:
        wrapped: Holds one SEQUENCE of extensions and nothing else.
        what: Names the document in messages.
        understood: Which extensions may be critical.

    Raises:
        EvidenceMalformedError: none, one twice, or one that is critical and not understood.
    """
    found: dict[bytes, bytes] = {}
    listed = wrapped.enter(SEQUENCE)
    wrapped.finish()
    while not found or not listed.is_at_end:
        extension = listed.enter(SEQUENCE)
        name = extension.take(OBJECT_ID)
        is_critical = extension.take_true()
        value = extension.take(OCTET_STRING)
        extension.finish()
        if name in found or (is_critical and name not in understood):
            raise EvidenceMalformedError(
                f"{what}: expected known extensions, each once, got {name.hex()[:40]}"
            )
        found[name] = value
    return found


def _read_key(info: bytes) -> PublicKey:
    try:
        key = load_der_public_key(info)
    except Exception as error:  # the parser raises many kinds
        raise EvidenceMalformedError("certificate: expected a public key") from error
    match key:
        case rsa.RSAPublicKey(key_size=size) if size == RSA_BITS:
            is_known = key.public_numbers().e == RSA_EXPONENT
        case ec.EllipticCurvePublicKey(curve=ec.SECP384R1()):
            is_known = True
        case _:
            is_known = False
    if not (is_known and isinstance(key, PublicKey)):
        raise EvidenceMalformedError("certificate: expected a key of RSA-4096 with exponent 65537, or P-384")
    return key


def _read_common_name(name: bytes) -> str:
    """Return the one common name in a subject, whose other attributes decide nothing; messages say it."""
    what = "certificate"
    found = []
    parts = DerReader(name, what).enter(SEQUENCE)
    while not parts.is_at_end:
        part = parts.enter(SET)
        attribute = part.enter(SEQUENCE)
        part.finish()
        kind = attribute.take(OBJECT_ID)
        if kind == OID_COMMON_NAME:
            tag = UTF8_STRING if attribute.next_is(UTF8_STRING) else PRINTABLE_STRING
            found.append(attribute.take(tag))
    if len(found) != 1 or not found[0].isascii():
        raise EvidenceMalformedError(f"{what}: expected one common name in ASCII, got {len(found)}")
    text = found[0].decode("ascii")
    if not text.isprintable():
        raise EvidenceMalformedError(f"{what}: expected a printable common name, got {text[:80]!r}")
    return text


def _read_constraints(extensions: Mapping[bytes, bytes]) -> bool:
    """Return whether BasicConstraints says that this is an authority."""
    value = extensions.get(OID_BASIC_CONSTRAINTS)
    if value is None:
        return False
    reader = DerReader(value, "certificate")
    is_authority = reader.enter(SEQUENCE).take_true()
    reader.finish()
    return is_authority


def _read_usage(extensions: Mapping[bytes, bytes]) -> int | None:
    """Return the first eight bits of KeyUsage; None where it is absent."""
    value = extensions.get(OID_KEY_USAGE)
    if value is None:
        return None
    reader = DerReader(value, "certificate")
    bits = reader.take(BIT_STRING)
    reader.finish()
    return bits[1] if len(bits) > 1 else 0
