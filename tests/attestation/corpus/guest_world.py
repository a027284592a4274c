"""The honest SEV-SNP guest that lies start from, with an ID block, an author and host data. SIMULATED."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any, Self

import msgspec

from s3ml.attestation import Alternative, AppraisalPolicy, Technology, Tee
from s3ml.attestation.simulated.snp import GuestReport, guest_report, render_report
from s3ml.attestation.simulated.snp_pki import (
    EndorsedPlatform,
    SimulatedSnpPKI,
    issue_authority,
    issue_endorsement,
)
from s3ml.attestation.verify.amd.product import MILAN
from s3ml.attestation.verify.amd.report import POLICY_RESERVED_ONE
from tests.attestation.attestation_world import CREATED, ISSUED, REPORT_DATA
from tests.attestation.fakes.snp_vendor import snp_keys
from tests.attestation.snp_world import MEASUREMENT, SnpWorld

SIGNER = hashlib.sha384(b"the ID key").digest()
AUTHOR = hashlib.sha384(b"the author key").digest()
FAMILY, IMAGE = b"the family".ljust(16), b"the image".ljust(16)
HOST_DATA = hashlib.sha256(b"what the host was told").digest()
GUEST_POLICY = POLICY_RESERVED_ONE | 1 << 8  # firmware interface 1.0


def platform_of_milan(**changes: Any) -> EndorsedPlatform:
    """Return the honest processor, which is always the same one."""
    platform = replace(EndorsedPlatform.of(MILAN), hardware_id=hashlib.sha512(b"the chip").digest())
    return replace(platform, **changes)


@dataclass(frozen=True, kw_only=True)
class GuestWorld(SnpWorld):
    """A world whose guest says everything that a policy can ask for."""

    @classmethod
    def honest_guest(cls) -> Self:
        platform = platform_of_milan()
        pki = SimulatedSnpPKI.create(CREATED, platform, keys=snp_keys())
        report = honest_guest(pki)
        alternative = Alternative(
            tee=Tee.SIMULATED,
            simulates=Technology.SEV_SNP,
            root=pki.root_der,
            measurements=(MEASUREMENT.hex(),),
        )
        return cls(
            pki=pki,
            platform=platform,
            report=report,
            quote=render_report(pki, report),
            certificates=pki.certificates(ISSUED),
            policy=AppraisalPolicy(accept=(alternative,)),
        )

    def with_quote(self, **changes: Any) -> Self:
        """Have the processor report something else: what Intel's worlds call it."""
        return self.with_report(**changes)

    def with_certificates(self, **changes: Any) -> Self:
        """Replace the chain or the revocation list as they are."""
        assert self.certificates is not None
        return replace(self, certificates=msgspec.structs.replace(self.certificates, **changes))

    def with_vendor(self, pki: SimulatedSnpPKI) -> Self:
        """Have another vendor make everything but what the report says."""
        changed = self.with_pki(ark=pki.ark, authority=pki.authority, endorsement=pki.endorsement)
        return replace(changed, certificates=pki.certificates(ISSUED))

    def with_platform(self, platform: EndorsedPlatform, **changes: Any) -> Self:
        """Run the guest on another processor of the same vendor, whose report says so."""
        authority = issue_authority(snp_keys().authority, CREATED, platform, issuer=self.pki.ark)
        leaf = issue_endorsement(snp_keys().endorsement, CREATED, platform, issuer=authority)
        moved = replace(self, platform=platform).with_pki(authority=authority, endorsement=leaf)
        return replace(moved, report=honest_guest(moved.pki)).with_report(**changes)


def honest_guest(pki: SimulatedSnpPKI) -> GuestReport:
    """Return what an honest processor says of the guest."""
    return replace(
        guest_report(pki, measurement=MEASUREMENT, report_data=REPORT_DATA),
        policy=GUEST_POLICY,
        signer=SIGNER,
        author=AUTHOR,
        family_id=FAMILY,
        image_id=IMAGE,
        svn=5,
        host_data=HOST_DATA,
    )
