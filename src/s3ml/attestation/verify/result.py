"""What verification returns: claims that were proven, and the steps that proved them."""

from dataclasses import dataclass
from datetime import datetime

from s3ml.attestation.evidence import Tee


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One verification step that held, for people to read."""

    number: int
    title: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedEnclave:
    """An enclave that evidence has proven; made by `verify_evidence` alone.

    Args:
        tee: The kind of TEE.
        is_simulated: Whether the TEE is simulated and so protects nothing.
        measurement: The digest of its code (MRENCLAVE), 64 lower-case hexadecimal digits.
        signer: The digest of its signer's key (MRSIGNER), likewise.
        product_id: The signer's number for the product.
        svn: The signer's security version of the product.
        tcb_status: What the vendor says of the platform.
        advisories: The security advisories that are open on the platform.
        tcb_evaluation_data_number: The lower one of TCB info and identity of the quoting enclave.
        collateral_issued_at: The oldest issue date of TCB info, quoting enclave's identity and PCK CRL.
        steps: What was checked, in order.
    """

    tee: Tee
    is_simulated: bool
    measurement: str
    signer: str
    product_id: int
    svn: int
    tcb_status: str
    advisories: tuple[str, ...]
    tcb_evaluation_data_number: int
    collateral_issued_at: datetime
    steps: tuple[Step, ...]
