"""Revocation lists: the forms that services send them in, and whether their authority signed them.

Source: RFC 5280, section 5; Intel PCCS design guide (hexadecimal digits); AMD 57230, chapter 4 (DER).
"""

import re

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from s3ml.attestation.collateral.item import DER_LIMIT_BYTES, CollateralRejectedError, Proof

_HEXADECIMAL = re.compile(rb"\A(?:[0-9A-Fa-f]{2})+\Z")
_PEM_CRL = b"-----BEGIN X509 CRL-----"


def read_crl(body: bytes) -> bytes:
    """Return a revocation list as DER; services send it as DER, as PEM or as hexadecimal digits.

    Raises:
        CollateralRejectedError: none of these, or more than 16 KiB.
    """
    text = body.strip()
    der = bytes.fromhex(text.decode("ascii")) if _HEXADECIMAL.match(text) else body
    try:
        if text.startswith(_PEM_CRL):
            der = x509.load_pem_x509_crl(text).public_bytes(Encoding.DER)
        else:
            x509.load_der_x509_crl(der)
    except Exception as error:  # the parser raises many kinds
        raise CollateralRejectedError(f"expected a revocation list, got {len(body)} other bytes") from error
    if len(der) > DER_LIMIT_BYTES:
        raise CollateralRejectedError(f"expected a revocation list of at most {DER_LIMIT_BYTES} bytes")
    return der


def prove_crl(der: bytes, issuer: bytes) -> Proof:
    """Check that one of Intel's authorities signed a revocation list; AMD's have a parser of their own.

    Args:
        der: The list.
        issuer: The authority's certificate, DER, whose own signature holds.

    Raises:
        CollateralRejectedError: no list, another signature or issuer, or no next update.
    """
    authority = x509.load_der_x509_certificate(issuer)
    try:
        crl = x509.load_der_x509_crl(der)
        key = authority.public_key()
        is_signed = isinstance(key, ec.EllipticCurvePublicKey) and crl.is_signature_valid(key)
        issued, until = crl.last_update_utc, crl.next_update_utc
        revoked = frozenset(entry.serial_number for entry in crl)
    except Exception as error:  # the parser raises many kinds
        raise CollateralRejectedError("expected a DER revocation list") from error
    if not is_signed or crl.issuer != authority.subject:
        raise CollateralRejectedError("expected a revocation list signed by its authority, got another")
    if until is None:
        raise CollateralRejectedError("expected a revocation list with a next update, got none")
    return Proof(issued_at=issued, valid_until=until, revoked=revoked)
