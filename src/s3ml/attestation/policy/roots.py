"""Roots that policies name: simulation roots alone, because a real TEE's root is its vendor's."""

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from s3ml.attestation.evidence import Technology, Tee
from s3ml.primitives.errors import ConfigurationError

RSA_BITS = 4096


def check_root(root: bytes | None, tee: Tee, technology: Technology) -> None:
    """Check that `root` is there with ``simulated`` alone, and has the kind of key that `technology` has.

    Raises:
        ConfigurationError: it is not so.
    """
    if tee is not Tee.SIMULATED:
        if root is not None:
            raise ConfigurationError(
                f"policy: root: expected none with tee = {tee}: its root is the vendor's"
            )
        return
    if root is None:
        raise ConfigurationError("policy: root: expected the simulation root with tee = simulated, got none")
    try:
        key = x509.load_der_x509_certificate(root).public_key()
    except Exception as error:  # cryptography raises ValueError, TypeError and its own
        raise ConfigurationError("policy: root: expected a DER certificate") from error
    if technology is Technology.SEV_SNP:
        if not isinstance(key, rsa.RSAPublicKey) or key.key_size != RSA_BITS:
            raise ConfigurationError("policy: root: expected a certificate of an RSA key of 4096 bits (ARK)")
    elif not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ConfigurationError("policy: root: expected a certificate of a P-256 key")
