"""Appraisal policies: which enclaves a caller accepts, strictly typed.

A policy is a list of alternatives, and one that holds is enough. An alternative names its TEE, the code
(measurements, or a signer with a product and its least version) and what is tolerated of the platform.
Unknown fields, empty lists, repeated values and fields that the TEE knows nothing of reject.

Source: docs/spec/policy.md.
"""

from typing import Annotated, Literal

import msgspec

from s3ml.attestation.evidence import Technology, Tee, technology_of
from s3ml.attestation.policy.fields import FIELDS
from s3ml.attestation.policy.roots import check_root
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.names import DIGEST_PATTERN
from s3ml.primitives.units import DAY_S, KIB

DEFAULT_MAX_COLLATERAL_AGE_S = 30 * DAY_S  # Intel renews collateral within 30 days
DEFAULT_MAX_CRL_AGE_S = 400 * DAY_S  # AMD renews its revocation lists once a year
SGX_MAX_SVN = 0xFFFF
SHA256_DIGITS = 64
SHA384_DIGITS = 96
MEASUREMENT_DIGITS = {
    Technology.SGX: SHA256_DIGITS,
    Technology.TDX: SHA384_DIGITS,
    Technology.SEV_SNP: SHA384_DIGITS,
}
SIGNED_IDENTITY: dict[Technology, tuple[str, ...]] = {
    Technology.SGX: ("signer", "product_id", "min_svn"),
    Technology.TDX: (),
    Technology.SEV_SNP: ("signer", "family_id", "image_id", "min_svn"),
}

TcbStatus = Literal[
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
]
SnpProduct = Literal["Milan", "Genoa", "Turin"]
EndorsementKey = Literal["VCEK", "VLEK"]
Digest256 = Annotated[str, msgspec.Meta(pattern=DIGEST_PATTERN)]
Digest384 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{96}\Z")]
Digest = Annotated[str, msgspec.Meta(pattern=r"\A([0-9a-f]{64}|[0-9a-f]{96})\Z")]
Identifier128 = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{32}\Z")]
ChipId = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{128}\Z")]
Unsigned8 = Annotated[int, msgspec.Meta(ge=0, le=0xFF)]
Unsigned16 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]
Unsigned32 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)]
Advisory = Annotated[str, msgspec.Meta(pattern=r"\A[A-Z0-9][A-Z0-9-]{0,63}\Z")]
Root = Annotated[bytes, msgspec.Meta(min_length=1, max_length=4 * KIB)]
Registers = Annotated[tuple[Digest384, ...], msgspec.Meta(min_length=1, max_length=256)]
Age = Annotated[int, msgspec.Meta(ge=1, le=3650 * DAY_S)]


class RuntimeEvent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, order=True):
    """An event that TDX's log must hold: the register (RTMR) and the SHA-384 that extended it."""

    register: Annotated[int, msgspec.Meta(ge=0, le=3)]
    digest: Digest384


