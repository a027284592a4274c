"""TDX quotes, versions 4 and 5, signed by the simulated platform. SIMULATED: they prove nothing.

The layout is Intel's, byte for byte, so that the verifier of real quotes verifies these. What a report says
is the caller's to choose.

Source: Intel TDX DCAP Quoting Library API, appendix A.3 (quote formats, versions 4 and 5).
"""

import hashlib
from dataclasses import dataclass

from s3ml.attestation.evidence import REPORT_DATA_BYTES
from s3ml.attestation.simulated.collateral import (
    TD_QE_MEASUREMENT,
    TD_QE_PRODUCT_ID,
    TD_QE_SIGNER,
    TD_QE_SVN,
    TDX_TCB_SVN,
    sign_raw,
)
from s3ml.attestation.simulated.pki import SimulatedPKI
from s3ml.attestation.simulated.quote import EnclaveReport, encode_certification, endorse, public_point
from s3ml.attestation.verify.intel.quote import ATTESTATION_KEY_ECDSA_P256, INTEL_QE_VENDOR
from s3ml.attestation.verify.intel.sgx_report import FLAG_INIT, FLAG_MODE64BIT, FLAG_PROVISION_KEY
from s3ml.attestation.verify.intel.tdx_quote import (
    BODY_TD_REPORT_10,
    BODY_TD_REPORT_15,
    CERTIFICATION_QE_REPORT,
    QUOTE_VERSION_4,
    QUOTE_VERSION_5,
    TEE_TYPE_TDX,
)
from s3ml.attestation.verify.intel.tdx_report import (
    FLAG_SEPT_VE_DISABLE,
    REGISTER_BYTES,
    TCB_SVN_BYTES,
)
from s3ml.primitives.errors import ConfigurationError

MODULE_MEASUREMENT = hashlib.sha384(b"S3ML simulated TDX module v1").digest()
XFAM = 0x602E7
_ZERO = bytes(REGISTER_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustDomainReport:
    """What a quote says of a trust domain; the fields are those of `TdReport`, which explains them.

    A report with `service_td` and `current_tcb_svn` is one of version 1.5, without both one of 1.0.

    Raises:
        ConfigurationError: a field of bytes has another length, or only one of those two is there.
    """

    measurement: bytes
    registers: tuple[bytes, bytes, bytes, bytes]
    report_data: bytes
    tcb_svn: bytes = TDX_TCB_SVN
    module_measurement: bytes = MODULE_MEASUREMENT
    module_signer: bytes = _ZERO
    module_flags: int = 0
    flags: int = FLAG_SEPT_VE_DISABLE
    xfam: int = XFAM
    config_id: bytes = _ZERO
    owner: bytes = _ZERO
    owner_config: bytes = _ZERO
    current_tcb_svn: bytes | None = None
    service_td: bytes | None = None

    def __post_init__(self) -> None:
        digests = ("measurement", "module_measurement", "module_signer", "config_id", "owner", "owner_config")
        sizes = {
            **dict.fromkeys(digests, REGISTER_BYTES),
            "report_data": REPORT_DATA_BYTES,
            "tcb_svn": TCB_SVN_BYTES,
        }
        if self.service_td is None:
            if self.current_tcb_svn is not None:
                raise ConfigurationError("TD report: current_tcb_svn: expected none without service_td")
        else:
            sizes |= {"service_td": REGISTER_BYTES, "current_tcb_svn": TCB_SVN_BYTES}
        for what, size in sizes.items():
            value = getattr(self, what)
            if value is None or len(value) != size:
                raise ConfigurationError(f"TD report: {what}: expected {size} bytes, got {value!r:.40}")
        if [len(register) for register in self.registers] != [REGISTER_BYTES] * 4:
            raise ConfigurationError(f"TD report: registers: expected 4 of {REGISTER_BYTES} bytes")

    @property
    def kind(self) -> int:
        """What quotes of version 5 call the version of this report."""
        return BODY_TD_REPORT_10 if self.service_td is None else BODY_TD_REPORT_15

    def encode(self) -> bytes:
        """Return the report body, 584 or 648 bytes."""
        return b"".join(
            (
                self.tcb_svn,
                self.module_measurement,
                self.module_signer,
                self.module_flags.to_bytes(8, "little"),
                self.flags.to_bytes(8, "little"),
                self.xfam.to_bytes(8, "little"),
                self.measurement,
                self.config_id,
                self.owner,
                self.owner_config,
                *self.registers,
                self.report_data,
                self.current_tcb_svn or b"",
                self.service_td or b"",
            )
        )


def render_tdx_quote(
    pki: SimulatedPKI, report: TrustDomainReport, *, version: int = QUOTE_VERSION_4
) -> bytes:
    """Return the quote of `report`, signed under `pki`.

    Args:
        pki: Of the simulated platform.
        report: With version 4, one without `service_td`.
        version: 4 or 5.
    """
    quoting_enclave = td_quoting_enclave(pki)
    return assemble_tdx_quote(
        pki, header=encode_tdx_header(version=version), report=report, quoting_enclave=quoting_enclave
    )


def td_quoting_enclave(pki: SimulatedPKI) -> EnclaveReport:
    """Return the report of the TD quoting enclave that endorses the platform's attestation key."""
    return EnclaveReport(
        measurement=TD_QE_MEASUREMENT,
        signer=TD_QE_SIGNER,
        product_id=TD_QE_PRODUCT_ID,
        svn=TD_QE_SVN,
        report_data=endorse(pki),
        flags=FLAG_INIT | FLAG_MODE64BIT | FLAG_PROVISION_KEY,
    )


def encode_tdx_header(*, version: int = QUOTE_VERSION_4) -> bytes:
    """Return a quote's header, 48 bytes."""
    return b"".join(
        (
            version.to_bytes(2, "little"),
            ATTESTATION_KEY_ECDSA_P256.to_bytes(2, "little"),
            TEE_TYPE_TDX.to_bytes(4, "little"),
            bytes(4),
            INTEL_QE_VENDOR,
            bytes(20),
        )
    )


def assemble_tdx_quote(
    pki: SimulatedPKI, *, header: bytes, report: TrustDomainReport, quoting_enclave: EnclaveReport
) -> bytes:
    """Sign `header` and `report` with the attestation key, `quoting_enclave` with the PCK; join them all."""
    body = header + encode_tdx_body(report, version=int.from_bytes(header[:2], "little"))
    certification = encode_certification(pki, quoting_enclave)
    signature = b"".join(
        (
            sign_raw(pki.attestation_key, body),
            public_point(pki.attestation_key),
            CERTIFICATION_QE_REPORT.to_bytes(2, "little"),
            len(certification).to_bytes(4, "little"),
            certification,
        )
    )
    return body + len(signature).to_bytes(4, "little") + signature


def encode_tdx_body(report: TrustDomainReport, *, version: int) -> bytes:
    """Return `report` as a quote of `version` has it: from version 5 on, after its kind and length."""
    encoded = report.encode()
    if version < QUOTE_VERSION_5:
        return encoded
    return report.kind.to_bytes(2, "little") + len(encoded).to_bytes(4, "little") + encoded
