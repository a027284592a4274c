"""A SEV-SNP attestation report, versions 2 to 5: 1,184 bytes, read exactly, trusted in nothing.

Version 3 added the CPUID, version 5 the mitigation vectors. What a version reserves is zero. The TCBs stay
bytes: their layout depends on the processor line.

Source: AMD 56860, SEV Secure Nested Paging Firmware ABI Specification 1.58, table 23 (ATTESTATION_REPORT) and
appendix D (ECDSA signature); AMD's published firmware, AMD-ASPFW, snp_attestation_report (what is written).
"""

import struct
from dataclasses import dataclass
from typing import NamedTuple

from s3ml.attestation.errors import EvidenceMalformedError
from s3ml.attestation.policy.alternative import EndorsementKey

REPORT_BYTES = 0x4A0
SIGNED_BYTES = 0x2A0
VERSION_2, VERSION_3, VERSION_5 = 2, 3, 5
VERSIONS = range(VERSION_2, VERSION_5 + 1)
ALGORITHM_ECDSA_P384_SHA384 = 1
NO_MIGRATION_AGENT = b"\xff" * 32

POLICY_SMT = 1 << 16
POLICY_RESERVED_ONE = 1 << 17
POLICY_MIGRATE_MA = 1 << 18
POLICY_DEBUG = 1 << 19
POLICY_PAGE_SWAP_DISABLE = 1 << 25
POLICY_KNOWN = {2: (1 << 25) - 1, 3: (1 << 25) - 1, 4: (1 << 25) - 1, 5: (1 << 26) - 1}

PLATFORM_SMT = 1 << 0
# SMT, TSME, ECC, RAPL, ciphertext hiding; then the check for aliased memory; then SEV-TIO.
PLATFORM_KNOWN = {2: 0b0001_1111, 3: 0b0011_1111, 4: 0b0011_1111, 5: 0b1011_1111}

SCALAR_BYTES = 72

KEY_AUTHOR = 1 << 0
KEY_MASK_CHIP_KEY = 1 << 1
KEY_SIGNING_SHIFT = 2
KEY_KNOWN = 0b1_1111
SIGNING_KEYS: dict[int, EndorsementKey] = {0: "VCEK", 1: "VLEK"}

P384_ORDER = (
    0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973
)

_LAYOUT = struct.Struct(
    "<I I Q 16s 16s I I 8s Q I I"  # up to what follows the key info
    "64s 48s 32s 48s 48s 32s 32s 8s"  # up to the reported TCB
    "3s 21s 64s 8s 3s B 3s B 8s Q Q 152s"  # up to the end of what is signed
    "72s 72s 368s"
)


class _Raw(NamedTuple):
    """The fields of a report in their order."""

    version: int
    svn: int
    policy: int
    family_id: bytes
    image_id: bytes
    vmpl: int
    algorithm: int
    current_tcb: bytes
    platform_info: int
    key_info: int
    reserved_0: int
    report_data: bytes
    measurement: bytes
    host_data: bytes
    signer: bytes
    author: bytes
    report_id: bytes
    report_id_ma: bytes
    reported_tcb: bytes
    cpuid: bytes
    reserved_1: bytes
    chip_id: bytes
    committed_tcb: bytes
    current: bytes
    reserved_2: int
    committed: bytes
    reserved_3: int
    launch_tcb: bytes
    launch_mitigations: int
    current_mitigations: int
    reserved_4: bytes
    r: bytes
    s: bytes
    reserved_5: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpuid:
    """Combined family and model, and stepping, of the processor."""

    family: int
    model: int
    stepping: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpReport:
    """A report as the firmware wrote it.

    Args:
        version: Of the format, 2 to 5.
        svn: The guest's, from its ID block.
        policy: The guest policy, 64 bits.
        family_id: From the ID block.
        image_id: From the ID block.
        vmpl: The privilege level that asked; all ones where the hypervisor did.
        platform_info: The state of the platform, 64 bits.
        signing_key: Whose key signed.
        report_data: 64 bytes of the guest's own choice.
        measurement: At launch.
        host_data: What the host set at launch.
        signer: The digest of the ID key; zeros without an ID block.
        author: The digest of the author key; zeros without one.
        report_id_ma: The report id of the migration agent; all ones without one.
        cpuid: Of the processor; None with version 2.
        chip_id: Of the processor, 64 bytes; zeros where the host masks it.
        reported_tcb: What the endorsement key is derived from; raw, as all TCBs are here.
        committed_tcb: Below which the firmware cannot fall.
        current_tcb: What runs.
        launch_tcb: What ran when the guest was launched.
        current_firmware: Its major version, minor version and build.
        committed_firmware: That below which it cannot fall.
        launch_mitigations: What was mitigated at launch, 64 bits; 0 before version 5.
        current_mitigations: What is mitigated now.
        signature: r and s.
        signed: The bytes that were signed.
    """

    version: int
    svn: int
    policy: int
    family_id: bytes
    image_id: bytes
    vmpl: int
    platform_info: int
    signing_key: EndorsementKey
    report_data: bytes
    measurement: bytes
    host_data: bytes
    signer: bytes
    author: bytes
    report_id_ma: bytes
    cpuid: Cpuid | None
    chip_id: bytes
    reported_tcb: bytes
    committed_tcb: bytes
    current_tcb: bytes
    launch_tcb: bytes
    current_firmware: tuple[int, int, int]
    committed_firmware: tuple[int, int, int]
    launch_mitigations: int
    current_mitigations: int
    signature: tuple[int, int]
    signed: bytes

    @property
    def is_chip_masked(self) -> bool:
        """Whether the host hides which processor this is."""
        return not any(self.chip_id)

    @property
    def canonical_signature(self) -> bytes:
        """The signature with the smaller one of the two values of s, which verify alike."""
        r, s = self.signature
        return b"".join(part.to_bytes(SCALAR_BYTES, "little") for part in (r, min(s, P384_ORDER - s)))


