"""What a simulated platform says of an image, as an SGX or TDX quote. SIMULATED: it proves nothing.

An image has one digest, whatever is simulated; a quote carries a measurement that follows from it, of the
length that the technology has. Collateral is dated a few minutes back, as a vendor's is, so that a verifier
whose clock is a little behind accepts it.
"""

import hashlib
from datetime import datetime, timedelta
from typing import Final, Protocol

from s3ml.attestation.evidence import Collateral, Evidence, Technology, Tee
from s3ml.attestation.simulated.collateral import UP_TO_DATE, TcbState
from s3ml.attestation.simulated.launch import Role
from s3ml.attestation.simulated.pki import SimulatedPKI
from s3ml.attestation.simulated.quote import EnclaveReport, render_quote
from s3ml.attestation.simulated.tdx_event_log import encode_event_log, measured_event
from s3ml.attestation.simulated.tdx_quote import TrustDomainReport, render_tdx_quote
from s3ml.attestation.verify.intel.event_log import replay
from s3ml.primitives.encoding import tagged, tagged_sha256

SIGNER_TAG: Final = "S3ML simulated signer v1"
MRTD_TAG: Final = "S3ML simulated MRTD v1"
LAUNCH_TAG: Final = "S3ML simulated launch measurement v1"
PRODUCT_IDS: Final[dict[Role, int]] = {"key-service": 1, "model-server": 2}
SVN: Final = 1
DEFAULT_TCB_STATE: Final = "up-to-date"
IMAGE_REGISTER: Final = 1
ROLE_REGISTER: Final = 2

COLLATERAL_LEAD = timedelta(minutes=5)
COLLATERAL_AGE = timedelta(minutes=15)


class Quoter(Protocol):
    """Makes evidence of one technology for the processes of one platform."""

    def evidence(self, image: str, role: Role, report_data: bytes, *, now: datetime) -> Evidence:
        """Return evidence of a process of `image` (64 hexadecimal digits) that carries `report_data`."""
        ...


def measurement_of_image(image: str, technology: Technology) -> str:
    """Return what a quote of `technology` gives as the measurement of an image.

    Args:
        image: The image's digest, 64 hexadecimal digits.
        technology: Whose format.

    Returns:
        64 hexadecimal digits for SGX, 96 for TDX and SEV-SNP.
    """
    digest = bytes.fromhex(image)
    match technology:
        case Technology.SGX:
            return image
        case Technology.TDX:
            return hashlib.sha384(tagged(MRTD_TAG, digest)).hexdigest()
        case Technology.SEV_SNP:
            return hashlib.sha384(tagged(LAUNCH_TAG, digest)).hexdigest()


def signer_of(image: str) -> bytes:
    """Return MRSIGNER (32 bytes): each image signs itself, so no signer vouches for a changed one."""
    return tagged_sha256(SIGNER_TAG, bytes.fromhex(image))


class IntelQuoter:
    """A `Quoter` of SGX enclaves or TDX trust domains.

    Args:
        pki: The simulated vendor and platform.
        technology: SGX or TDX.
        tcb: What the vendor says of the platform.
    """

    __slots__ = ("_collateral", "_pki", "_tcb", "_technology")

    def __init__(
        self, pki: SimulatedPKI, technology: Technology = Technology.SGX, tcb: TcbState = UP_TO_DATE
    ) -> None:
        self._pki = pki
        self._technology = technology
        self._tcb = tcb
        self._collateral: tuple[datetime, Collateral] | None = None

    def evidence(self, image: str, role: Role, report_data: bytes, *, now: datetime) -> Evidence:
        """Return evidence of a process of `image` that carries `report_data`.

        Args:
            image: The image's digest, 64 hexadecimal digits.
            role: What the image is for.
            report_data: 64 bytes.
            now: Dates the collateral, aware UTC.
        """
        collateral = self._fresh_collateral(now)
        if self._technology is Technology.SGX:
            report = EnclaveReport(
                measurement=bytes.fromhex(image),
                signer=signer_of(image),
                product_id=PRODUCT_IDS[role],
                svn=SVN,
                report_data=report_data,
            )
            return Evidence(tee=Tee.SIMULATED, quote=render_quote(self._pki, report), collateral=collateral)
        events = (
            measured_event(IMAGE_REGISTER, b"S3ML image " + image.encode("ascii")),
            measured_event(ROLE_REGISTER, b"S3ML role " + role.encode("ascii")),
        )
        domain = TrustDomainReport(
            measurement=bytes.fromhex(measurement_of_image(image, Technology.TDX)),
            registers=replay(events),
            report_data=report_data,
        )
        return Evidence(
            tee=Tee.SIMULATED,
            simulates=Technology.TDX,
            quote=render_tdx_quote(self._pki, domain),
            collateral=collateral,
            event_log=encode_event_log(events),
        )

    def _fresh_collateral(self, now: datetime) -> Collateral:
        """Return collateral that is at most 15 minutes old, and not of the future."""
        if self._collateral is None or not timedelta(0) <= now - self._collateral[0] < COLLATERAL_AGE:
            issued_at = now - COLLATERAL_LEAD
            collateral = self._pki.collateral(issued_at, self._tcb, technology=self._technology)
            self._collateral = (now, collateral)
        return self._collateral[1]
