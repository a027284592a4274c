"""A public-key infrastructure of the simulation's own, shaped like AMD's for SEV-SNP. SIMULATED throughout.

It has an ARK, an ASK or ASVK, and a processor's VCEK or a cloud's VLEK. Only policies that name
``tee = "simulated"`` with this very ARK accept it. Making the two RSA keys takes seconds.

Source: AMD 57230, VCEK Certificate and KDS Interface Specification, section 2.
"""

import base64
import secrets
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from s3ml.attestation.errors import EvidenceMalformedError
from s3ml.attestation.evidence import SnpCertificates
from s3ml.attestation.policy import SnpTcb
from s3ml.attestation.policy.alternative import EndorsementKey
from s3ml.attestation.simulated.der import element, integer
from s3ml.attestation.simulated.snp_certificate import (
    AUTHORITY,
    CertificateFields,
    Extension,
    key_info,
    name,
    revoke,
    sign_document,
)
from s3ml.attestation.verify.amd.certificate import AmdCertificate, parse_certificate
from s3ml.attestation.verify.amd.certificates import AUTHORITY_NAMES
from s3ml.attestation.verify.amd.der import IA5_STRING
from s3ml.attestation.verify.amd.endorsement import (
    CSP_ID,
    HARDWARE_ID,
    PRODUCT_NAME,
    SPL_OF_COMPONENTS,
    SPL_RESERVED,
    STRUCT_VERSION,
    Endorsement,
    read_endorsement,
)
from s3ml.attestation.verify.amd.product import MILAN, TURIN, Product
from s3ml.attestation.verify.amd.roots import SIMULATED_PREFIX
from s3ml.attestation.verify.amd.signature import RSA_BITS, RSA_EXPONENT
from s3ml.primitives.errors import ConfigurationError

AUTHORITY_LIFETIME = timedelta(days=25 * 365)
ENDORSEMENT_LIFETIME = timedelta(days=7 * 365)
CRL_LIFETIME = timedelta(days=365)
CSP_NAME = "S3ML simulation"
TCB = SnpTcb(bootloader=4, tee=1, snp=24, microcode=219)
TURIN_TCB = SnpTcb(bootloader=4, tee=1, snp=24, microcode=219, fmc=2)
ARK_SERIAL, AUTHORITY_SERIAL, ENDORSEMENT_SERIAL = 0x10000, 0x10001, 0


