"""SEV-SNP guests: what their reports say, who vouches for them, and the state that production has.

A masked chip id rejects with a VCEK, which is the processor's own, and counts for nothing with a VLEK, which
is the same on many. TCBs are compared component by component, which is stricter than AMD's own firmware.

Source: AMD 56860, SEV Secure Nested Paging Firmware ABI Specification 1.58; AMD 57230; AMD's published
firmware, AMD-ASPFW (snp_mcmd_config: reported ≤ committed; get_running_tcb).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from s3ml.attestation.errors import Mismatch
from s3ml.attestation.evidence import Evidence, SnpCertificates
from s3ml.attestation.policy import SnpTcb
from s3ml.attestation.verify.amd.certificate import AmdCertificate
from s3ml.attestation.verify.amd.certificates import (
    CHAIN_CERTIFICATES,
    check_chain,
    check_product,
    read_chain,
)
from s3ml.attestation.verify.amd.endorsement import Endorsement, read_endorsement
from s3ml.attestation.verify.amd.guest import check_guest
from s3ml.attestation.verify.amd.product import (
    Product,
    describe_tcb,
    is_at_most,
    product_of_cpuid,
)
from s3ml.attestation.verify.amd.report import SnpReport, parse_report
from s3ml.attestation.verify.amd.revocation import (
    RevocationList,
    check_revocation,
    parse_revocation_list,
)
from s3ml.attestation.verify.amd.roots import SnpRoot, choose_root
from s3ml.attestation.verify.amd.signature import is_signed_by_processor
from s3ml.attestation.verify.claims import SnpClaims
from s3ml.attestation.verify.comparison import mismatch_unless
from s3ml.attestation.verify.result import Examination

UNKNOWN_PRODUCT = "unknown"

# What breaks the way from the root to the report's signature, so that nothing is proven of what it says.
_BROKEN_SIGNATURE = frozenset({"root", "certificate_chain", "certificate_role", "quote_signature"})
_UNVERIFIED = frozenset({"root_validity", "certificate_validity", "revocation"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Vouching:
    """Who vouches for a report."""

    certificates: tuple[AmdCertificate, ...]
    endorsement: Endorsement
    root: SnpRoot
    revocations: RevocationList | None


def examine_snp(evidence: Evidence, simulated: Sequence[bytes] | None, *, now: datetime) -> Examination:
    """Check everything about a guest's evidence that no policy changes, and collect what is broken.

    1. The certificates are there, and nothing of another vendor's.
    2. The chain leads from an endorsement key to the root, and all of it is valid.
    3. The revocation list, where it is given, is the root's, valid, and has none of the chain in it.
    4. The certificates are for the report's processor: line, chip, kind of key, TCB.
    5. The report's TCBs are in order: reported ≤ committed ≤ current.
    6. The endorsement key signed the report.
    7. The guest is in production.

    Args:
        evidence: From an untrusted peer.
        simulated: The simulation roots that the caller's policy names, DER; None for AMD's roots.
        now: Aware.

    Raises:
        EvidenceMalformedError: a part cannot be read.
    """
    report = parse_report(evidence.quote)
    mismatches = _check_completeness(evidence)  # (1)
    vouching = _read_vouching(evidence.certificates, simulated) if evidence.certificates else None
    if vouching is None:
        mismatches += [*_missing_chain(evidence.certificates), *check_guest(report)]
        return _unproven(report, mismatches, simulated, now)
    mismatches += check_chain(vouching.certificates, vouching.endorsement, vouching.root, now=now)  # (2)
    if vouching.revocations:
        mismatches += check_revocation(vouching.revocations, vouching.certificates, now=now)  # (3)
    tcb, found = _check_processor(report, vouching)  # (4), (5)
    mismatches += found
    mismatches += _check_signature(report, vouching.endorsement)  # (6)
    mismatches += check_guest(report)  # (7)
    return _examination(report, tcb, vouching, mismatches)


def _read_vouching(certificates: SnpCertificates, simulated: Sequence[bytes] | None) -> _Vouching | None:
    """Return who vouches for the report; None where the chain has another length."""
    chain = read_chain(certificates.chain)
    if len(chain) != CHAIN_CERTIFICATES:
        return None
    endorsement = read_endorsement(chain[0].der)
    return _Vouching(
        certificates=chain,
        endorsement=endorsement,
        root=choose_root(chain[-1].der, endorsement.product, simulated),
        revocations=None if certificates.crl is None else parse_revocation_list(certificates.crl),
    )


def _check_completeness(evidence: Evidence) -> list[Mismatch]:
    unused = (("collateral", evidence.collateral), ("event_log", evidence.event_log))
    return [
        Mismatch(claim=claim, expected="none with sev-snp", got="some")
        for claim, part in unused
        if part is not None
    ]


def _missing_chain(certificates: SnpCertificates | None) -> list[Mismatch]:
    if certificates is None:
        return [Mismatch(claim="certificates", expected="AMD's certificates with the report", got="none")]
    expected = f"{CHAIN_CERTIFICATES} certificates: endorsement key, its authority, the root"
    return [Mismatch(claim="certificate_chain", expected=expected, got="fewer")]


def _check_processor(report: SnpReport, vouching: _Vouching) -> tuple[SnpTcb, list[Mismatch]]:
    """Check that the certificates are for the report's processor in its state; return its reported TCB."""
    endorsement = vouching.endorsement
    certificates, root = vouching.certificates, vouching.root
    product = endorsement.product
    mismatches = check_product(certificates, root, product, "endorsement key's certificate")
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
    tcb, found = _check_tcb(report, endorsement, product)
    return tcb, mismatches + found


