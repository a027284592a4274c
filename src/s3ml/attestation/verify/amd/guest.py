"""What a SEV-SNP guest in production looks like, whatever a policy says.

Source: AMD 56860, SEV Secure Nested Paging Firmware ABI Specification 1.58, section 4.3 (guest policy) and
table 23; AMD's published firmware, AMD-ASPFW (LAUNCH_START; the report id of no migration agent is ones).
"""

from s3ml.attestation.errors import Mismatch
from s3ml.attestation.verify.amd.report import (
    NO_MIGRATION_AGENT,
    PLATFORM_SMT,
    POLICY_DEBUG,
    POLICY_KNOWN,
    POLICY_MIGRATE_MA,
    POLICY_RESERVED_ONE,
    POLICY_SMT,
    SnpReport,
)
from s3ml.attestation.verify.comparison import mismatch_unless

HIGHEST_VMPL = 3


def check_guest(report: SnpReport) -> list[Mismatch]:
    """Check the guest's policy against itself and the platform, and who asked for the report.

    1. The guest policy is one that the version of the report knows, without DEBUG, for this firmware.
    2. A guest that may not be associated with a migration agent is not.
    3. A guest that may not run with simultaneous multithreading does not.
    4. A guest asked, not the hypervisor.
    """
    policy = report.policy
    needed = (policy >> 8 & 0xFF, policy & 0xFF)
    return [
        *_check_policy(  # (1)
            "bit 17, no bit that is reserved",
            f"{policy:#018x}",
            holds=bool(policy & POLICY_RESERVED_ONE) and not policy & ~POLICY_KNOWN[report.version],
        ),
        *_check_policy("no DEBUG", f"{policy:#018x}", holds=not policy & POLICY_DEBUG),
        *_check_policy(
            "a firmware interface that the platform has",
            f"{needed[0]}.{needed[1]} with {report.current_firmware[0]}.{report.current_firmware[1]}",
            holds=needed <= report.current_firmware[:2],
        ),
        *_check_policy(  # (2)
            "no migration agent without MIGRATE_MA",
            report.report_id_ma.hex(),
            holds=bool(policy & POLICY_MIGRATE_MA) or report.report_id_ma == NO_MIGRATION_AGENT,
        ),
        *_check_policy(  # (3)
            "a platform without SMT, as the policy has it",
            "one with SMT",
            holds=bool(policy & POLICY_SMT) or not report.platform_info & PLATFORM_SMT,
        ),
        *mismatch_unless(  # (4)
            holds=report.vmpl <= HIGHEST_VMPL,
            claim="vmpl",
            expected=f"0 to {HIGHEST_VMPL}",
            got=str(report.vmpl),
        ),
    ]


def _check_policy(expected: str, got: str, *, holds: bool) -> list[Mismatch]:
    return mismatch_unless(holds=holds, claim="guest_policy", expected=expected, got=got)
