"""SGX quotes, version 3, signed by the simulated platform.

The layout is Intel's, byte for byte, so that the verifier of real quotes verifies these. What a report says
is the caller's to choose: the platform that launches enclaves says what it measured.

Source: Intel SGX ECDSA QuoteLibReference DCAP API, appendix A.4 (quote format, version 3).
"""

import hashlib
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from s3ml.attestation.evidence import REPORT_DATA_BYTES
from s3ml.attestation.simulated.collateral import (
    CPU_SVN,
    PCE_SVN,
    QE_MEASUREMENT,
    QE_PRODUCT_ID,
    QE_SIGNER,
    QE_SVN,
    sign_raw,
)
from s3ml.attestation.simulated.pki import SimulatedPKI
from s3ml.attestation.verify.intel.quote import (
    ATTESTATION_KEY_ECDSA_P256,
    CERTIFICATION_PCK_CHAIN,
    INTEL_QE_VENDOR,
)
from s3ml.attestation.verify.intel.sgx_report import FLAG_INIT, FLAG_MODE64BIT, FLAG_PROVISION_KEY
from s3ml.primitives.encoding import SHA256_BYTES
from s3ml.primitives.errors import ConfigurationError

XFRM_AVX512 = 0xE7
AUTHENTICATION_DATA = bytes(range(32))


@dataclass(frozen=True, slots=True, kw_only=True)
class EnclaveReport:
    """What a quote says of an enclave.

    Args:
        measurement: MRENCLAVE, 32 bytes.
        signer: MRSIGNER, 32 bytes.
        product_id: ISVPRODID, 0 to 65535.
        svn: ISVSVN, 0 to 65535.
        report_data: 64 bytes of the enclave's own choice.
        flags: The 64 attribute bits; a production enclave has INIT and MODE64BIT.
        xfrm: The 64 bits of enabled extended state.
        cpu_svn: 16 bytes: the security version of each TCB component.

    Raises:
        ConfigurationError: a field of bytes has another length.
    """

    measurement: bytes
    signer: bytes
    product_id: int
    svn: int
    report_data: bytes
    flags: int = FLAG_INIT | FLAG_MODE64BIT
    xfrm: int = XFRM_AVX512
    cpu_svn: bytes = CPU_SVN

    def __post_init__(self) -> None:
        for what, value, size in (
            ("measurement", self.measurement, SHA256_BYTES),
            ("signer", self.signer, SHA256_BYTES),
            ("report_data", self.report_data, REPORT_DATA_BYTES),
            ("cpu_svn", self.cpu_svn, len(CPU_SVN)),
        ):
            if len(value) != size:
                raise ConfigurationError(f"enclave report: {what}: expected {size} bytes, got {len(value)}")

    def encode(self) -> bytes:
        """Return the report body, 384 bytes."""
        return b"".join(
            (
                self.cpu_svn,
                bytes(32),
                self.flags.to_bytes(8, "little"),
                self.xfrm.to_bytes(8, "little"),
                self.measurement,
                bytes(32),
                self.signer,
                bytes(96),
                self.product_id.to_bytes(2, "little"),
                self.svn.to_bytes(2, "little"),
                bytes(60),
                self.report_data,
            )
        )


def render_quote(pki: SimulatedPKI, report: EnclaveReport) -> bytes:
    """Return the quote of `report`, signed under `pki`."""
    quoting_enclave = EnclaveReport(
        measurement=QE_MEASUREMENT,
        signer=QE_SIGNER,
        product_id=QE_PRODUCT_ID,
        svn=QE_SVN,
        report_data=endorse(pki),
        flags=FLAG_INIT | FLAG_MODE64BIT | FLAG_PROVISION_KEY,
    )
    return assemble_quote(pki, header=encode_header(), report=report, quoting_enclave=quoting_enclave)


def encode_header(*, version: int = 3, qe_svn: int = QE_SVN, pce_svn: int = PCE_SVN) -> bytes:
    """Return a quote's header, 48 bytes."""
    return b"".join(
        (
            version.to_bytes(2, "little"),
            ATTESTATION_KEY_ECDSA_P256.to_bytes(2, "little"),
            bytes(4),
            qe_svn.to_bytes(2, "little"),
            pce_svn.to_bytes(2, "little"),
            INTEL_QE_VENDOR,
            bytes(20),
        )
    )


def assemble_quote(
    pki: SimulatedPKI, *, header: bytes, report: EnclaveReport, quoting_enclave: EnclaveReport
) -> bytes:
    """Sign `header` and `report` with the attestation key, `quoting_enclave` with the PCK; join them all."""
    body = header + report.encode()
    signature = b"".join(
        (
            sign_raw(pki.attestation_key, body),
            public_point(pki.attestation_key),
            encode_certification(pki, quoting_enclave),
        )
    )
    return body + len(signature).to_bytes(4, "little") + signature


def encode_certification(pki: SimulatedPKI, quoting_enclave: EnclaveReport) -> bytes:
    """Return `quoting_enclave`, signed with the PCK, and the certificates of the PCK."""
    endorsed = quoting_enclave.encode()
    chain = (pki.pck.pem + pki.pck_ca.pem + pki.root.pem).encode("ascii")
    return b"".join(
        (
            endorsed,
            sign_raw(pki.pck.key, endorsed),
            len(AUTHENTICATION_DATA).to_bytes(2, "little"),
            AUTHENTICATION_DATA,
            CERTIFICATION_PCK_CHAIN.to_bytes(2, "little"),
            len(chain).to_bytes(4, "little"),
            chain,
        )
    )


def endorse(pki: SimulatedPKI) -> bytes:
    """Return the report data (64 bytes) with which a quoting enclave endorses the attestation key."""
    return hashlib.sha256(public_point(pki.attestation_key) + AUTHENTICATION_DATA).digest() + bytes(32)


def public_point(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the public key of `key` as 32 + 32 bytes, big-endian x || y."""
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]
