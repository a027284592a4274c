"""The caching client: collateral for quotes, certificates for reports, from the vendors or their caches.

It is trusted with nothing: whoever verifies evidence checks again all that it delivers. What it adds is that
garbage, delays and lies of one endpoint do not reach the evidence while another endpoint is honest.

Source: docs/spec/collateral.md.
"""

from pathlib import Path
from types import TracebackType
from typing import Self

from s3ml.attestation.collateral.amd import AmdService
from s3ml.attestation.collateral.assembly import collect_certificates, collect_collateral
from s3ml.attestation.collateral.cache import FolderCache
from s3ml.attestation.collateral.endpoints import AMD_KDS_URL, pcs
from s3ml.attestation.collateral.freshness import Freshness
from s3ml.attestation.collateral.intel import IntelService
from s3ml.attestation.collateral.retrieval import Retriever
from s3ml.attestation.collateral.transport import Transport
from s3ml.attestation.evidence import Collateral, SnpCertificates
from s3ml.primitives.clock import Clock, SystemClock


class CollateralClient:
    """Fetches collateral and keeps it; safe to use from several threads; a context manager.

    Every method blocks, so an event loop calls it in a thread.

    Args:
        intel: Where Intel's collateral is to be had; by default from Intel's own service.
        amd: Where AMD's certificates are to be had; by default from AMD's own service.
        freshness: How old they may be.
        folder: Keeps them between processes, for its owner alone; None for memory alone.
        transport: How endpoints are asked; closed with this client.
        clock: For ages; the transport has its own.
        always_ask: Whether to ask the endpoints even for what is fresh.

    Raises:
        ConfigurationError: the folder cannot be made.
    """

    def __init__(
        self,
        *,
        intel: IntelService | None = None,
        amd: AmdService | None = None,
        freshness: Freshness | None = None,
        folder: Path | None = None,
        transport: Transport | None = None,
        clock: Clock | None = None,
        always_ask: bool = False,
    ) -> None:
        self._intel = intel or IntelService(endpoints=(pcs(),))
        self._amd = amd or AmdService(endpoints=(AMD_KDS_URL,))
        self._freshness = freshness or Freshness()
        clock = clock or SystemClock()
        self._retriever = Retriever(
            transport=transport or Transport(clock=clock),
            folder=FolderCache(folder) if folder else None,
            clock=clock,
            always_ask=always_ask,
        )

    def for_quote(self, quote: bytes) -> Collateral:
        """Return what Intel says of the platform that made an SGX or TDX quote.

        Args:
            quote: From the caller's own platform, as a rule; its signatures are not checked.

        Raises:
            EvidenceMalformedError: no such quote.
            UnavailableError: an item cannot be had; the message says which endpoints failed, and why.
        """
        return collect_collateral(self._retriever.get, quote, service=self._intel, freshness=self._freshness)

    def for_report(self, report: bytes, *, leaf: bytes | None = None) -> SnpCertificates:
        """Return what AMD says of the processor that signed a SEV-SNP report.

        Args:
            report: From the caller's own platform, as a rule; its signature is not checked.
            leaf: The VCEK or VLEK, DER, where the host gave it; AMD gives a VLEK to the cloud alone.

        Raises:
            EvidenceMalformedError: no such report, or one that hides which processor it is of.
            UnavailableError: an item cannot be had; the message says which endpoints failed, and why.
        """
        return collect_certificates(
            self._retriever.get, report, leaf=leaf, service=self._amd, freshness=self._freshness
        )

    def close(self) -> None:
        """End what runs in the background and close the connections; what is at hand still serves."""
        self._retriever.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
