"""The simulated vendor's collateral for SGX and TDX: TCB info, quoting enclave's identity, revocation lists.

The two JSON documents keep Intel's order of keys and have no white space: the exact string is what is signed.

Source: Intel SGX PCS API, version 4 (TCB info version 3, QE identity version 2); RFC 5280, section 5.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from s3ml.attestation.evidence import Collateral, Technology
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
TDX_TCB_SVN = bytes((5, 1, 2, *bytes(13)))  # the module's security version, its major version, microcode
TDX_TCB_COMPONENTS = bytes((5, 0, 2, *bytes(13)))  # modules of a major version have levels of their own
TD_QE_SVN = 4
TD_QE_PRODUCT_ID = 2
TD_QE_MEASUREMENT = tagged_sha256("S3ML simulated TD quoting enclave v1", b"measurement")
TD_QE_SIGNER = tagged_sha256("S3ML simulated TD quoting enclave v1", b"signer")

LevelStatus = TcbStatus | Literal["Revoked"]
ModuleStatus = Literal["UpToDate", "OutOfDate", "Revoked"]
_SUPERSEDED = frozenset({"OutOfDate", "OutOfDateConfigurationNeeded"})


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
    """What the simulated vendor says of the simulated platform's trusted computing base.

    Args:
        status: Of the processor's and the firmware's versions.
        advisories: Open on those.
        qe_status: Of the quoting enclave's version.
        qe_advisories: Open on that.
        module_status: Of the TDX module's version; SGX has none.
        module_advisories: Open on that.
        evaluation_data_number: Of TCB info and the quoting enclave's identity.
    """

    status: LevelStatus = "UpToDate"
    advisories: tuple[str, ...] = ()
    qe_status: LevelStatus = "UpToDate"
    qe_advisories: tuple[str, ...] = ()
    module_status: ModuleStatus = "UpToDate"
    module_advisories: tuple[str, ...] = ()
    evaluation_data_number: int = 1


UP_TO_DATE = TcbState()
# States that a simulated platform can be put into, by name; the advisories are the simulation's own.
TCB_STATES: Mapping[str, TcbState] = MappingProxyType(
    {
        "up-to-date": UP_TO_DATE,
        "sw-hardening-needed": TcbState(status="SWHardeningNeeded", advisories=("S3ML-SA-00001",)),
        "configuration-needed": TcbState(status="ConfigurationNeeded", advisories=("S3ML-SA-00002",)),
        "configuration-and-sw-hardening-needed": TcbState(
            status="ConfigurationAndSWHardeningNeeded", advisories=("S3ML-SA-00001", "S3ML-SA-00002")
        ),
        "out-of-date": TcbState(status="OutOfDate", advisories=("S3ML-SA-00003",)),
        "out-of-date-configuration-needed": TcbState(
            status="OutOfDateConfigurationNeeded", advisories=("S3ML-SA-00002", "S3ML-SA-00003")
        ),
        "revoked": TcbState(status="Revoked"),
        "qe-out-of-date": TcbState(qe_status="OutOfDate", qe_advisories=("S3ML-SA-00004",)),
        "qe-revoked": TcbState(qe_status="Revoked"),
        "module-out-of-date": TcbState(module_status="OutOfDate", module_advisories=("S3ML-SA-00005",)),
        "module-revoked": TcbState(module_status="Revoked"),
    }
)


def render_collateral(
    *,
    root: Authority,
    pck_ca: Authority,
    tcb_signing: Authority,
    now: datetime,
    tcb: TcbState,
    technology: Technology = Technology.SGX,
) -> Collateral:
    """Return collateral for SGX or TDX, issued at `now` and valid for 30 days."""
    tcb_info = encode_signed(tcb_info_document(now, tcb, technology))
    qe_identity = encode_signed(qe_identity_document(now, tcb, technology))
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


def tcb_info_document(
    now: datetime, tcb: TcbState, technology: Technology = Technology.SGX
) -> dict[str, Any]:
    """Return the TCB info that puts the simulated platform in the state `tcb`."""
    is_tdx = technology is Technology.TDX
    document: dict[str, Any] = {
        "id": "TDX" if is_tdx else "SGX",
        "version": 3,
        "issueDate": _instant(now),
        "nextUpdate": _instant(now + COLLATERAL_LIFETIME),
        "fmspc": FMSPC.hex().upper(),
        "pceId": PCE_ID.hex().upper(),
        "tcbType": 0,
        "tcbEvaluationDataNumber": tcb.evaluation_data_number,
    }
    if is_tdx:
        module = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
        document["tdxModule"] = module
        levels = [_level({"isvsvn": TDX_TCB_SVN[0]}, now, tcb.module_status, tcb.module_advisories)]
        document["tdxModuleIdentities"] = [{"id": f"TDX_{TDX_TCB_SVN[1]:02X}", **module, "tcbLevels": levels}]
    tdx = {"tdxtcbcomponents": _components(TDX_TCB_COMPONENTS)} if is_tdx else {}
    current = {"sgxtcbcomponents": _components(CPU_SVN), "pcesvn": PCE_SVN, **tdx}
    document["tcbLevels"] = [_level(current, now, tcb.status, tcb.advisories)]
    if tcb.status in _SUPERSEDED:
        document["tcbLevels"].insert(0, _level({**current, "pcesvn": PCE_SVN + 1}, now, "UpToDate", ()))
    return document


def qe_identity_document(
    now: datetime, tcb: TcbState, technology: Technology = Technology.SGX
) -> dict[str, Any]:
    """Return the identity of the simulated quoting enclave in the state `tcb`."""
    is_tdx = technology is Technology.TDX
    return {
        "id": "TD_QE" if is_tdx else "QE",
        "version": 2,
        "issueDate": _instant(now),
        "nextUpdate": _instant(now + COLLATERAL_LIFETIME),
        "tcbEvaluationDataNumber": tcb.evaluation_data_number,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11000000000000000000000000000000",
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": (TD_QE_SIGNER if is_tdx else QE_SIGNER).hex().upper(),
        "isvprodid": TD_QE_PRODUCT_ID if is_tdx else QE_PRODUCT_ID,
        "tcbLevels": [
            _level({"isvsvn": TD_QE_SVN if is_tdx else QE_SVN}, now, tcb.qe_status, tcb.qe_advisories)
        ],
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
    """Return the signature over `message` (ECDSA, P-256, SHA-256) as 32 + 32 bytes, big-endian r || s.

    It is always the same (RFC 6979), so that a platform certifies its attestation key once, as real ones do.
    """
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256(), deterministic_signing=True)))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _level(
    tcb: dict[str, Any], now: datetime, status: LevelStatus, advisories: tuple[str, ...]
) -> dict[str, Any]:
    level = {"tcb": tcb, "tcbDate": _instant(now), "tcbStatus": status}
    return {**level, "advisoryIDs": list(advisories)} if advisories else level


def _components(versions: bytes) -> list[dict[str, int]]:
    return [{"svn": version} for version in versions]


def _instant(instant: datetime) -> str:
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
