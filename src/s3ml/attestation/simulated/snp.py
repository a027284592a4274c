"""SEV-SNP reports, versions 2 to 5, signed by the simulated platform. SIMULATED: they prove nothing.

The layout is AMD's, byte for byte, so that the verifier of real reports verifies these. What a report says is
the caller's to choose.

Source: AMD 56860, SEV Secure Nested Paging Firmware ABI Specification 1.58, table 23 (ATTESTATION_REPORT).
"""

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

from s3ml.attestation.evidence import REPORT_DATA_BYTES
from s3ml.attestation.policy import SnpTcb
from s3ml.attestation.policy.alternative import EndorsementKey
from s3ml.attestation.simulated.snp_pki import SimulatedSnpPKI
from s3ml.attestation.verify.amd.product import GENOA, MILAN, TURIN, Product
from s3ml.attestation.verify.amd.report import (
    ALGORITHM_ECDSA_P384_SHA384,
    KEY_AUTHOR,
    KEY_SIGNING_SHIFT,
    NO_MIGRATION_AGENT,
    POLICY_RESERVED_ONE,
    REPORT_BYTES,
    SCALAR_BYTES,
    SIGNED_BYTES,
    SIGNING_KEYS,
    VERSION_3,
    VERSION_5,
)
from s3ml.primitives.errors import ConfigurationError

DIGEST_BYTES = 48
CPUIDS = {MILAN.name: (0x19, 0x01, 1), GENOA.name: (0x19, 0x11, 1), TURIN.name: (0x1A, 0x02, 1)}
PLATFORM_ECC = 1 << 2
FIRMWARE = (1, 58, 3)
MITIGATIONS = 0b11

_SIZES = {
    "family_id": 16,
    "image_id": 16,
    "report_data": REPORT_DATA_BYTES,
    "measurement": DIGEST_BYTES,
    "host_data": 32,
    "signer": DIGEST_BYTES,
    "author": DIGEST_BYTES,
    "report_id": 32,
    "report_id_ma": 32,
    "chip_id": 64,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestReport:
    """What a report says; the fields are those of `SnpReport`, which explains them.

    Args:
        product: The processor line, after which TCBs are laid out.
        tcb: What is reported, committed, current and was current at launch, unless those are given.
        key_info: By default, the key of `signing_key`, and an author where there is one.
        cpuid: By default, one of `product`; version 2 has none.

    Raises:
        ConfigurationError: a field of bytes has another length.
    """

    measurement: bytes
    report_data: bytes
    product: Product
    chip_id: bytes
    tcb: SnpTcb
    signing_key: EndorsementKey = "VCEK"
    version: int = VERSION_5
    svn: int = 0
    policy: int = POLICY_RESERVED_ONE
    family_id: bytes = bytes(16)
    image_id: bytes = bytes(16)
    vmpl: int = 0
    algorithm: int = ALGORITHM_ECDSA_P384_SHA384
    platform_info: int = PLATFORM_ECC
    key_info: int | None = None
    host_data: bytes = bytes(32)
    signer: bytes = bytes(DIGEST_BYTES)
    author: bytes = bytes(DIGEST_BYTES)
    report_id: bytes = bytes(range(32))
    report_id_ma: bytes = NO_MIGRATION_AGENT
    cpuid: tuple[int, int, int] | None = None
    committed_tcb: SnpTcb | None = None
    current_tcb: SnpTcb | None = None
    launch_tcb: SnpTcb | None = None
    current_firmware: tuple[int, int, int] = FIRMWARE
    committed_firmware: tuple[int, int, int] = FIRMWARE
    launch_mitigations: int | None = None
    current_mitigations: int | None = None

    def __post_init__(self) -> None:
        for what, size in _SIZES.items():
            value: bytes = getattr(self, what)
            if len(value) != size:
                raise ConfigurationError(f"guest report: {what}: expected {size} bytes, got {len(value)}")

    def encode(self) -> bytes:
        """Return the part that is signed, 672 bytes."""
        body = b"".join((self._encode_head(), self._encode_identity(), self._encode_platform()))
        return body.ljust(SIGNED_BYTES, b"\x00")

    def _encode_head(self) -> bytes:
        key_info = self.key_info
        if key_info is None:
            kinds = {kind: number for number, kind in SIGNING_KEYS.items()}
            key_info = kinds[self.signing_key] << KEY_SIGNING_SHIFT | (KEY_AUTHOR if any(self.author) else 0)
        return b"".join(
            (
                self.version.to_bytes(4, "little"),
                self.svn.to_bytes(4, "little"),
                self.policy.to_bytes(8, "little"),
                self.family_id,
                self.image_id,
                self.vmpl.to_bytes(4, "little"),
                self.algorithm.to_bytes(4, "little"),
                self.product.write_tcb(self.current_tcb or self.tcb),
                self.platform_info.to_bytes(8, "little"),
                key_info.to_bytes(4, "little"),
                bytes(4),
            )
        )

    def _encode_identity(self) -> bytes:
        return b"".join(
            (
                self.report_data,
                self.measurement,
                self.host_data,
                self.signer,
                self.author,
                self.report_id,
                self.report_id_ma,
            )
        )

    def _encode_platform(self) -> bytes:
        cpuid = self.cpuid or (CPUIDS[self.product.name] if self.version >= VERSION_3 else (0, 0, 0))
        assumed = MITIGATIONS if self.version >= VERSION_5 else 0
        vectors = (
            assumed if one is None else one for one in (self.launch_mitigations, self.current_mitigations)
        )
        return b"".join(
            (
                self.product.write_tcb(self.tcb),
                bytes(cpuid).ljust(24, b"\x00"),
                self.chip_id,
                self.product.write_tcb(self.committed_tcb or self.tcb),
                _encode_firmware(self.current_firmware),
                _encode_firmware(self.committed_firmware),
                self.product.write_tcb(self.launch_tcb or self.tcb),
                *(vector.to_bytes(8, "little") for vector in vectors),
            )
        )


def guest_report(
    pki: SimulatedSnpPKI, *, measurement: bytes, report_data: bytes, version: int = VERSION_5
) -> GuestReport:
    """Return what `pki`'s platform would honestly say of a guest."""
    platform = pki.platform
    return GuestReport(
        measurement=measurement,
        report_data=report_data,
        product=platform.product,
        chip_id=platform.chip_id or bytes(64),
        tcb=platform.tcb,
        signing_key=platform.kind,
        version=version,
    )


def render_report(pki: SimulatedSnpPKI, report: GuestReport) -> bytes:
    """Return `report`, signed by `pki`'s platform."""
    return sign_report(pki.endorsement.key, report.encode())


def sign_report(key: ec.EllipticCurvePrivateKey, body: bytes) -> bytes:
    """Return `body`, whatever it says, with the signature of `key` over it; 1,184 bytes."""
    r, s = decode_dss_signature(key.sign(body, ec.ECDSA(SHA384())))
    return join_report(body, r, s)


def join_report(body: bytes, r: int, s: int) -> bytes:
    """Return `body` with a signature as it is given."""
    scalars = b"".join(scalar.to_bytes(SCALAR_BYTES, "little") for scalar in (r, s))
    return (body + scalars).ljust(REPORT_BYTES, b"\x00")


def _encode_firmware(version: tuple[int, int, int]) -> bytes:
    major, minor, build = version
    return bytes((build, minor, major, 0))
