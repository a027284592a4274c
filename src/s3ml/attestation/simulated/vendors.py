"""The simulated vendors: which keys and which quoter belong to a technology. SIMULATED throughout."""

from datetime import datetime
from typing import Protocol

from s3ml.attestation.evidence import Technology
from s3ml.attestation.simulated.collateral import TCB_STATES
from s3ml.attestation.simulated.pki import SimulatedPKI
from s3ml.attestation.simulated.quoter import DEFAULT_TCB_STATE, IntelQuoter, Quoter
from s3ml.attestation.simulated.snp_pki import SimulatedSnpPKI
from s3ml.attestation.simulated.snp_quoter import SnpQuoter
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
    """Make fresh keys and certificates for `technology`, valid from `now` (aware UTC); AMD's take seconds."""
    return SimulatedSnpPKI.create(now) if technology is Technology.SEV_SNP else SimulatedPKI.create(now)


def restore_pki(technology: Technology, data: bytes) -> VendorPKI:
    """Restore what `to_bytes` returned.

    Raises:
        ConfigurationError: it is something else, or damaged.
    """
    if technology is Technology.SEV_SNP:
        return SimulatedSnpPKI.from_bytes(data)
    return SimulatedPKI.from_bytes(data)


def make_quoter(pki: VendorPKI, technology: Technology, tcb: str) -> Quoter:
    """Return what makes evidence of `technology` with `pki`, in the state that `tcb` names.

    Raises:
        ConfigurationError: there is no such state, or `pki` is another vendor's.
    """
    if tcb not in TCB_STATES:
        raise ConfigurationError(f"TCB state: expected one of {', '.join(TCB_STATES)}, got {tcb[:40]!r}")
    if isinstance(pki, SimulatedSnpPKI):
        if tcb != DEFAULT_TCB_STATE:
            raise ConfigurationError(
                f"TCB state: expected {DEFAULT_TCB_STATE} with sev-snp, whose vendor names none, got {tcb}"
            )
        return SnpQuoter(pki)
    if not isinstance(pki, SimulatedPKI) or technology is Technology.SEV_SNP:
        raise ConfigurationError(f"platform keys: expected keys of AMD's kind for {technology}")
    return IntelQuoter(pki, technology, TCB_STATES[tcb])
