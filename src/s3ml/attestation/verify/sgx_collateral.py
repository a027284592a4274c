"""Intel's collateral for SGX: what its documents say, and the rules that dcap-qvl leaves to its callers.

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
    ROLE_TCB_SIGNING,
    ROLES_PCK_CA,
    RootOfTrust,
    check_chain,
    is_same_authority,
    parse_chain,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Validity:
    what: str
    issued: datetime
    expires: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CollateralFacts:
    """What the collateral says, unproven.

    Args:
        pce_id: The PCEID that the TCB info is for, as bytes.
        evaluation_data_number: The lower one of TCB info and QE identity.
        issued_at: The oldest issue date of TCB info, QE identity and PCK CRL.
        mismatches: The rules that are broken whatever the policy says.
    """

    pce_id: str
    evaluation_data_number: int
    issued_at: datetime
    mismatches: tuple[Mismatch, ...]


Document = TypeVar("Document", bound=_SignedDocument)
_TCB_INFO = msgspec.json.Decoder(_TcbInfo)
_QE_IDENTITY = msgspec.json.Decoder(_SignedDocument)
_SGX_TCB_TYPE = 0


def read_collateral(
    collateral: Collateral, pck_ca: bytes | None, root: RootOfTrust, now: datetime
) -> CollateralFacts:
    """Read the collateral and check roles, kinds and validity.

    1. TCB info and QE identity are signed by the TCB signing role, directly under the root; the PCK CRL's
       issuer is the CA of the quoting platform.
    2. The documents are an SGX TCB info, version 3, and a QE identity, version 2.
    3. Both documents and both revocation lists were issued and have not expired.

    Args:
        collateral: From an untrusted peer.
        pck_ca: The CA in the quote's chain (DER), when it has one.
        root: The one root of trust.
        now: Aware UTC.

    Raises:
        EvidenceMalformedError: a part cannot be read.
    """
    tcb_info = _decode(_TCB_INFO, collateral.tcb_info, "TCB info")
    qe_identity = _decode(_QE_IDENTITY, collateral.qe_identity, "QE identity")
    root_crl = _read_crl(collateral.root_ca_crl, "root CRL")
    pck_crl = _read_crl(collateral.pck_crl, "PCK CRL")
    tcb_validity = _Validity(what="TCB info", issued=tcb_info.issue_date, expires=tcb_info.next_update)
    qe_validity = _Validity(
        what="QE identity", issued=qe_identity.issue_date, expires=qe_identity.next_update
    )
    mismatches = [
        *_check_chains(collateral, pck_ca, root),  # (1)
        *_check_kinds(tcb_info, qe_identity),  # (2)
        *_check_validity((tcb_validity, qe_validity, root_crl, pck_crl), now),  # (3)
    ]
    return CollateralFacts(
        pce_id=tcb_info.pce_id,
        evaluation_data_number=min(
            tcb_info.tcb_evaluation_data_number, qe_identity.tcb_evaluation_data_number
        ),
        issued_at=min(tcb_info.issue_date, qe_identity.issue_date, pck_crl.issued),
        mismatches=tuple(mismatches),
    )


def _decode(decoder: msgspec.json.Decoder[Document], text: str, what: str) -> Document:
    try:
        return decoder.decode(text)
    except msgspec.DecodeError as error:
        raise EvidenceMalformedError(f"{what}: {error}") from error


def _read_crl(der: bytes, what: str) -> _Validity:
    try:
        crl = x509.load_der_x509_crl(der)
        issued, expires = crl.last_update_utc, crl.next_update_utc
    except ValueError as error:
        raise EvidenceMalformedError(f"{what}: expected a DER revocation list") from error
    if expires is None:
        raise EvidenceMalformedError(f"{what}: expected a next update, got none")
    return _Validity(what=what, issued=issued, expires=expires)


def _check_chains(collateral: Collateral, pck_ca: bytes | None, root: RootOfTrust) -> list[Mismatch]:
    mismatches = []
    for what, pem, accepted in (
        ("TCB info's chain", collateral.tcb_info_issuer_chain, (ROLE_TCB_SIGNING,)),
        ("QE identity's chain", collateral.qe_identity_issuer_chain, (ROLE_TCB_SIGNING,)),
        ("PCK CRL's chain", collateral.pck_crl_issuer_chain, ROLES_PCK_CA),
    ):
        chain = parse_chain(pem, what=what)
        mismatches += check_chain(chain, (accepted,), root, what=what)
    if pck_ca is not None and not is_same_authority(chain[0], pck_ca, what=what):
        mismatches.append(
            Mismatch(
                claim="certificate_chain",
                expected=f"the quoting platform's CA in the {what}",
                got="another",
            )
        )
    return mismatches


def _check_kinds(tcb_info: _TcbInfo, qe_identity: _SignedDocument) -> list[Mismatch]:
    kinds = (
        ("tcb_info", "id SGX, version 3, type 0", (tcb_info.id, tcb_info.version, tcb_info.tcb_type)),
        ("qe_identity", "id QE, version 2", (qe_identity.id, qe_identity.version)),
    )
    accepted = (("SGX", 3, _SGX_TCB_TYPE), ("QE", 2))
    return [
        Mismatch(claim=claim, expected=expected, got=", ".join(str(part)[:40] for part in got))
        for (claim, expected, got), wanted in zip(kinds, accepted, strict=True)
        if got != wanted
    ]


def _check_validity(validities: tuple[_Validity, ...], now: datetime) -> list[Mismatch]:
    return [
        Mismatch(
            claim="collateral_validity",
            expected=f"{validity.what} valid at {now.isoformat()}",
            got=f"issued {validity.issued.isoformat()}, expires {validity.expires.isoformat()}",
        )
        for validity in validities
        if not validity.issued <= now < validity.expires
    ]
