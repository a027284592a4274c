"""What verification returns: claims that were proven, and the steps that proved them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from s3ml.attestation.errors import Mismatch, Step
from s3ml.attestation.evidence import Technology, Tee
from s3ml.attestation.verify.claims import Claims


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """Evidence after every check that no policy changes.

    Args:
        claims: What it says; proven only where `mismatches` is empty.
        report_data: The 64 bytes that it carries.
        mismatches: Every rule that was broken.
        doubt: Why the claims are unproven, as words that follow a claim; None where they are proven.
        root_der: The root certificate that it was examined under.
        platform: The platform's state, in a few words for people.
        issued_at: The oldest instant at which a renewed part of the collateral was signed; None where no such
            part was given.
        signed_at: The newest signed instant in what was proven: no later verification may run before it.
        valid_from: With `valid_until`: the times for which examining it again has the same outcome.
        valid_until: See `valid_from`.
    """

    claims: Claims
    report_data: bytes
    mismatches: tuple[Mismatch, ...]
    doubt: str | None
    root_der: bytes
    platform: str
    issued_at: datetime | None
    signed_at: datetime
    valid_from: datetime
    valid_until: datetime

    @property
    def is_accepted(self) -> bool:
        """Whether nothing is broken and everything is proven, whatever a policy says."""
        return not self.mismatches and self.doubt is None


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedEnclave:
    """What runs in a TEE, as evidence has proven it; made by verification alone.

    Args:
        tee: The kind of TEE.
        technology: Whose formats its evidence has; another than `tee` only where it is simulated.
        is_simulated: Whether the TEE is simulated and so protects nothing.
        measurement: The digest of its code: MRENCLAVE, MRTD or the launch measurement, hexadecimal.
        claims: Everything else that was proven, by technology.
        platform: The platform's state, in a few words for people.
        collateral_issued_at: The oldest instant at which a renewed part of the collateral was signed.
        signed_at: The newest signed instant that was proven: no later verification may run before it.
        notes: What holds but deserves attention, such as collateral that should be renewed.
        tell_steps: Makes `steps`, which few callers read.
    """

    tee: Tee
    technology: Technology
    is_simulated: bool
    measurement: str
    claims: Claims
    platform: str
    collateral_issued_at: datetime | None
    signed_at: datetime
    notes: tuple[str, ...]
    tell_steps: Callable[[], tuple[Step, ...]] = field(repr=False, compare=False)

    @property
    def steps(self) -> tuple[Step, ...]:
        """What was checked, in order."""
        return self.tell_steps()