def _check_tcb(
    report: SnpReport, endorsement: Endorsement, product: Product
) -> tuple[SnpTcb, list[Mismatch]]:
    reported = product.read_tcb(report.reported_tcb, "reported TCB")
    committed = product.read_tcb(report.committed_tcb, "committed TCB")
    current = product.read_tcb(report.current_tcb, "current TCB")
    product.read_tcb(report.launch_tcb, "launch TCB")
    is_ordered = is_at_most(reported, committed) and is_at_most(committed, current)
    return reported, [
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


def _examination(
    report: SnpReport, tcb: SnpTcb, vouching: _Vouching, mismatches: list[Mismatch]
) -> Examination:
    certificates, revocations = vouching.certificates, vouching.revocations
    begins = [certificate.not_before for certificate in certificates]
    ends = [certificate.not_after for certificate in certificates]
    if revocations:
        begins.append(revocations.issued)
        ends.append(revocations.expires)
    product = vouching.endorsement.product.name
    return Examination(
        claims=_claims(report, tcb, product, has_crl=revocations is not None),
        report_data=report.report_data,
        mismatches=tuple(dict.fromkeys(mismatches)),
        doubt=_doubt(mismatches),
        root_der=vouching.root.der,
        platform=f"{product}, {report.signing_key}, {describe_tcb(tcb)}",
        issued_at=revocations.issued if revocations else None,
        signed_at=max(begins),
        valid_from=max(begins),
        valid_until=min(ends),
    )


def _unproven(
    report: SnpReport, mismatches: list[Mismatch], simulated: Sequence[bytes] | None, now: datetime
) -> Examination:
    """Say what a report claims for which nobody vouches."""
    line = product_of_cpuid(report.cpuid.family, report.cpuid.model) if report.cpuid else None
    tcb = line.read_tcb(report.reported_tcb, "reported TCB") if line else SnpTcb()
    return Examination(
        claims=_claims(report, tcb, line.name if line else UNKNOWN_PRODUCT, has_crl=False),
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


def _claims(report: SnpReport, tcb: SnpTcb, product: str, *, has_crl: bool) -> SnpClaims:
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
        product=product,
        endorsement_key=report.signing_key,
        chip_id=report.chip_id.hex(),
        tcb=tcb,
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