def parse_report(data: bytes) -> SnpReport:
    """Read a report.

    Args:
        data: From an untrusted peer.

    Raises:
        EvidenceMalformedError: another size, version or algorithm, something reserved that is not zero,
            fields that contradict each other, or a signature out of range.
    """
    if len(data) != REPORT_BYTES:
        raise EvidenceMalformedError(f"report: expected {REPORT_BYTES} bytes, got {len(data)}")
    raw = _Raw._make(_LAYOUT.unpack(data))
    _check_format(raw)
    cpuid = None
    if raw.version >= VERSION_3:
        cpuid = Cpuid(family=raw.cpuid[0], model=raw.cpuid[1], stepping=raw.cpuid[2])
    return SnpReport(
        version=raw.version,
        svn=raw.svn,
        policy=raw.policy,
        family_id=raw.family_id,
        image_id=raw.image_id,
        vmpl=raw.vmpl,
        platform_info=raw.platform_info,
        signing_key=_read_signing_key(raw.key_info, raw.author),
        report_data=raw.report_data,
        measurement=raw.measurement,
        host_data=raw.host_data,
        signer=raw.signer,
        author=raw.author,
        report_id_ma=raw.report_id_ma,
        cpuid=cpuid,
        chip_id=raw.chip_id,
        reported_tcb=raw.reported_tcb,
        committed_tcb=raw.committed_tcb,
        current_tcb=raw.current_tcb,
        launch_tcb=raw.launch_tcb,
        current_firmware=_read_firmware(raw.current),
        committed_firmware=_read_firmware(raw.committed),
        launch_mitigations=raw.launch_mitigations,
        current_mitigations=raw.current_mitigations,
        signature=(_read_scalar(raw.r, "r"), _read_scalar(raw.s, "s")),
        signed=data[:SIGNED_BYTES],
    )


def _check_format(raw: _Raw) -> None:
    """Check version and algorithm, and that what the version reserves is zero."""
    version = raw.version
    if version not in VERSIONS:
        raise EvidenceMalformedError(f"report: version: expected {VERSION_2} to {VERSION_5}, got {version}")
    if raw.algorithm != ALGORITHM_ECDSA_P384_SHA384:
        raise EvidenceMalformedError(
            f"report: signature algorithm: expected {ALGORITHM_ECDSA_P384_SHA384}, got {raw.algorithm}"
        )
    reserved = raw.reserved_1 + raw.reserved_4 + raw.reserved_5
    if version < VERSION_3:
        reserved += raw.cpuid
    numbers = raw.reserved_0 | raw.reserved_2 | raw.reserved_3
    if version < VERSION_5:
        numbers |= raw.launch_mitigations | raw.current_mitigations
    if numbers or any(reserved):
        raise EvidenceMalformedError(f"report: expected zeros where version {version} reserves bytes")
    if raw.platform_info & ~PLATFORM_KNOWN[version]:
        raise EvidenceMalformedError(
            f"report: platform info: expected no bit that version {version} reserves, got "
            f"{raw.platform_info:#x}"
        )


def _read_signing_key(key_info: int, author: bytes) -> EndorsementKey:
    """Return whose key signed, and check what else the report says of keys."""
    if key_info & ~KEY_KNOWN:
        raise EvidenceMalformedError(f"report: key info: expected no reserved bit, got {key_info:#x}")
    signing_key = SIGNING_KEYS.get(key_info >> KEY_SIGNING_SHIFT)
    if signing_key is None:
        raise EvidenceMalformedError(
            f"report: signing key: expected 0 (VCEK) or 1 (VLEK), got {key_info >> KEY_SIGNING_SHIFT}"
        )
    if signing_key == "VCEK" and key_info & KEY_MASK_CHIP_KEY:
        raise EvidenceMalformedError("report: key info: expected no VCEK where the host masks it, got one")
    if any(author) and not key_info & KEY_AUTHOR:
        raise EvidenceMalformedError("report: author key: expected zeros without an author, got a digest")
    return signing_key


def _read_firmware(raw: bytes) -> tuple[int, int, int]:
    build, minor, major = raw
    return major, minor, build


def _read_scalar(raw: bytes, what: str) -> int:
    """Read one half of a signature: 72 bytes, little-endian."""
    scalar = int.from_bytes(raw, "little")
    if not 1 <= scalar < P384_ORDER:
        raise EvidenceMalformedError(f"report: signature: expected {what} from 1 to the curve's order")
    return scalar
