"""The simulated vendors: which keys and which quoter belong to a technology. SIMULATED throughout."""

from datetime import datetime
from typing import Protocol

from s3ml.attestation.evidence import Technology
from s3ml.attestation.simulated.collateral import TCB_STATES
from s3ml.attestation.simulated.pki import SimulatedPKI
from s3ml.attestation.simulated.quoter import IntelQuoter, Quoter
from s3ml.primitives.errors import ConfigurationError


class VendorPKI(Protocol):
    """Every key of a simulated platform and of the vendor that vouches for it."""

    @property
    def root_der(self) -> bytes:
        """The root certificate, as policies name it."""
        ...

    @property
    def root_pem(self) -> bytes:
        """The root certificate, for people."""
        ...

    def to_bytes(self) -> bytes:
        """Return everything, private keys included, for a file that only the platform reads."""
        ...


def create_pki(technology: Technology, now: datetime) -> VendorPKI:
    """Make fresh keys and certificates for `technology`, valid from `now` (aware UTC).

    Raises:
        ConfigurationError: nothing simulates it.
    """
    _expect_intel(technology)
    return SimulatedPKI.create(now)


def restore_pki(technology: Technology, data: bytes) -> VendorPKI:
    """Restore what `to_bytes` returned.

    Raises:
        ConfigurationError: it is something else, or damaged.
    """
    _expect_intel(technology)
    return SimulatedPKI.from_bytes(data)


def make_quoter(pki: VendorPKI, technology: Technology, tcb: str) -> Quoter:
    """Return what makes evidence of `technology` with `pki`, in the state that `tcb` names.

    Raises:
        ConfigurationError: there is no such state.
    """
    if tcb not in TCB_STATES:
        raise ConfigurationError(f"TCB state: expected one of {', '.join(TCB_STATES)}, got {tcb[:40]!r}")
    if not isinstance(pki, SimulatedPKI):
        raise ConfigurationError(f"platform keys: expected some for {technology}")
    return IntelQuoter(pki, technology, TCB_STATES[tcb])


def _expect_intel(technology: Technology) -> None:
    if technology is Technology.SEV_SNP:
        raise ConfigurationError("simulated platform: expected sgx or tdx, got sev-snp")
