"""Where an attester gets what a vendor says of its platform.

What is got is signed by the vendor and judged by whoever verifies the evidence, so that a source can withhold
and delay and nothing else.
"""

from typing import Protocol
from urllib.parse import urlsplit

from s3ml.attestation.errors import EvidenceMalformedError
from s3ml.attestation.evidence import Collateral, SnpCertificates
from s3ml.primitives.errors import ConfigurationError, UnavailableError

ADDRESSES_LIMIT = 8


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


def collateral_for(source: CollateralSource, quote: bytes, *, what: str) -> Collateral:
    """Return what Intel says of the platform that made `quote`.

    Args:
        source: Where to get it.
        quote: From this platform.
        what: What messages shall call the attester.

    Raises:
        UnavailableError: `source` does not answer, or the platform made something else than a quote.
    """
    try:
        return source.for_quote(quote)
    except EvidenceMalformedError as error:
        raise UnavailableError(f"{what}: {error}") from error


def parse_addresses(name: str, text: str) -> tuple[str, ...]:
    """Read the addresses of services of collateral, which the host may choose: what they give is signed.

    Args:
        name: What the list is called in messages.
        text: At most 8 addresses of ``http`` or ``https`` between commas; none where it is empty.

    Raises:
        ConfigurationError: there are more, or one of them is no such address.
    """
    addresses = tuple(part.strip() for part in text.split(",")) if text else ()
    if len(addresses) > ADDRESSES_LIMIT:
        raise ConfigurationError(
            f"{name}: expected at most {ADDRESSES_LIMIT} addresses, got {len(addresses)}"
        )
    for address in addresses:
        try:
            parts = urlsplit(address)
            is_address = parts.scheme in {"http", "https"} and bool(parts.hostname)
        except ValueError:
            is_address = False
        if not is_address:
            raise ConfigurationError(
                f"{name}: expected addresses of http or https between commas, got {address[:80]!r}"
            )
    return addresses
