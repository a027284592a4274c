"""What a simulated platform says of an image, as a SEV-SNP report. SIMULATED: it proves nothing."""

from datetime import datetime, timedelta

from s3ml.attestation.evidence import Evidence, SnpCertificates, Technology, Tee
from s3ml.attestation.simulated.launch import Role
from s3ml.attestation.simulated.quoter import COLLATERAL_AGE, COLLATERAL_LEAD, measurement_of_image
from s3ml.attestation.simulated.snp import guest_report, render_report
from s3ml.attestation.simulated.snp_pki import SimulatedSnpPKI


class SnpQuoter:
    """A `Quoter` of SEV-SNP guests.

    Args:
        pki: The simulated vendor and platform.
    """

    __slots__ = ("_certificates", "_pki")

    def __init__(self, pki: SimulatedSnpPKI) -> None:
        self._pki = pki
        self._certificates: tuple[datetime, SnpCertificates] | None = None

    def evidence(self, image: str, role: Role, report_data: bytes, *, now: datetime) -> Evidence:
        """Return evidence of a process of `image` that carries `report_data`.

        Args:
            image: The image's digest, 64 hexadecimal digits.
            role: What the image is for; a report has no place for it.
            report_data: 64 bytes.
            now: Dates the revocation list, aware UTC.
        """
        _ = role
        measurement = bytes.fromhex(measurement_of_image(image, Technology.SEV_SNP))
        report = guest_report(self._pki, measurement=measurement, report_data=report_data)
        return Evidence(
            tee=Tee.SIMULATED,
            simulates=Technology.SEV_SNP,
            quote=render_report(self._pki, report),
            certificates=self._fresh_certificates(now),
        )

    def _fresh_certificates(self, now: datetime) -> SnpCertificates:
        """Return a revocation list that is at most 15 minutes old, and not of the future."""
        kept = self._certificates
        if kept is None or not timedelta(0) <= now - kept[0] < COLLATERAL_AGE:
            kept = (now, self._pki.certificates(now - COLLATERAL_LEAD))
            self._certificates = kept
        return kept[1]