class SnpTcb(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The least security versions of a SEV-SNP platform; `fmc` exists from Turin on, and is 0 before."""

    bootloader: Unsigned8 = 0
    tee: Unsigned8 = 0
    snp: Unsigned8 = 0
    microcode: Unsigned8 = 0
    fmc: Unsigned8 = 0


class Alternative(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One kind of TEE and code that is accepted.

    `fields.FIELDS` says which TEE knows which field.

    Args:
        tee: ``sgx``, ``tdx``, ``sev-snp`` or ``simulated``.
        simulates: With ``simulated`` alone: whose formats; SGX's without it.
        root: The simulation root, DER (base64 in text); for ``simulated`` alone, and required there.
        measurements: The digests of the accepted code: MRENCLAVE (64 hexadecimal digits), MRTD or SEV-SNP's
            launch measurement (96).
        signer: Instead of `measurements`, for SGX and SEV-SNP: the digest of the signer's key, MRSIGNER
            (64 digits) or the ID key's (96).
        product_id: With `signer`, SGX: the signer's product.
        family_id: With `signer`, SEV-SNP: the family in the ID block, 32 digits.
        image_id: With `signer`, SEV-SNP: the image in the ID block, 32 digits.
        min_svn: With `signer`: the least security version of that product or image.
        author: SEV-SNP: the digest of the author key that signed the ID key.
        rtmr0: TDX: accepted values of runtime register 0, replayed from the event log; likewise 1 to 3.
        rtmr1: See `rtmr0`.
        rtmr2: See `rtmr0`.
        rtmr3: See `rtmr0`.
        events: TDX: events that the replayed log must hold.
        config_ids: TDX: accepted values of MRCONFIGID.
        host_data: SEV-SNP: accepted values of HOST_DATA, 64 digits.
        tcb_statuses: Intel: the TCB statuses that are tolerated.
        advisories: Intel: the open security advisories that are tolerated, by their ids.
        min_tcb_evaluation_data_number: Intel: the floor for the numbering of its TCB recoveries.
        min_qe_svn: Intel: the least security version of the quoting enclave.
        min_pce_svn: Intel: the least security version of the provisioning certification enclave.
        products: SEV-SNP: accepted processor lines.
        endorsement_keys: SEV-SNP: whether the chip's own key (VCEK) or the cloud's (VLEK) may sign.
        chip_ids: SEV-SNP: accepted processors, 128 digits each.
        min_tcb: SEV-SNP: the least versions of the platform's parts.
        max_vmpl: SEV-SNP: the least privileged level that may have asked for the report.
        allow_smt: SEV-SNP: whether the guest may run with simultaneous multithreading.
        allow_migration_agent: SEV-SNP: whether the guest may be associated with a migration agent.
        require_crl: SEV-SNP: whether AMD's revocation list must be given.
        max_collateral_age_s: The greatest age of what is signed and dated: Intel's collateral, AMD's
            revocation list; up to ten years. By default 30 days with Intel, 400 with AMD.
        warn_collateral_age_s: The age from which a verification notes that the collateral should be renewed.

    Raises:
        ConfigurationError: the fields contradict each other, or the TEE knows nothing of one.
    """

    tee: Tee
    simulates: Technology | None = None
    root: Root | None = None
    measurements: Annotated[tuple[Digest, ...], msgspec.Meta(min_length=1, max_length=256)] | None = None
    signer: Digest | None = None
    product_id: Unsigned16 | None = None
    family_id: Identifier128 | None = None
    image_id: Identifier128 | None = None
    min_svn: Unsigned32 | None = None
    author: Digest384 | None = None
    rtmr0: Registers | None = None
    rtmr1: Registers | None = None
    rtmr2: Registers | None = None
    rtmr3: Registers | None = None
    events: Annotated[tuple[RuntimeEvent, ...], msgspec.Meta(max_length=64)] = ()
    config_ids: Registers | None = None
    host_data: Annotated[tuple[Digest256, ...], msgspec.Meta(min_length=1, max_length=256)] | None = None
    tcb_statuses: Annotated[tuple[TcbStatus, ...], msgspec.Meta(min_length=1, max_length=6)] = ("UpToDate",)
    advisories: Annotated[tuple[Advisory, ...], msgspec.Meta(max_length=256)] = ()
    min_tcb_evaluation_data_number: Unsigned32 = 0
    max_collateral_age_s: Age = 0  # becomes the vendor's default: a written 0 is out of bounds
    warn_collateral_age_s: Age | None = None
    min_qe_svn: Unsigned16 = 0
    min_pce_svn: Unsigned16 = 0
    products: Annotated[tuple[SnpProduct, ...], msgspec.Meta(min_length=1, max_length=3)] = (
        "Milan",
        "Genoa",
        "Turin",
    )
    endorsement_keys: Annotated[tuple[EndorsementKey, ...], msgspec.Meta(min_length=1, max_length=2)] = (
        "VCEK",
    )
    chip_ids: Annotated[tuple[ChipId, ...], msgspec.Meta(min_length=1, max_length=256)] | None = None
    min_tcb: SnpTcb = SnpTcb()
    max_vmpl: Annotated[int, msgspec.Meta(ge=0, le=3)] = 0
    allow_smt: bool = False
    allow_migration_agent: bool = False
    require_crl: bool = True

    def __post_init__(self) -> None:
        if self.simulates is not None and self.tee is not Tee.SIMULATED:
            raise ConfigurationError(f"policy: simulates: expected none with tee = {self.tee}")
        if not self.max_collateral_age_s:
            is_snp = self.technology is Technology.SEV_SNP
            default_s = DEFAULT_MAX_CRL_AGE_S if is_snp else DEFAULT_MAX_COLLATERAL_AGE_S
            msgspec.structs.force_setattr(self, "max_collateral_age_s", default_s)
        _check_fields(self)
        _check_identity(self)
        check_root(self.root, self.tee, self.technology)

    @property
    def is_simulated(self) -> bool:
        """Whether this alternative accepts a simulated TEE, which protects nothing."""
        return self.tee is Tee.SIMULATED

    @property
    def technology(self) -> Technology:
        """Whose formats the accepted evidence has."""
        return technology_of(self.tee, self.simulates)


class AppraisalPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a caller accepts: any one of these alternatives."""

    version: Literal[1] = 1
    accept: Annotated[tuple[Alternative, ...], msgspec.Meta(min_length=1, max_length=32)]

    def __post_init__(self) -> None:
        if not self.accept:
            raise ConfigurationError("policy: accept: expected at least one alternative, got none")

    @property
    def is_simulated(self) -> bool:
        """Whether any alternative accepts a simulated TEE, which protects nothing."""
        return any(alternative.is_simulated for alternative in self.accept)


def _check_fields(alternative: Alternative) -> None:
    """Refuse what the TEE knows nothing of, empty lists and repeated values."""
    technology = alternative.technology
    for struct_field in msgspec.structs.fields(Alternative):
        name, value = struct_field.name, getattr(alternative, struct_field.name)
        field = FIELDS.get(name)
        if field is None or value == struct_field.default:
            continue
        if technology not in field.technologies:
            known = " or ".join(field.technologies)
            raise ConfigurationError(f"policy: {name}: expected none with {technology}, only with {known}")
        if value == ():
            raise ConfigurationError(f"policy: {name}: expected at least one, got none")
        if isinstance(value, tuple) and len(set(value)) != len(value):
            repeated = next(item for place, item in enumerate(value) if item in value[:place])
            raise ConfigurationError(f"policy: {name}: expected each value once, got {repeated} again")
    digits = MEASUREMENT_DIGITS[technology]
    named = (*(alternative.measurements or ()), *((alternative.signer,) if alternative.signer else ()))
    for digest in named:
        if len(digest) != digits:
            raise ConfigurationError(
                f"policy: expected digests of {digits} digits with {technology}, got {len(digest)}"
            )


def _check_identity(alternative: Alternative) -> None:
    signed = SIGNED_IDENTITY[alternative.technology]
    values = [getattr(alternative, name) for name in signed]
    if alternative.measurements is not None:
        is_consistent = all(value is None for value in values)
    else:
        is_consistent = bool(values) and all(value is not None for value in values)
    if not is_consistent:
        instead = f"either measurements, or {', '.join(signed)}" if signed else "measurements"
        raise ConfigurationError(
            f"policy: expected {instead}, in each alternative for {alternative.technology}"
        )
    if alternative.technology is Technology.SGX and (alternative.min_svn or 0) > SGX_MAX_SVN:
        raise ConfigurationError(
            f"policy: min_svn: expected at most {SGX_MAX_SVN} with sgx, got {alternative.min_svn}"
        )
