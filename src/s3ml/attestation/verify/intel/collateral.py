"""Intel's collateral: what its documents say, and the rules that dcap-qvl leaves to its callers.

Everything is read before its signature is known to hold; it decides nothing until dcap-qvl has accepted it.

Source: Intel SGX PCS API, version 4; RFC 5280, section 5.1.2.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, TypeVar

import msgspec
from cryptography import x509

from s3ml.attestation.errors import EvidenceMalformedError, Mismatch
from s3ml.attestation.evidence import Collateral
from s3ml.attestation.verify.certificates import (
    ROLES_PCK_CA,
    ROLES_TCB_SIGNING,
    Certificate,
    Chain,
    ChainReader,
    RootOfTrust,
    check_chain,
    is_issued_by,
    is_same_authority,
)

Instant = Annotated[datetime, msgspec.Meta(tz=True)]
Unsigned = Annotated[int, msgspec.Meta(ge=0)]


class _SignedDocument(msgspec.Struct, frozen=True, rename="camel"):
    """What TCB info and QE identity share; fields that decide nothing here are left to dcap-qvl."""

    id: str
    version: int
    issue_date: Instant
    next_update: Instant
    tcb_evaluation_data_number: Unsigned


class _TcbInfo(_SignedDocument, frozen=True, rename="camel"):
    pce_id: str
    tcb_type: int


Document = TypeVar("Document", bound=_SignedDocument)


@dataclass(frozen=True, slots=True, kw_only=True)
class _RevocationList:
    what: str
    issued: datetime
    expires: datetime
    serials: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class CollateralFacts:
    """What the collateral says, unproven.

    Args:
        pce_id: The PCEID that the TCB info is for, hexadecimal.
        evaluation_data_number: The lower one of TCB info and QE identity.
        issued_at: The oldest issue date of TCB info, QE identity and PCK CRL.
        signed_at: The newest issue date of anything in it.
        valid_from: With `valid_until`: when all of it is valid.
        valid_until: See `valid_from`.
        mismatches: The rules that are broken whatever the policy says.
    """

    pce_id: str
    evaluation_data_number: int
    issued_at: datetime
    signed_at: datetime
    valid_from: datetime
    valid_until: datetime
    mismatches: tuple[Mismatch, ...]


_TCB_INFO = msgspec.json.Decoder(_TcbInfo)
_QE_IDENTITY = msgspec.json.Decoder(_SignedDocument)
_TCB_INFO_VERSION = 3
_TCB_TYPE = 0
_QE_IDENTITY_VERSION = 2


def read_collateral(
    collateral: Collateral,
    platform: Chain,
    *,
    documents: tuple[str, str],
    chains: ChainReader,
    root: RootOfTrust,
    now: datetime,
) -> CollateralFacts:
    """Read the collateral and check roles, kinds, validity and revocation.

    1. TCB info and QE identity are signed by the TCB signing role, directly under the root; the PCK CRL's
       issuer is the CA of the quoting platform.
    2. The documents are a TCB info, version 3, and a QE identity, version 2, with the ids asked for.
    3. Both documents and both revocation lists were issued and have not expired.
    4. No certificate that is relied on has been revoked.

    Args:
        collateral: From an untrusted peer.
        platform: The quote's chain: PCK certificate, PCK CA, root.
        documents: The ids that TCB info and QE identity must have.
        chains: The reader that `platform` came from.
        root: Of trust.
        now: Aware UTC.

    Raises:
        EvidenceMalformedError: a part cannot be read.
    """
    tcb_info = _decode(_TCB_INFO, collateral.tcb_info, "TCB info")
    qe_identity = _decode(_QE_IDENTITY, collateral.qe_identity, "QE identity")
    root_crl = _read_crl(collateral.root_ca_crl, "root CRL")
    pck_crl = _read_crl(collateral.pck_crl, "PCK CRL")
    tcb_chain = chains.read(collateral.tcb_info_issuer_chain, what="TCB info's chain")
    qe_chain = chains.read(collateral.qe_identity_issuer_chain, what="QE identity's chain")
    crl_chain = chains.read(collateral.pck_crl_issuer_chain, what="PCK CRL's chain")
    mismatches = [
        *check_chain(tcb_chain, (ROLES_TCB_SIGNING,), root, now),  # (1)
        *check_chain(qe_chain, (ROLES_TCB_SIGNING,), root, now),
        *check_chain(crl_chain, (ROLES_PCK_CA,), root, now),
        *_check_crl_issuer(crl_chain, platform, root),
        *_check_kind(  # (2)
            "tcb_info",
            (documents[0], _TCB_INFO_VERSION, _TCB_TYPE),
            (tcb_info.id, tcb_info.version, tcb_info.tcb_type),
        ),
        *_check_kind(
            "qe_identity", (documents[1], _QE_IDENTITY_VERSION), (qe_identity.id, qe_identity.version)
        ),
        *_check_validity("TCB info", tcb_info.issue_date, tcb_info.next_update, now),  # (3)
        *_check_validity("QE identity", qe_identity.issue_date, qe_identity.next_update, now),
        *_check_validity(root_crl.what, root_crl.issued, root_crl.expires, now),
        *_check_validity(pck_crl.what, pck_crl.issued, pck_crl.expires, now),
        *_check_revocation(pck_crl, platform.certificates[:1]),  # (4)
        *_check_revocation(root_crl, platform.certificates[1:]),
        *_check_revocation(
            root_crl, (*tcb_chain.certificates, *qe_chain.certificates, *crl_chain.certificates)
        ),
    ]
    signed = (tcb_info, qe_identity)
    renewed = (pck_crl.issued, *(document.issue_date for document in signed))
    chained = (*tcb_chain.certificates, *qe_chain.certificates, *crl_chain.certificates)
    return CollateralFacts(
        pce_id=tcb_info.pce_id,
        evaluation_data_number=min(document.tcb_evaluation_data_number for document in signed),
        issued_at=min(renewed),
        signed_at=max(root_crl.issued, *renewed),
        valid_from=max(root_crl.issued, *renewed, *(one.not_before for one in chained)),
        valid_until=min(
            root_crl.expires,
            pck_crl.expires,
            *(document.next_update for document in signed),
            *(one.not_after for one in chained),
        ),
        mismatches=tuple(mismatches),
    )


def _decode(decoder: msgspec.json.Decoder[Document], text: str, what: str) -> Document:
    try:
        return decoder.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise EvidenceMalformedError(f"{what}: {error}") from error


def _read_crl(der: bytes, what: str) -> _RevocationList:
    try:
        crl = x509.load_der_x509_crl(der)
        issued, expires = crl.last_update_utc, crl.next_update_utc
        serials = frozenset(entry.serial_number for entry in crl)
    except Exception as error:  # the parser raises many kinds
        raise EvidenceMalformedError(f"{what}: expected a DER revocation list") from error
    if expires is None:
        raise EvidenceMalformedError(f"{what}: expected a next update, got none")
    return _RevocationList(what=what, issued=issued, expires=expires, serials=serials)


def _check_crl_issuer(crl_chain: Chain, platform: Chain, root: RootOfTrust) -> list[Mismatch]:
    """Check whose the PCK CRL's issuer is; its own signature too, because dcap-qvl never reads that chain."""
    issuers, authorities = crl_chain.certificates[:1], platform.certificates[1:2]
    if not issuers or not authorities:
        return []  # a chain of another length has its own mismatch
    if not is_same_authority(issuers[0], authorities[0]):
        expected = f"the quoting platform's CA in the {crl_chain.what}"
        return [Mismatch(claim="certificate_chain", expected=expected, got="another CA")]
    if issuers[0].der == authorities[0].der or is_issued_by(issuers[0], root):
        return []
    expected = f"{issuers[0].role[:80]} signed by its issuer in the {crl_chain.what}"
    return [Mismatch(claim="certificate_chain", expected=expected, got="another signature")]


def _check_kind(claim: str, expected: tuple[object, ...], got: tuple[object, ...]) -> list[Mismatch]:
    if got == expected:
        return []
    return [Mismatch(claim=claim, expected=_kind(expected), got=_kind(got))]


def _kind(parts: tuple[object, ...]) -> str:
    names = zip(("id", "version", "type"), parts, strict=False)
    return ", ".join(f"{name} {str(part)[:40]}" for name, part in names)


def _check_validity(what: str, issued: datetime, expires: datetime, now: datetime) -> list[Mismatch]:
    if issued <= now < expires:
        return []
    got = f"issued {issued.isoformat()}, expires {expires.isoformat()}"
    return [Mismatch(claim="collateral_validity", expected=f"{what} valid at {now.isoformat()}", got=got)]


def _check_revocation(revocations: _RevocationList, certificates: tuple[Certificate, ...]) -> list[Mismatch]:
    return [
        Mismatch(
            claim="revocation",
            expected=f"{certificate.role[:80]} not in the {revocations.what}",
            got=f"serial number {certificate.serial:x}, which is revoked",
        )
        for certificate in certificates
        if certificate.serial in revocations.serials
    ]
