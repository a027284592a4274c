"""A public-key infrastructure of the simulation's own, shaped like Intel's for SGX and TDX.

It has a root, a PCK CA, a platform's PCK certificate with Intel's SGX extension, a TCB signing certificate
and an attestation key. Whoever holds it can claim anything: it proves nothing, and only policies that name
``tee = "simulated"`` with this very root accept it.

Source: Intel SGX PCK Certificate and Certificate Revocation List Profile Specification 1.5.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from cryptography.x509.oid import NameOID

from s3ml.attestation.evidence import Collateral, Technology
from s3ml.attestation.simulated.collateral import (
    CPU_SVN,
    FMSPC,
    PCE_ID,
    PCE_SVN,
    UP_TO_DATE,
    Authority,
    TcbState,
    render_collateral,
)
from s3ml.attestation.simulated.sgx_extension import PlatformIdentity, sgx_extension
from s3ml.primitives.errors import ConfigurationError

LIFETIME = timedelta(days=3650)


class _StoredAuthority(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: bytes
    certificate: bytes


class _StoredPKI(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    root: _StoredAuthority
    pck_ca: _StoredAuthority
    pck: _StoredAuthority
    tcb_signing: _StoredAuthority
    attestation_key: bytes


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SimulatedPKI:
    """Every key of a simulated platform and of the vendor that vouches for it."""

    root: Authority
    pck_ca: Authority
    pck: Authority
    tcb_signing: Authority
    attestation_key: ec.EllipticCurvePrivateKey

    @classmethod
    def create(cls, now: datetime) -> "SimulatedPKI":
        """Make fresh keys and certificates, valid from `now` (aware UTC) for ten years."""
        identity = PlatformIdentity(
            ppid=secrets.token_bytes(16),
            cpu_svn=CPU_SVN,
            pce_svn=PCE_SVN,
            pce_id=PCE_ID,
            fmspc=FMSPC,
            instance_id=secrets.token_bytes(16),
        )
        root = issue_certificate("SGX Root CA", now, is_authority=True)
        pck_ca = issue_certificate("SGX PCK Platform CA", now, issuer=root, is_authority=True)
        return cls(
            root=root,
            pck_ca=pck_ca,
            pck=issue_certificate(
                "SGX PCK Certificate", now, issuer=pck_ca, extension=sgx_extension(identity)
            ),
            tcb_signing=issue_certificate("SGX TCB Signing", now, issuer=root),
            attestation_key=ec.generate_private_key(ec.SECP256R1()),
        )

    @property
    def root_der(self) -> bytes:
        """The root certificate, as policies name it."""
        return self.root.certificate.public_bytes(Encoding.DER)

    @property
    def root_pem(self) -> bytes:
        """The root certificate, for people."""
        return self.root.certificate.public_bytes(Encoding.PEM)

    def collateral(
        self, now: datetime, tcb: TcbState = UP_TO_DATE, *, technology: Technology = Technology.SGX
    ) -> Collateral:
        """Return collateral issued at `now` (aware UTC) that says `tcb` of this platform, as SGX or TDX."""
        return render_collateral(
            root=self.root,
            pck_ca=self.pck_ca,
            tcb_signing=self.tcb_signing,
            now=now,
            tcb=tcb,
            technology=technology,
        )

    def to_bytes(self) -> bytes:
        """Return everything, private keys included, for a file that only the platform reads."""
        return msgspec.json.encode(
            _StoredPKI(
                root=_store(self.root),
                pck_ca=_store(self.pck_ca),
                pck=_store(self.pck),
                tcb_signing=_store(self.tcb_signing),
                attestation_key=_store_key(self.attestation_key),
            )
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "SimulatedPKI":
        """Restore what `to_bytes` returned.

        Raises:
            ConfigurationError: it is something else, or damaged.
        """
        try:
            stored = msgspec.json.decode(data, type=_StoredPKI)
            return cls(
                root=_restore(stored.root),
                pck_ca=_restore(stored.pck_ca),
                pck=_restore(stored.pck),
                tcb_signing=_restore(stored.tcb_signing),
                attestation_key=_restore_key(stored.attestation_key),
            )
        except (ValueError, TypeError) as error:
            raise ConfigurationError(
                "simulated platform: expected its saved keys, got something else"
            ) from error

    def __repr__(self) -> str:
        return "SimulatedPKI(redacted)"


def issue_certificate(
    role: str,
    now: datetime,
    *,
    issuer: Authority | None = None,
    is_authority: bool = False,
    extension: x509.UnrecognizedExtension | None = None,
    lifetime: timedelta = LIFETIME,
) -> Authority:
    """Issue a P-256 certificate for a fresh key.

    Args:
        role: The end of the common name, in Intel's words, by which verifiers know the role.
        now: When it becomes valid, aware UTC.
        issuer: Who signs; without one it signs itself.
        is_authority: Whether it may sign certificates and revocation lists.
        extension: The SGX extension of a PCK certificate.
        lifetime: How long it is valid.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, f"S3ML simulated {role}"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "S3ML simulation, proves nothing"),
        ]
    )
    signer = issuer.key if issuer else key
    start = now.replace(microsecond=0)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + lifetime)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_key_usage(is_authority=is_authority), critical=True)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    if extension:
        builder = builder.add_extension(extension, critical=False)
    return Authority(key=key, certificate=builder.sign(signer, hashes.SHA256()))


def _key_usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        content_commitment=not is_authority,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )


def _store_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def _store(authority: Authority) -> _StoredAuthority:
    return _StoredAuthority(
        key=_store_key(authority.key), certificate=authority.certificate.public_bytes(Encoding.DER)
    )


def _restore_key(data: bytes) -> ec.EllipticCurvePrivateKey:
    key = load_der_private_key(data, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("no EC key")
    return key


def _restore(stored: _StoredAuthority) -> Authority:
    return Authority(
        key=_restore_key(stored.key), certificate=x509.load_der_x509_certificate(stored.certificate)
    )
