"""How answers of AMD's key distribution service are taken apart: exact forms, limits first.

Pure. A leaf comes as DER, its authorities as PEM with the root last, a revocation list as DER.

Source: AMD 57230, VCEK Certificate and KDS Interface Specification, chapter 4.
"""

from s3ml.attestation.collateral.item import (
    CHAIN_LIMIT_CHARACTERS,
    DER_LIMIT_BYTES,
    CollateralRejectedError,
    Content,
    Reply,
)
from s3ml.attestation.collateral.revocation import read_crl


def read_authorities(reply: Reply) -> Content:
    """Take the authorities, PEM, out of an answer.

    Raises:
        CollateralRejectedError: no ASCII, or more than 8 KiB.
    """
    if len(reply.body) > CHAIN_LIMIT_CHARACTERS or not reply.body.isascii():
        raise CollateralRejectedError(f"expected PEM of at most {CHAIN_LIMIT_CHARACTERS} bytes")
    return Content(chain=reply.body.decode("ascii"))


def read_certificate(reply: Reply) -> Content:
    """Take a certificate, DER, out of an answer; what it says is read when it is proved.

    Raises:
        CollateralRejectedError: more than 16 KiB.
    """
    if len(reply.body) > DER_LIMIT_BYTES:
        raise CollateralRejectedError(f"expected a certificate of at most {DER_LIMIT_BYTES} bytes")
    return Content(der=reply.body)


def read_amd_crl(reply: Reply) -> Content:
    """Take a revocation list out of an answer.

    Raises:
        CollateralRejectedError: no list, or more than 16 KiB.
    """
    return Content(der=read_crl(reply.body))
