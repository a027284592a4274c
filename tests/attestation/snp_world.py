"""A simulated vendor, processor and guest, honest until a test replaces one piece. SIMULATED."""

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self

import msgspec

from s3ml.attestation import (
    Alternative,
    AppraisalPolicy,
    Evidence,
    EvidenceRejectedError,
    SnpCertificates,
    Technology,
    Tee,
    VerifiedEnclave,
    verify_evidence,
)
from s3ml.attestation.errors import Mismatch
from s3ml.attestation.policy.alternative import EndorsementKey
from s3ml.attestation.simulated.snp import GuestReport, guest_report, render_report, sign_report
from s3ml.attestation.simulated.snp_certificate import RevocationFields, sign_document
from s3ml.attestation.simulated.snp_pki import (
    CRL_LIFETIME,
    EndorsedPlatform,
    SimulatedSnpPKI,
    issue_ark,
    issue_authority,
    issue_endorsement,
)
from s3ml.attestation.verify.amd.product import MILAN, Product
from s3ml.attestation.verify.cache import VerdictCache
from tests.attestation.attestation_world import CREATED, ISSUED, NOW, REPORT_DATA
from tests.attestation.fakes.snp_vendor import snp_pki

MEASUREMENT = hashlib.sha384(b"the guest").digest()


@dataclass(frozen=True, kw_only=True)
class SnpWorld:
    """Everything that evidence, its verifier and the time consist of; `with_` replaces some of it."""

    pki: SimulatedSnpPKI
    platform: EndorsedPlatform
    report: GuestReport
    quote: bytes
    certificates: SnpCertificates | None
    tee: Tee = Tee.SIMULATED
    policy: AppraisalPolicy
    report_data: bytes = REPORT_DATA
    now: datetime = NOW

    @classmethod
    def honest(cls, product: Product = MILAN, kind: EndorsementKey = "VCEK", *, version: int = 5) -> Self:
        pki = snp_pki(kind, product)
        report = guest_report(pki, measurement=MEASUREMENT, report_data=REPORT_DATA, version=version)
        alternative = Alternative(
            tee=Tee.SIMULATED,
            simulates=Technology.SEV_SNP,
            root=pki.root_der,
            measurements=(MEASUREMENT.hex(),),
            endorsement_keys=(kind,),
        )
        return cls(
            pki=pki,
            platform=platform_of(pki),
            report=report,
            quote=render_report(pki, report),
            certificates=pki.certificates(ISSUED),
            policy=AppraisalPolicy(accept=(alternative,)),
        )

    @property
    def evidence(self) -> Evidence:
        simulates = Technology.SEV_SNP if self.tee is Tee.SIMULATED else None
        return Evidence(tee=self.tee, simulates=simulates, quote=self.quote, certificates=self.certificates)

    def with_(self, **changes: Any) -> Self:
        return replace(self, **changes)

    def with_policy(self, **changes: Any) -> Self:
        """Change the policy's only alternative."""
        alternative = msgspec.structs.replace(self.policy.accept[0], **changes)
        return self.with_(policy=AppraisalPolicy(accept=(alternative,)))

    def with_report(self, **changes: Any) -> Self:
        """Have the processor sign another report."""
        report = replace(self.report, **changes)
        return self.with_(report=report, quote=render_report(self.pki, report))

    def with_body(self, at: int, content: bytes) -> Self:
        """Have the processor sign its report with some bytes replaced."""
        body = bytearray(self.report.encode())
        body[at : at + len(content)] = content
        return self.with_(quote=sign_report(self.pki.endorsement.key, bytes(body)))

    def with_pki(self, **changes: Any) -> Self:
        """Replace authorities as they are: nothing is issued afresh but the report and its chain."""
        pki = replace(self.pki, **changes)
        crl = self.certificates.crl if self.certificates else None
        certificates = SnpCertificates(chain=pki.chain, crl=crl)
        return self.with_(pki=pki, certificates=certificates, quote=render_report(pki, self.report))

    def with_ark(self, **changes: Any) -> Self:
        """Have the ARK sign another certificate for itself; the policy trusts it, and its list is its own."""
        ark = issue_ark(self.pki.ark.key, CREATED, self.platform.product, **changes)
        changed = self.with_pki(ark=ark).with_policy(root=ark.certificate)
        return changed.with_(certificates=changed.pki.certificates(ISSUED))

    def with_authority(self, **changes: Any) -> Self:
        """Have the ARK issue another certificate to the ASK or ASVK."""
        pki = self.pki
        return self.with_pki(
            authority=issue_authority(pki.authority.key, CREATED, self.platform, issuer=pki.ark, **changes)
        )

    def with_endorsement(self, platform: EndorsedPlatform | None = None, **changes: Any) -> Self:
        """Have the ASK or ASVK issue another certificate to the processor, for `platform`."""
        pki = self.pki
        return self.with_pki(
            endorsement=issue_endorsement(
                pki.endorsement.key, CREATED, platform or self.platform, issuer=pki.authority, **changes
            )
        )

    def with_crl(self, *, signer: SimulatedSnpPKI | None = None, **changes: Any) -> Self:
        """Have the ARK (or that of `signer`) issue another revocation list."""
        fields = RevocationFields(
            issuer=self.pki.ark.read.subject, issued=ISSUED, expires=ISSUED + CRL_LIFETIME
        )
        crl = sign_document(replace(fields, **changes), (signer or self.pki).ark.key)
        return self.with_(certificates=SnpCertificates(chain=self.pki.chain, crl=crl))

    def without_crl(self) -> Self:
        return self.with_(certificates=SnpCertificates(chain=self.pki.chain))

    def verify(self, cache: VerdictCache | None = None) -> VerifiedEnclave:
        return verify_evidence(
            self.evidence, self.policy, report_data=self.report_data, now=self.now, cache=cache
        )

    def rejected_claims(self, cache: VerdictCache | None = None) -> list[str]:
        """Return the claims of all mismatches; [] when the evidence is accepted."""
        return [mismatch.claim for mismatch in self.mismatches(cache)]

    def mismatches(self, cache: VerdictCache | None = None) -> tuple[Mismatch, ...]:
        """Return all mismatches; none when the evidence is accepted."""
        try:
            self.verify(cache)
        except EvidenceRejectedError as rejected:
            return tuple(rejected.mismatches)
        return ()


def platform_of(pki: SimulatedSnpPKI) -> EndorsedPlatform:
    """Return the platform that `pki`'s endorsement key was issued for."""
    read = pki.platform
    chip_id = (read.chip_id or bytes(64))[: read.product.hardware_id_bytes]
    return replace(EndorsedPlatform.of(read.product, read.kind), tcb=read.tcb, hardware_id=chip_id)
