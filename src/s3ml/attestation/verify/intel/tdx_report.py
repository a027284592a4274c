"""A TDX trust domain's report, 1.0 and 1.5: 584 or 648 bytes, read exactly, trusted in nothing.

Source: Intel TDX Module ABI specification (ATTRIBUTES, XFAM, TDINFO); Intel TDX DCAP Quoting Library API,
appendix A.3 (TD quote body, versions 1.0 and 1.5); Linux, arch/x86/include/asm/shared/tdx.h (attributes).
"""

from dataclasses import dataclass
from typing import Self

REPORT_10_BYTES = 584
REPORT_15_BYTES = 648
REGISTERS = 4
REGISTER_BYTES = 48
TCB_SVN_BYTES = 16

FLAG_DEBUG = 1 << 0
FLAG_LASS = 1 << 27
FLAG_SEPT_VE_DISABLE = 1 << 28
FLAG_MIGRATABLE = 1 << 29
FLAG_PKS = 1 << 30
FLAG_KEY_LOCKER = 1 << 31
FLAG_PERFMON = 1 << 63

XFAM_REQUIRED = 0x3  # x87 and SSE
XFAM_KNOWN = 0x6DBE7  # and AVX, AVX-512, PT, PKRU, CET, ULI, LBR, AMX


@dataclass(frozen=True, slots=True, kw_only=True)
class TdReport:
    """A trust domain's report as it stands in a quote.

    Args:
        tcb_svn: TEE_TCB_SVN, 16 bytes: the security versions of the TDX module and what is beneath it.
        module_measurement: MRSEAM: the TDX module.
        module_signer: MRSIGNERSEAM: zero for a module of Intel's own.
        module_flags: SEAMATTRIBUTES, 64 bits: zero in production.
        flags: TD attributes, 64 bits.
        xfam: The extended processor state that the domain may use, 64 bits.
        measurement: MRTD.
        config_id: MRCONFIGID.
        owner: MROWNER.
        owner_config: MROWNERCONFIG.
        registers: RTMR0 to RTMR3.
        report_data: 64 bytes of the domain's own choice.
        current_tcb_svn: TEE_TCB_SVN2, for the module that runs now; None with report 1.0.
        service_td: MRSERVICETD: the service domains that are bound; None with report 1.0.
    """

    tcb_svn: bytes
    module_measurement: bytes
    module_signer: bytes
    module_flags: int
    flags: int
    xfam: int
    measurement: bytes
    config_id: bytes
    owner: bytes
    owner_config: bytes
    registers: tuple[bytes, bytes, bytes, bytes]
    report_data: bytes
    current_tcb_svn: bytes | None = None
    service_td: bytes | None = None

    @classmethod
    def parse(cls, body: bytes) -> Self:
        """Read a report of 584 (1.0) or 648 bytes (1.5)."""
        is_15 = len(body) == REPORT_15_BYTES
        return cls(
            tcb_svn=body[:16],
            module_measurement=body[16:64],
            module_signer=body[64:112],
            module_flags=int.from_bytes(body[112:120], "little"),
            flags=int.from_bytes(body[120:128], "little"),
            xfam=int.from_bytes(body[128:136], "little"),
            measurement=body[136:184],
            config_id=body[184:232],
            owner=body[232:280],
            owner_config=body[280:328],
            registers=(body[328:376], body[376:424], body[424:472], body[472:520]),
            report_data=body[520:584],
            current_tcb_svn=body[584:600] if is_15 else None,
            service_td=body[600:648] if is_15 else None,
        )
