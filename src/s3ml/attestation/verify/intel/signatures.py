"""Every signature under an Intel quote, one by one: what is broken where dcap-qvl rejects.

dcap-qvl stops at the first fault; a person who reads a rejection wants all of them. This decides nothing: a
quote that dcap-qvl rejected stays rejected, whatever is found here.

Source: Intel SGX ECDSA QuoteLibReference DCAP API, appendix A.4; Intel SGX PCS API, version 4.
"""

import hashlib

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from s3ml.attestation.errors import Mismatch
from s3ml.attestation.evidence import Collateral
from s3ml.attestation.verify.certificates import Chain, ChainReader, RootOfTrust
from s3ml.attestation.verify.intel.quote import Certification

_UNCOMPRESSED = b"\x04"


def find_broken(
    certification: Certification,
    collateral: Collateral,
    *,
    platform: Chain,
    chains: ChainReader,
    root: RootOfTrust,
) -> list[Mismatch]:
    """Check each signature and return what does not hold.

    1. Each certificate of each chain is signed by the next, the last but one by `root`.
    2. The root signed its revocation list, and the platform's CA its own.
    3. The TCB signing certificates signed TCB info and the quoting enclave's identity.
    4. The platform signed the quoting enclave's report, which names the attestation key; that one signed
       the quote.

    Args:
        certification: Who vouches for the quote.
        collateral: From an untrusted peer, readable.
        platform: The quote's chain.
        chains: The reader that `platform` came from.
        root: Of trust.
    """
    tcb = chains.read(collateral.tcb_info_issuer_chain, what="TCB info's chain")
    qe = chains.read(collateral.qe_identity_issuer_chain, what="QE identity's chain")
    crl = chains.read(collateral.pck_crl_issuer_chain, what="PCK CRL's chain")
    mismatches = [
        mismatch
        for chain in (platform, tcb, qe, crl)
        for mismatch in _check_chain(chain, root)  # (1)
    ]
    mismatches += _check_crl("root CRL", collateral.root_ca_crl, root.der)  # (2)
    if crl.certificates:
        mismatches += _check_crl("PCK CRL", collateral.pck_crl, crl.certificates[0].der)
    documents = (
        ("tcb_info", tcb, collateral.tcb_info, collateral.tcb_info_signature),
        ("qe_identity", qe, collateral.qe_identity, collateral.qe_identity_signature),
    )
    for claim, chain, text, signature in documents:  # (3)
        key = _key(chain)
        if key is not None and not _is_signed(key, signature, text.encode()):
            expected = f"signed by the certificate of the {chain.what}"
            mismatches.append(Mismatch(claim=claim, expected=expected, got="another signature"))
    return mismatches + _check_quote(certification, _key(platform))  # (4)


def is_signed_by_point(point: bytes, signature: bytes, message: bytes) -> bool:
    """Tell whether the P-256 key at `point` (x || y) made `signature` (r || s) over `message`."""
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), _UNCOMPRESSED + point)
    except ValueError:
        return False
    return _is_signed(key, signature, message)


def _check_chain(chain: Chain, root: RootOfTrust) -> list[Mismatch]:
    ders = (*(certificate.der for certificate in chain.certificates), root.der)
    mismatches = []
    for certificate, issuer in zip(chain.certificates, ders[1:], strict=True):
        try:
            subject = x509.load_der_x509_certificate(certificate.der)
            subject.verify_directly_issued_by(x509.load_der_x509_certificate(issuer))
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            expected = f"{certificate.role[:80]} signed by its issuer in the {chain.what}"
            mismatches.append(Mismatch(claim="certificate_chain", expected=expected, got="another signature"))
    return mismatches


def _check_crl(what: str, der: bytes, issuer: bytes) -> list[Mismatch]:
    key = _public_key(issuer)
    if key is not None and x509.load_der_x509_crl(der).is_signature_valid(key):
        return []
    return [Mismatch(claim="revocation", expected=f"{what} signed by its CA", got="another signature")]


def _check_quote(certification: Certification, pck: ec.EllipticCurvePublicKey | None) -> list[Mismatch]:
    expected = []
    if pck is not None and not _is_signed(pck, certification.report_signature, certification.report):
        expected.append("the quoting enclave's report signed by the platform")
    endorsed = hashlib.sha256(certification.attestation_key + certification.authentication).digest()
    if certification.quoting_enclave.report_data[:32] != endorsed:
        expected.append("an attestation key that the quoting enclave endorsed")
    if not is_signed_by_point(certification.attestation_key, certification.signature, certification.signed):
        expected.append("the quote signed by its attestation key")
    return [Mismatch(claim="quote_signature", expected=what, got="another") for what in expected]


def _key(chain: Chain) -> ec.EllipticCurvePublicKey | None:
    """Return the leaf's key, or None where it cannot sign here."""
    return _public_key(chain.certificates[0].der) if chain.certificates else None


def _public_key(der: bytes) -> ec.EllipticCurvePublicKey | None:
    """Return the key of a certificate, or None where it cannot sign here."""
    try:
        key = x509.load_der_x509_certificate(der).public_key()
    except Exception:  # noqa: BLE001 - the parser raises many kinds
        return None
    return key if isinstance(key, ec.EllipticCurvePublicKey) else None


def _is_signed(key: ec.EllipticCurvePublicKey, signature: bytes, message: bytes) -> bool:
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        key.verify(encode_dss_signature(r, s), message, ec.ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True
