"""SEV-SNP guests: what their reports say, who vouches for them, and the state that production has.

A masked chip id rejects with a VCEK, which is the processor's own, and counts for nothing with a VLEK, which
is the same on many. TCBs are compared component by component, which is stricter than AMD's own firmware.

Source: AMD 56860, SEV Secure Nested Paging Firmware ABI Specification 1.58; AMD 57230; AMD's published
firmware, AMD-ASPFW (snp_mcmd_config: reported ≤ committed; get_running_tcb).
"""

from collections.abc import Sequence
from datetime import datetime

from s3ml.attestation.errors import Mismatch
from s3ml.attestation.evidence import Evidence
from s3ml.attestation.policy import SnpTcb
from s3ml.attestation.verify.amd.certificates import check_product
from s3ml.attestation.verify.amd.endorsement import Endorsement
from s3ml.attestation.verify.amd.guest import check_guest
from s3ml.attestation.verify.amd.product import (
    Product,
    describe_tcb,
    is_at_most,
    product_of_cpuid,
)
from s3ml.attestation.verify.amd.report import SnpReport, parse_report
from s3ml.attestation.verify.amd.signature import is_signed_by_processor
from s3ml.attestation.verify.amd.vouching import Proof, Vouching, prove, read_vouching
from s3ml.attestation.verify.cache import VerdictCache
from s3ml.attestation.verify.claims import SnpClaims
from s3ml.attestation.verify.comparison import mismatch_unless
from s3ml.attestation.verify.result import Examination
from s3ml.primitives.encoding import tagged_sha256

WHOLE_TAG = "S3ML verified SEV-SNP report v1"
UNKNOWN_PRODUCT = "unknown"

# What breaks the way from the root to the report's signature, so that nothing is proven of what it says.
_BROKEN_SIGNATURE = frozenset({"root", "certificate_chain", "certificate_role", "quote_signature"})
_UNVERIFIED = frozenset({"root_validity", "certificate_validity", "revocation"})


def examine_snp(
    evidence: Evidence,
    simulated: Sequence[bytes] | None,
    *,
    now: datetime,
    cache: VerdictCache | None = None,
) -> Examination:
    """Check everything about a guest's evidence that no policy changes, and collect what is broken.

    A report that is remembered is not checked again; of one whose platform is remembered, everything but the
    certificates is. What was broken is never remembered.

    1. The certificates are there, and nothing of another vendor's.
    2. The chain leads to the root, and neither it nor the revocation list speaks against it.
    3. The certificates are for the report's processor: line, chip, kind of key, TCB.
    4. The report's TCBs are in order: reported ≤ committed ≤ current.
    5. The endorsement key signed the report.
    6. The guest is in production.

    Args:
        evidence: From an untrusted peer.
        simulated: The simulation roots that the caller's policy names, DER; None for AMD's roots.
        now: Aware.
        cache: What was proved before.

    Raises:
        EvidenceMalformedError: a part cannot be read.
    """
    report = parse_report(evidence.quote)
    mismatches = _check_completeness(evidence)  # (1)
    vouching = read_vouching(evidence.certificates, simulated)
    if isinstance(vouching, Mismatch):
        mismatches += [vouching, *check_guest(report)]
        has_crl = evidence.certificates is not None and evidence.certificates.crl is not None
        return _unproven(report, mismatches, simulated, now, has_crl=has_crl)
    if cache is None or mismatches:
        return _examine(report, vouching, prove(vouching, now=now), mismatches)  # (2)
    key = tagged_sha256(WHOLE_TAG, vouching.key, report.signed, report.canonical_signature)
    if whole := cache.wholes.recall(key, Examination, now=now):
        return whole
    proof = cache.platforms.recall(vouching.key, Proof, now=now) or prove(vouching, now=now)
    examination = _examine(report, vouching, proof, mismatches)
    if examination.is_accepted:
        cache.platforms.keep(vouching.key, proof)
        cache.wholes.keep(key, examination)
    return examination


def _examine(report: SnpReport, vouching: Vouching, proof: Proof, mismatches: list[Mismatch]) -> Examination:
    product, found = _check_processor(report, vouching)  # (3), (4)
    claims = _claims(
        report, vouching.endorsement.product.name, product, has_crl=vouching.revocations is not None
    )
    found = [
        *mismatches,
        *proof.mismatches,
        *found,
        *_check_signature(report, vouching.endorsement),  # (5)
        *check_guest(report),  # (6)
    ]
    revocations = vouching.revocations
    return Examination(
        claims=claims,
        report_data=report.report_data,
        mismatches=tuple(found),
        doubt=_doubt(found),
        root_der=vouching.root.der,
        platform=f"{claims.product}, {report.signing_key}, {describe_tcb(claims.tcb)}",
        issued_at=revocations.issued if revocations else None,
        signed_at=max(vouching.begins),
        valid_from=proof.valid_from,
        valid_until=proof.valid_until,
    )