class _StoredAuthority(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: bytes
    certificate: bytes


class _StoredPKI(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    ark: _StoredAuthority
    authority: _StoredAuthority
    endorsement: _StoredAuthority


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SnpKeys:
    """The private keys of ARK, ASK or ASVK, and processor or cloud."""

    ark: rsa.RSAPrivateKey
    authority: rsa.RSAPrivateKey
    endorsement: ec.EllipticCurvePrivateKey

    @classmethod
    def create(cls) -> "SnpKeys":
        """Make fresh keys; takes seconds."""
        return cls(
            ark=rsa.generate_private_key(RSA_EXPONENT, RSA_BITS),
            authority=rsa.generate_private_key(RSA_EXPONENT, RSA_BITS),
            endorsement=ec.generate_private_key(ec.SECP384R1()),
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SnpAuthority:
    """A private RSA key and the certificate over its public half, DER."""

    key: rsa.RSAPrivateKey
    certificate: bytes

    @property
    def read(self) -> AmdCertificate:
        """The certificate, taken apart."""
        return parse_certificate(self.certificate)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class EndorsementAuthority:
    """A private key of a processor or a cloud, and the certificate over its public half, DER."""

    key: ec.EllipticCurvePrivateKey
    certificate: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class EndorsedPlatform:
    """What the certificate of an endorsement key says; `extensions` encodes it.

    Args:
        product: The processor line.
        kind: VCEK or VLEK.
        tcb: That the key is for.
        hardware_id: Of the processor, with a VCEK: 64 bytes, or 8 from Turin on.
        product_name: As the certificate has it.
    """

    product: Product = MILAN
    kind: EndorsementKey = "VCEK"
    tcb: SnpTcb = TCB
    hardware_id: bytes = field(default_factory=lambda: secrets.token_bytes(64))
    product_name: str = "Milan-B1"

    @classmethod
    def of(cls, product: Product, kind: EndorsementKey = "VCEK") -> "EndorsedPlatform":
        """Return a platform of `product` with a chip of its own, up to date."""
        return cls(
            product=product,
            kind=kind,
            tcb=TURIN_TCB if product is TURIN else TCB,
            hardware_id=secrets.token_bytes(product.hardware_id_bytes),
            product_name=f"{product.name}-B1" if product is MILAN and kind == "VCEK" else product.name,
        )

    @property
    def extensions(self) -> tuple[Extension, ...]:
        """Everything above, in AMD's extensions."""
        version = self.product.struct_version
        numbers = {
            STRUCT_VERSION: version,
            **{spl: getattr(self.tcb, part) for part, spl in SPL_OF_COMPONENTS[version].items()},
            **dict.fromkeys(SPL_RESERVED[version], 0),
        }
        if self.kind == "VCEK":
            owner = Extension(name=HARDWARE_ID, value=self.hardware_id)
        else:
            owner = Extension(name=CSP_ID, value=element(IA5_STRING, CSP_NAME.encode()))
        return (
            Extension(name=PRODUCT_NAME, value=element(IA5_STRING, self.product_name.encode())),
            *(Extension(name=oid, value=integer(number)) for oid, number in numbers.items()),
            owner,
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SimulatedSnpPKI:
    """Every key of a simulated platform and of the vendor that vouches for it."""

    ark: SnpAuthority
    authority: SnpAuthority
    endorsement: EndorsementAuthority

    @classmethod
    def create(
        cls, now: datetime, platform: EndorsedPlatform | None = None, *, keys: SnpKeys | None = None
    ) -> "SimulatedSnpPKI":
        """Issue everything, valid from `now` (aware).

        Args:
            now: Aware.
            platform: By default, one of Milan with a VCEK.
            keys: By default, fresh ones, which take seconds.
        """
        platform = platform or EndorsedPlatform.of(MILAN)
        keys = keys or SnpKeys.create()
        ark = issue_ark(keys.ark, now, platform.product)
        authority = issue_authority(keys.authority, now, platform, issuer=ark)
        endorsement = issue_endorsement(keys.endorsement, now, platform, issuer=authority)
        return cls(ark=ark, authority=authority, endorsement=endorsement)

    @property
    def platform(self) -> Endorsement:
        """What the endorsement key's certificate says."""
        return read_endorsement(self.endorsement.certificate)

    @property
    def root_der(self) -> bytes:
        """The ARK's certificate, as policies name it."""
        return self.ark.certificate

    @property
    def root_pem(self) -> bytes:
        """The ARK's certificate, for people."""
        return encode_pem(self.ark.certificate).encode("ascii")

    @property
    def chain(self) -> str:
        """The three certificates, PEM, leaf first."""
        ders = (self.endorsement.certificate, self.authority.certificate, self.ark.certificate)
        return "".join(encode_pem(der) for der in ders)

    def crl(self, now: datetime, *serials: int) -> bytes:
        """Return the ARK's revocation list over `serials`, DER, issued at `now` (aware) for a year."""
        return revoke(self.ark.read.subject, self.ark.key, now, CRL_LIFETIME, *serials)

    def certificates(self, now: datetime) -> SnpCertificates:
        """Return what the vendor says of this platform, with a revocation list issued at `now` (aware)."""
        return SnpCertificates(chain=self.chain, crl=self.crl(now))

    def to_bytes(self) -> bytes:
        """Return everything, private keys included, for a file that only the platform reads."""
        return msgspec.json.encode(
            _StoredPKI(
                ark=_store(self.ark),
                authority=_store(self.authority),
                endorsement=_store(self.endorsement),
            )
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> "SimulatedSnpPKI":
        """Restore what `to_bytes` returned.

        Raises:
            ConfigurationError: it is something else, or damaged.
        """
        try:
            stored = msgspec.json.decode(data, type=_StoredPKI)
            restored = cls(
                ark=_restore_authority(stored.ark),
                authority=_restore_authority(stored.authority),
                endorsement=_restore_endorsement(stored.endorsement),
            )
            read_endorsement(restored.endorsement.certificate)
        except (ValueError, TypeError, EvidenceMalformedError) as error:
            raise ConfigurationError(
                "simulated platform: expected its saved keys for SEV-SNP, got something else"
            ) from error
        return restored

    def __repr__(self) -> str:
        return "SimulatedSnpPKI(redacted)"


def issue_ark(key: rsa.RSAPrivateKey, now: datetime, product: Product, /, **changes: Any) -> SnpAuthority:
    """Have an ARK sign itself; `changes` replace fields of the certificate."""
    subject = name(f"{SIMULATED_PREFIX}ARK-{product.name}")
    fields = CertificateFields(
        subject=subject,
        issuer=subject,
        key=key_info(key),
        serial=ARK_SERIAL,
        not_before=now,
        not_after=now + AUTHORITY_LIFETIME,
        extensions=AUTHORITY,
    )
    return SnpAuthority(key=key, certificate=sign_document(replace(fields, **changes), key))


def issue_authority(
    key: rsa.RSAPrivateKey,
    now: datetime,
    platform: EndorsedPlatform,
    /,
    *,
    issuer: SnpAuthority,
    **changes: Any,
) -> SnpAuthority:
    """Have an ARK issue the ASK or ASVK of `platform`; `changes` replace fields of the certificate."""
    common_name = f"{SIMULATED_PREFIX}{AUTHORITY_NAMES[platform.kind]}{platform.product.name}"
    fields = CertificateFields(
        subject=name(common_name),
        issuer=issuer.read.subject,
        key=key_info(key),
        serial=AUTHORITY_SERIAL,
        not_before=now,
        not_after=now + AUTHORITY_LIFETIME,
        extensions=AUTHORITY,
    )
    return SnpAuthority(key=key, certificate=sign_document(replace(fields, **changes), issuer.key))


def issue_endorsement(
    key: ec.EllipticCurvePrivateKey,
    now: datetime,
    platform: EndorsedPlatform,
    /,
    *,
    issuer: SnpAuthority,
    **changes: Any,
) -> EndorsementAuthority:
    """Have an ASK or ASVK issue the certificate of `platform`; `changes` replace fields of it."""
    fields = CertificateFields(
        subject=name(f"{SIMULATED_PREFIX}SEV-{platform.kind}"),
        issuer=issuer.read.subject,
        key=key_info(key),
        serial=ENDORSEMENT_SERIAL,
        not_before=now,
        not_after=now + ENDORSEMENT_LIFETIME,
        extensions=platform.extensions,
    )
    return EndorsementAuthority(key=key, certificate=sign_document(replace(fields, **changes), issuer.key))


def encode_pem(der: bytes) -> str:
    """Return a certificate as PEM; general libraries refuse those with the serial number 0."""
    text = base64.b64encode(der).decode("ascii")
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return "\n".join(("-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""))


def _store(authority: SnpAuthority | EndorsementAuthority) -> _StoredAuthority:
    key = authority.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return _StoredAuthority(key=key, certificate=authority.certificate)


def _restore_authority(stored: _StoredAuthority) -> SnpAuthority:
    key = load_der_private_key(stored.key, password=None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError("no RSA key")
    return SnpAuthority(key=key, certificate=parse_certificate(stored.certificate).der)


def _restore_endorsement(stored: _StoredAuthority) -> EndorsementAuthority:
    key = load_der_private_key(stored.key, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("no EC key")
    return EndorsementAuthority(key=key, certificate=stored.certificate)
