"""What quotes and reports claim, by technology; proven only inside a `VerifiedEnclave`.

Digests and identifiers are lower-case hexadecimal.
"""

from dataclasses import dataclass

from s3ml.attestation.policy import RuntimeEvent, SnpTcb


@dataclass(frozen=True, slots=True, kw_only=True)
class IntelTcb:
    """What Intel says of a platform.

    Args:
        status: The status of its trusted computing base; None where the quote does not verify.
        advisories: The security advisories that are open on it.
        evaluation_data_number: The lower one of TCB info and identity of the quoting enclave.
        qe_svn: The security version of the quoting enclave: SGX has it in the quote's header, TDX in that
            enclave's own report.
        pce_svn: That of the provisioning certification enclave: SGX has it in the quote's header, TDX in the
            PCK certificate.
    """

    status: str | None
    advisories: tuple[str, ...]
    evaluation_data_number: int
    qe_svn: int
    pce_svn: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SgxClaims:
    """An SGX enclave: MRENCLAVE, MRSIGNER, product, security version, attribute flags."""

    measurement: str
    signer: str
    product_id: int
    svn: int
    flags: int
    tcb: IntelTcb


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxClaims:
    """A TDX trust domain.

    Args:
        measurement: MRTD: the firmware that it was built with.
        registers: RTMR0 to RTMR3 as the quote has them.
        replayed: What the event log replays to; None without a log. It proves nothing unless it equals
            `registers`.
        events: The events that the log replays to `registers`; None without a log, or where it does not.
        config_id: MRCONFIGID.
        owner: MROWNER.
        owner_config: MROWNERCONFIG.
        flags: TD attributes, 64 bits.
        tcb: What Intel says of the platform.
    """

    measurement: str
    registers: tuple[str, str, str, str]
    replayed: tuple[str, str, str, str] | None
    events: tuple[RuntimeEvent, ...] | None
    config_id: str
    owner: str
    owner_config: str
    flags: int
    tcb: IntelTcb


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpClaims:
    """A SEV-SNP guest.

    Args:
        measurement: The launch measurement.
        signer: The digest of the ID key; zeros without an ID block.
        author: The digest of the author key; zeros without one.
        family_id: From the ID block.
        image_id: From the ID block.
        svn: The guest's security version, from the ID block.
        host_data: What the host set at launch.
        policy: The guest policy, 64 bits.
        vmpl: The privilege level that asked for the report, 0 to 3.
        product: Milan, Genoa or Turin.
        endorsement_key: VCEK or VLEK.
        chip_id: The processor, 128 digits; zeros where masked.
        tcb: The reported versions of the platform's parts.
        launch_tcb: Those that ran when the guest was launched.
        has_crl: Whether AMD's revocation list was given.
    """

    measurement: str
    signer: str
    author: str
    family_id: str
    image_id: str
    svn: int
    host_data: str
    policy: int
    vmpl: int
    product: str
    endorsement_key: str
    chip_id: str
    tcb: SnpTcb
    launch_tcb: SnpTcb
    has_crl: bool


Claims = SgxClaims | TdxClaims | SnpClaims