def _check_completeness(evidence: Evidence) -> list[Mismatch]:
    unused = (("collateral", evidence.collateral), ("event_log", evidence.event_log))
    return [
        Mismatch(claim=claim, expected="none with sev-snp", got="some")
        for claim, part in unused
        if part is not None
    ]


def _check_processor(report: SnpReport, vouching: Vouching) -> tuple[Product, list[Mismatch]]:
    """Check that the certificates are for the report's processor in its state; return its line."""
    endorsement = vouching.endorsement
    certificates, root = vouching.certificates, vouching.root
    product, mismatches = endorsement.product, []
    if report.cpuid is not None:
        line = product_of_cpuid(report.cpuid.family, report.cpuid.model)
        mismatches += check_product(certificates, root, line, "report's CPUID")
        product = line or product
    mismatches += mismatch_unless(
        holds=endorsement.kind == report.signing_key,
        claim="certificate_role",
        expected=f"the certificate of a {report.signing_key}, with which the report says it is signed",
        got=f"that of a {endorsement.kind}",
    )
    if endorsement.chip_id is not None:
        mismatches += mismatch_unless(
            holds=endorsement.chip_id == report.chip_id,
            claim="chip_id",
            expected=f"{endorsement.chip_id.hex()}, which the certificate is for",
            got="zeros, which mask it" if report.is_chip_masked else report.chip_id.hex(),
        )
    return product, mismatches + _check_tcb(report, endorsement, product)


def _check_tcb(report: SnpReport, endorsement: Endorsement, product: Product) -> list[Mismatch]:
    reported = product.read_tcb(report.reported_tcb, "reported TCB")
    committed = product.read_tcb(report.committed_tcb, "committed TCB")
    current = product.read_tcb(report.current_tcb, "current TCB")
    is_ordered = is_at_most(reported, committed) and is_at_most(committed, current)
    return [
        *mismatch_unless(
            holds=reported == endorsement.tcb,
            claim="tcb_version",
            expected=f"the certificate's TCB: {describe_tcb(endorsement.tcb)}",
            got=describe_tcb(reported),
        ),
        *mismatch_unless(
            holds=is_ordered,
            claim="tcb_version",
            expected="reported TCB ≤ committed ≤ current",
            got=f"{describe_tcb(reported)}; {describe_tcb(committed)}; {describe_tcb(current)}",
        ),
        *mismatch_unless(
            holds=report.committed_firmware <= report.current_firmware,
            claim="tcb_version",
            expected="committed firmware ≤ current",
            got=f"{_dotted(report.committed_firmware)}; {_dotted(report.current_firmware)}",
        ),
    ]


def _check_signature(report: SnpReport, endorsement: Endorsement) -> list[Mismatch]:
    return mismatch_unless(
        holds=is_signed_by_processor(endorsement.key, report.signature, report.signed),
        claim="quote_signature",
        expected=f"the report signed by the {endorsement.kind}",
        got="another signature",
    )


def _unproven(
    report: SnpReport,
    mismatches: list[Mismatch],
    simulated: Sequence[bytes] | None,
    now: datetime,
    *,
    has_crl: bool,
) -> Examination:
    """Say what a report claims for which nobody vouches."""
    line = product_of_cpuid(report.cpuid.family, report.cpuid.model) if report.cpuid else None
    return Examination(
        claims=_claims(report, line.name if line else UNKNOWN_PRODUCT, line, has_crl=has_crl),
        report_data=report.report_data,
        mismatches=tuple(mismatches),
        doubt="claimed by a quote that cannot be verified",
        root_der=simulated[0] if simulated else b"",
        platform="nobody vouches for it",
        issued_at=None,
        signed_at=now,
        valid_from=now,
        valid_until=now,
    )


def _claims(report: SnpReport, name: str, product: Product | None, *, has_crl: bool) -> SnpClaims:
    """Return what the report claims; `product` lays out its TCBs, which say nothing without one."""
    return SnpClaims(
        measurement=report.measurement.hex(),
        signer=report.signer.hex(),
        author=report.author.hex(),
        family_id=report.family_id.hex(),
        image_id=report.image_id.hex(),
        svn=report.svn,
        host_data=report.host_data.hex(),
        policy=report.policy,
        vmpl=report.vmpl,
        product=name,
        endorsement_key=report.signing_key,
        chip_id=report.chip_id.hex(),
        tcb=product.read_tcb(report.reported_tcb, "reported TCB") if product else SnpTcb(),
        launch_tcb=product.read_tcb(report.launch_tcb, "launch TCB") if product else SnpTcb(),
        has_crl=has_crl,
    )


def _doubt(mismatches: list[Mismatch]) -> str | None:
    """Say why the report's claims are unproven; None where its signature leads to the root."""
    claims = {mismatch.claim for mismatch in mismatches}
    if claims & _BROKEN_SIGNATURE:
        return "claimed by a quote whose signature does not hold"
    return "claimed by a quote that does not verify" if claims & _UNVERIFIED else None


def _dotted(version: tuple[int, int, int]) -> str:
    return ".".join(str(part) for part in version)
