"""Whether Intel signed an item: the right role's certificate, directly under the pinned root.

The same rules hold for what was just fetched and for what a cache or a file gives back. What is *not* checked
here is left to the verifier, who has the quote: whether a certificate was revoked, and the PCEID.

Source: Intel SGX PCS API, version 4; Intel SGX PCK Certificate and Certificate Revocation List Profile
Specification 1.5; RFC 5280, section 5.
"""

from dataclasses import replace
from datetime import datetime
from typing import Annotated

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from s3ml.attestation.collateral.item import (
    CollateralRejectedError,
    Item,
    Proof,
    as_utc,
    reject_mismatches,
)
from s3ml.attestation.collateral.revocation import prove_crl
from s3ml.attestation.errors import EvidenceMalformedError
from s3ml.attestation.verify.certificates import (
    ROLES_TCB_SIGNING,
    Certificate,
    ChainReader,
    check_chain,
    root_of_trust,
)
from s3ml.attestation.verify.intel.signatures import is_signed_by_point

Instant = Annotated[datetime, msgspec.Meta(tz=True)]

_TCB_INFO_VERSION = 3
_TCB_TYPE = 0
_QE_IDENTITY_VERSION = 2


class _Document(msgspec.Struct, frozen=True, rename="camel"):
    """What TCB info and QE identity share; `fmspc` and `tcb_type` are TCB info's alone."""

    id: str
    version: int
    issue_date: Instant
    next_update: Instant
    tcb_evaluation_data_number: Annotated[int, msgspec.Meta(ge=0)]
    fmspc: str | None = None
    tcb_type: int | None = None


_DOCUMENT = msgspec.json.Decoder(_Document)


def prove_tcb_info(item: Item, now: datetime, *, id_: str, fmspc: str, root: bytes) -> Proof:
    """Check that `item` is the TCB info `id_` (``SGX`` or ``TDX``) of `fmspc`, signed under `root`.

    Raises:
        CollateralRejectedError: it is not.
    """
    return _prove_document(item, now, kind=(id_, _TCB_INFO_VERSION, fmspc, _TCB_TYPE), root=root)


def prove_qe_identity(item: Item, now: datetime, *, id_: str, root: bytes) -> Proof:
    """Check that `item` is the identity `id_` (``QE`` or ``TD_QE``), signed under `root`.

    Raises:
        CollateralRejectedError: it is not.
    """
    return _prove_document(item, now, kind=(id_, _QE_IDENTITY_VERSION, None, None), root=root)


def prove_pck_crl(item: Item, now: datetime, *, role: str, root: bytes) -> Proof:
    """Check that `item` is the revocation list of the authority `role`, which `root` certified.

    Raises:
        CollateralRejectedError: it is not.
    """
    authority = _prove_signer(item.chain, (role,), root, now)
    proof = prove_crl(item.der, authority.der)
    return _until(proof, authority)


def prove_root_crl(item: Item, now: datetime, *, root: bytes) -> Proof:
    """Check that `item` is the revocation list of `root` itself; `now` decides nothing.

    Raises:
        CollateralRejectedError: it is not.
    """
    _ = now
    return prove_crl(item.der, root)


def _prove_document(item: Item, now: datetime, *, kind: tuple[object, ...], root: bytes) -> Proof:
    """Check who signed a document, and that it is the one that was asked for.

    1. The TCB signing role, directly under the root, signed exactly this text.
    2. It has the id, version, FMSPC and type asked for.
    """
    signer = _prove_signer(item.chain, ROLES_TCB_SIGNING, root, now)  # (1)
    point = _p256_key(signer).public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]
    if not is_signed_by_point(point, item.signature, item.text.encode()):
        raise CollateralRejectedError("expected the signature of the TCB signing certificate, got another")
    try:
        document = _DOCUMENT.decode(item.text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise CollateralRejectedError(f"expected TCB info or a QE identity: {error}") from error
    fmspc = document.fmspc.upper() if document.fmspc is not None else None
    got = (document.id, document.version, fmspc, document.tcb_type)
    if got != kind:  # (2)
        raise CollateralRejectedError(f"expected {_kind(kind)}, got {_kind(got)}")
    proof = Proof(
        issued_at=as_utc(document.issue_date),
        valid_until=as_utc(document.next_update),
        evaluation_data_number=document.tcb_evaluation_data_number,
    )
    return _until(proof, signer)


def _prove_signer(pem: str, roles: tuple[str, ...], root: bytes, now: datetime) -> Certificate:
    """Return the one certificate of `pem` below `root`, when it has one of `roles` and the root signed it."""
    try:
        chain = ChainReader().read(pem, what="issuer chain")
    except EvidenceMalformedError as error:
        raise CollateralRejectedError(str(error)) from error
    reject_mismatches(check_chain(chain, (roles,), root_of_trust(root), now))
    (signer,) = chain.certificates
    try:
        issued = x509.load_der_x509_certificate(signer.der)
        issued.verify_directly_issued_by(x509.load_der_x509_certificate(root))
    except Exception as error:  # the parser raises many kinds
        raise CollateralRejectedError("expected an issuer chain signed by the root, got another") from error
    return signer


def _until(proof: Proof, signer: Certificate) -> Proof:
    """Return `proof`, ended with the certificate that it rests on."""
    return replace(proof, valid_until=min(proof.valid_until, signer.not_after))


def _p256_key(certificate: Certificate) -> ec.EllipticCurvePublicKey:
    key = x509.load_der_x509_certificate(certificate.der).public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CollateralRejectedError("expected a TCB signing certificate with a P-256 key")
    return key


def _kind(parts: tuple[object, ...]) -> str:
    names = zip(("id", "version", "FMSPC", "type"), parts, strict=True)
    return ", ".join(f"{name} {str(part)[:40]}" for name, part in names if part is not None)
