"""A `CollateralSource` over values at hand, which remembers what it was asked. SIMULATED."""

from dataclasses import dataclass, field

from s3ml.attestation.evidence import Collateral, SnpCertificates
from s3ml.primitives.errors import UnavailableError


@dataclass
class FakeCollateral:
    """Gives what it has; what it does not have is unavailable, or fails as it is told to."""

    collateral: Collateral | None = None
    certificates: SnpCertificates | None = None
    failure: Exception = field(default_factory=lambda: UnavailableError("collateral: no endpoint answers"))
    quotes: list[bytes] = field(default_factory=list)
    reports: list[tuple[bytes, bytes | None]] = field(default_factory=list)

    def for_quote(self, quote: bytes) -> Collateral:
        self.quotes.append(quote)
        if self.collateral is None:
            raise self.failure
        return self.collateral

    def for_report(self, report: bytes, *, leaf: bytes | None = None) -> SnpCertificates:
        self.reports.append((report, leaf))
        if self.certificates is None:
            raise self.failure
        return self.certificates
