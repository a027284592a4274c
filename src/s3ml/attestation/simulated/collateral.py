"""The simulated vendor's collateral: TCB info, identity of the quoting enclave, revocation lists.

The two JSON documents keep Intel's order of keys and have no white space: the exact string is what is signed.

Source: Intel SGX PCS API, version 4 (TCB info version 3, QE identity version 2); RFC 5280, section 5.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from s3ml.attestation.evidence import Collateral
from s3ml.attestation.policy import TcbStatus
from s3ml.primitives.encoding import tagged_sha256

COLLATERAL_LIFETIME = timedelta(days=30)
ROOT_CRL_LIFETIME = timedelta(days=365)
FMSPC = bytes.fromhex("53334d4c0000")  # "S3ML", where Intel encodes family, model and stepping
PCE_ID = bytes(2)
CPU_SVN = bytes((2, 2, 2, 2, 3, 1, 0, 3, *bytes(8)))
PCE_SVN = 13
QE_SVN = 8
QE_PRODUCT_ID = 1
QE_MEASUREMENT = tagged_sha256("S3ML simulated quoting enclave v1", b"measurement")
QE_SIGNER = tagged_sha256("S3ML simulated quoting enclave v1", b"signer")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Authority:
    """A private key (P-256) and the certificate over its public half."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> str:
        """The certificate, PEM."""
        return self.certificate.public_bytes(Encoding.PEM).decode("ascii")


@dataclass(frozen=True, slots=True, kw_only=True)
class TcbState:
    """What the simulated vendor says of the simulated platform's trusted computing base."""

    status: TcbStatus = "UpToDate"
    advisories: tuple[str, ...] = ()
    evaluation_data_number: int = 1


UP_TO_DATE = TcbState()


def render_collateral(
    *,
    root: Authority,
    pck_ca: Authority,
    tcb_signing: Authority,
    now: datetime,
    tcb: TcbState,
) -> Collateral:
    """Return collateral issued at `now` and valid for 30 days."""
    tcb_info = encode_signed(tcb_info_document(now, tcb))
    qe_identity = encode_signed(qe_identity_document(now, tcb))
    return Collateral(
        pck_crl_issuer_chain=pck_ca.pem + root.pem,
        root_ca_crl=render_crl(root, now, ROOT_CRL_LIFETIME),
        pck_crl=render_crl(pck_ca, now, COLLATERAL_LIFETIME),
        tcb_info_issuer_chain=tcb_signing.pem + root.pem,
        tcb_info=tcb_info,
        tcb_info_signature=sign_raw(tcb_signing.key, tcb_info.encode()),
        qe_identity_issuer_chain=tcb_signing.pem + root.pem,
        qe_identity=qe_identity,
        qe_identity_signature=sign_raw(tcb_signing.key, qe_identity.encode()),
    )


def tcb_info_document(now: datetime, tcb: TcbState) -> dict[str, Any]:
    """Return the TCB info that puts the simulated platform in the state `tcb`."""
    level: dict[str, Any] = {
        "tcb": {"sgxtcbcomponents": [{"svn": svn} for svn in CPU_SVN], "pcesvn": PCE_SVN},
        "tcbDate": _instant(now),
        "tcbStatus": tcb.status,
    }
    if tcb.advisories:
        level["advisoryIDs"] = list(tcb.advisories)
    return {
        "id": "SGX",
        "version": 3,
        "issueDate": _instant(now),
        "nextUpdate": _instant(now + COLLATERAL_LIFETIME),
        "fmspc": FMSPC.hex().upper(),
        "pceId": PCE_ID.hex().upper(),
        "tcbType": 0,
        "tcbEvaluationDataNumber": tcb.evaluation_data_number,
        "tcbLevels": [level],
    }


def qe_identity_document(now: datetime, tcb: TcbState) -> dict[str, Any]:
    """Return the identity of the simulated quoting enclave, which is up to date."""
    return {
        "id": "QE",
        "version": 2,
        "issueDate": _instant(now),
        "nextUpdate": _instant(now + COLLATERAL_LIFETIME),
        "tcbEvaluationDataNumber": tcb.evaluation_data_number,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11000000000000000000000000000000",
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": QE_SIGNER.hex().upper(),
        "isvprodid": QE_PRODUCT_ID,
        "tcbLevels": [{"tcb": {"isvsvn": QE_SVN}, "tcbDate": _instant(now), "tcbStatus": "UpToDate"}],
    }


def render_crl(
    issuer: Authority, now: datetime, lifetime: timedelta, *, revoked: Iterable[x509.Certificate] = ()
) -> bytes:
    """Return `issuer`'s revocation list over `revoked`, DER, issued at `now`."""
    start = now.replace(microsecond=0)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(start)
        .next_update(start + lifetime)
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False
        )
    )
    for certificate in revoked:
        entry = (
            x509.RevokedCertificateBuilder().serial_number(certificate.serial_number).revocation_date(start)
        )
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.DER)


def encode_signed(document: dict[str, Any]) -> str:
    """Return the exact string of `document` that is signed and delivered."""
    return json.dumps(document, separators=(",", ":"))


def sign_raw(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """Return the signature over `message` (ECDSA, P-256, SHA-256) as 32 + 32 bytes, big-endian r || s."""
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _instant(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
