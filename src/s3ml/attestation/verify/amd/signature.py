"""The two kinds of signature under a report: ECDSA by the processor, RSASSA-PSS by AMD's authorities.

Source: AMD 56860, appendix D; AMD 57230, section 2 (certificates are signed by RSA-4096 keys, RSASSA-PSS with
SHA-384, MGF1 with SHA-384, a salt of 48 bytes); RFC 4055, section 3.1 (RSASSA-PSS-params).
"""

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

PSS_SALT_BYTES: Final = 48
RSA_BITS: Final = 4096
RSA_EXPONENT: Final = 65537

_SHA384_SHA384_48 = (
    "a00f300d06096086480165030402020500a11c301a06092a864886f70d010108300d06096086480165030402020500a203020130"
)
PSS_ALGORITHM: Final = bytes.fromhex("304106092a864886f70d01010a3034" + _SHA384_SHA384_48)
# AMD also writes the default trailer field out, which DER does not.
PSS_ALGORITHM_WITH_TRAILER: Final = bytes.fromhex(
    "304606092a864886f70d01010a3039" + _SHA384_SHA384_48 + "a303020101"
)
PSS_ALGORITHMS: Final = frozenset({PSS_ALGORITHM, PSS_ALGORITHM_WITH_TRAILER})

_ECDSA = ec.ECDSA(SHA384())
_PSS = padding.PSS(mgf=padding.MGF1(SHA384()), salt_length=PSS_SALT_BYTES)


def is_signed_by_processor(
    key: ec.EllipticCurvePublicKey, signature: tuple[int, int], message: bytes
) -> bool:
    """Tell whether `key` (P-384) made `signature` (r and s, in range) over `message`."""
    try:
        key.verify(encode_dss_signature(*signature), message, _ECDSA)
    except InvalidSignature:
        return False
    return True


def is_signed_by_authority(key: rsa.RSAPublicKey, signature: bytes, message: bytes) -> bool:
    """Tell whether `key` made `signature` over `message`."""
    try:
        key.verify(signature, message, _PSS, SHA384())
    except InvalidSignature:
        return False
    return True
