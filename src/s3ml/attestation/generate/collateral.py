"""Where an attester gets what a vendor says of its platform.

What is got is signed by the vendor and judged by whoever verifies the evidence, so that a source can withhold
and delay and nothing else.
"""

from typing import Protocol

from s3ml.attestation.evidence import Collateral, SnpCertificates


class CollateralSource(Protocol):
    """A client of the vendors' services and their caches, or files; its methods block."""

    def for_quote(self, quote: bytes) -> Collateral:
        """Return what Intel says of the platform that made `quote`, of SGX or TDX.

        Raises:
            EvidenceMalformedError: `quote` cannot be read.
            UnavailableError: No endpoint answers.
        """
        ...

    def for_report(self, report: bytes, *, leaf: bytes | None = None) -> SnpCertificates:
        """Return what AMD says of the processor that made `report`, of SEV-SNP.

        Args:
            report: From this processor.
            leaf: The VCEK or VLEK, DER, where the host gave it. AMD gives a VLEK to nobody else, so that
                without it only reports that a VCEK signed can be served.

        Raises:
            EvidenceMalformedError: `report` or `leaf` cannot be read.
            UnavailableError: No endpoint answers, or the report is signed by a VLEK that was not given.
        """
        ...
