"""Collateral from files: the client's interface where there is no network, with the same proofs.

Source: docs/spec/collateral.md, section "Folder".
"""

from pathlib import Path

from s3ml.attestation.collateral.amd import AmdService
from s3ml.attestation.collateral.assembly import collect_certificates, collect_collateral
from s3ml.attestation.collateral.cache import FolderCache
from s3ml.attestation.collateral.freshness import Freshness, State, explain_expired, judge
from s3ml.attestation.collateral.intel import IntelService
from s3ml.attestation.collateral.item import (
    CollateralRejectedError,
    CollateralUnavailableError,
    Inquiry,
    Proven,
    parse_item,
    prove,
)
from s3ml.attestation.evidence import Collateral, SnpCertificates
from s3ml.primitives.clock import Clock, SystemClock
from s3ml.primitives.errors import ConfigurationError


class CollateralFiles:
    """Takes collateral from a folder that ``s3ml collateral fetch`` wrote; safe from several threads.

    Args:
        folder: Trusted in nothing; every item is proved each time it is read.
        intel: The pinned root and which update to take; its endpoints are not asked.
        amd: The pinned roots; its endpoints are not asked.
        freshness: The hard limits; the soft one counts for nothing.
        clock: For ages.

    Raises:
        ConfigurationError: there is no such folder.
    """

    def __init__(
        self,
        folder: Path,
        *,
        intel: IntelService | None = None,
        amd: AmdService | None = None,
        freshness: Freshness | None = None,
        clock: Clock | None = None,
    ) -> None:
        if not folder.is_dir():
            raise ConfigurationError(f"collateral {folder}: expected a folder from: s3ml collateral fetch")
        self._folder = folder
        self._files = FolderCache(folder)
        self._intel = intel or IntelService(endpoints=())
        self._amd = amd or AmdService(endpoints=())
        self._freshness = freshness or Freshness()
        self._clock = clock or SystemClock()

    def for_quote(self, quote: bytes) -> Collateral:
        """Return what Intel says of the platform that made an SGX or TDX quote.

        Raises:
            EvidenceMalformedError: no such quote.
            UnavailableError: a file is missing, is not what Intel signed, or has expired.
        """
        return collect_collateral(self._get, quote, service=self._intel, freshness=self._freshness)

    def for_report(self, report: bytes, *, leaf: bytes | None = None) -> SnpCertificates:
        """Return what AMD says of the processor that signed a SEV-SNP report.

        Args:
            report: From the caller's own platform, as a rule; its signature is not checked.
            leaf: The VCEK or VLEK, DER, where the host gave it.

        Raises:
            EvidenceMalformedError: no such report, or one that hides which processor it is of.
            UnavailableError: a file is missing, is not what AMD signed, or has expired.
        """
        return collect_certificates(
            self._get, report, leaf=leaf, service=self._amd, freshness=self._freshness
        )

    def _get(self, inquiry: Inquiry) -> Proven:
        now = self._clock.now()
        hint = "fetch it anew: s3ml collateral fetch"
        try:
            data = self._files.get(inquiry.name)
            if data is None:
                raise CollateralUnavailableError(f"{inquiry.what}: {self._folder} has none; {hint}")
            proven = prove(inquiry, parse_item(data, name=inquiry.name), now)
        except (CollateralRejectedError, ConfigurationError) as error:
            raise CollateralUnavailableError(f"{inquiry.what}: {self._folder}: {error}; {hint}") from error
        if judge(proven, inquiry, now) is State.EXPIRED:
            told = explain_expired(proven, inquiry, now)
            raise CollateralUnavailableError(f"{inquiry.what}: {self._folder}: {told}; {hint}")
        return proven
