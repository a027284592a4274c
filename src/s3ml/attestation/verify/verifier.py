"""The one door from evidence to a verified enclave."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Protocol

from s3ml.attestation.errors import EvidenceRejectedError, Mismatch, Step
from s3ml.attestation.evidence import REPORT_DATA_BYTES, Evidence, Technology, Tee
from s3ml.attestation.policy import Alternative, AppraisalPolicy
from s3ml.attestation.verify.appraisal import closest, note_age
from s3ml.attestation.verify.cache import VerdictCache
from s3ml.attestation.verify.result import Examination, VerifiedEnclave
from s3ml.attestation.verify.steps import report_steps
from s3ml.primitives.errors import ConfigurationError


class Examine(Protocol):
    """Checks everything about evidence of one technology that no policy changes."""

    def __call__(
        self,
        evidence: Evidence,
        simulated: Sequence[bytes] | None,
        *,
        now: datetime,
        cache: VerdictCache | None,
    ) -> Examination:
        """Examine `evidence` under the vendor's root, or under one of the `simulated` roots.

        The outcome is the same with any `cache`, or none.
        """
        ...


def _load_sgx() -> Examine:
    from s3ml.attestation.verify.intel.sgx import examine_sgx  # noqa: PLC0415

    return examine_sgx


def _load_tdx() -> Examine:
    from s3ml.attestation.verify.intel.tdx import examine_tdx  # noqa: PLC0415

    return examine_tdx


def _load_snp() -> Examine:
    from s3ml.attestation.verify.amd.snp import examine_snp  # noqa: PLC0415

    return examine_snp


# Loaded when it is needed: a model server makes evidence and verifies none, and memory is scarce there.
EXAMINERS: Mapping[Technology, Callable[[], Examine]] = MappingProxyType(
    {Technology.SGX: _load_sgx, Technology.TDX: _load_tdx, Technology.SEV_SNP: _load_snp}
)


def verify_evidence(
    evidence: Evidence,
    policy: AppraisalPolicy,
    *,
    report_data: bytes,
    now: datetime,
    cache: VerdictCache | None = None,
) -> VerifiedEnclave:
    """Appraise `evidence` against `policy` and return what it proves.

    Pure: no network, clock or randomness. Collateral travels in `evidence`.

    The numbered steps are those of `steps.STEPS`. Steps 3 to 7 hold whatever the policy says: chains and
    roles up to the one root, validity, revocation, signatures, production mode.

    Args:
        evidence: From an untrusted peer, at most 128 KiB.
        policy: What this caller accepts. An empty policy accepts nothing.
        report_data: The 64 bytes that the quote must carry, from `Binding.report_data`.
        now: Aware time, for the expiry of collateral.
        cache: What earlier verifications proved; it saves time and changes no outcome.

    Returns:
        Only claims that were checked.

    Raises:
        EvidenceMalformedError: A part of `evidence` cannot be read.
        EvidenceRejectedError: A check failed; `.mismatches` lists all of them, `.steps` every step.
        ConfigurationError: `report_data` is not 64 bytes, or `now` has no time zone.

    Source: RFC 9334, section 10 (freshness); docs/spec/evidence.md, section "Verification".
    """
    if len(report_data) != REPORT_DATA_BYTES:
        raise ConfigurationError(f"report data: expected {REPORT_DATA_BYTES} bytes, got {len(report_data)}")
    if now.tzinfo is None:
        raise ConfigurationError("now: expected a time with its zone, got none")
    alternatives = _alternatives(evidence, policy)
    simulated = None
    if evidence.tee is Tee.SIMULATED:
        simulated = [alternative.root or b"" for alternative in alternatives]
    examination = EXAMINERS[evidence.technology]()(evidence, simulated, now=now, cache=cache)
    if simulated is not None:
        alternatives = [one for one in alternatives if one.root == examination.root_der]
    alternative, appraised = closest(examination, alternatives, now=now)
    mismatches = (*examination.mismatches, *_check_report_data(examination, report_data), *appraised)
    tell_steps = partial(
        _report, _kind(evidence.tee, evidence.technology), len(evidence.quote), examination, mismatches
    )
    if mismatches or examination.doubt is not None:
        raise EvidenceRejectedError(mismatches, tell_steps())
    return VerifiedEnclave(
        tee=evidence.tee,
        technology=evidence.technology,
        is_simulated=evidence.tee is Tee.SIMULATED,
        measurement=examination.claims.measurement,
        claims=examination.claims,
        platform=examination.platform,
        collateral_issued_at=examination.issued_at,
        signed_at=examination.signed_at,
        notes=note_age(examination, alternative, now),
        tell_steps=tell_steps,
    )


def _alternatives(evidence: Evidence, policy: AppraisalPolicy) -> list[Alternative]:
    """Return the policy's alternatives for this kind of evidence, at least one."""
    alternatives = [
        one for one in policy.accept if one.tee is evidence.tee and one.technology is evidence.technology
    ]
    if not alternatives:
        accepted = sorted({_kind(one.tee, one.technology) for one in policy.accept})
        expected = accepted[0] if len(accepted) == 1 else f"one of {', '.join(accepted)}"
        got = _kind(evidence.tee, evidence.technology)
        mismatch = Mismatch(claim="tee", expected=expected, got=got)
        raise EvidenceRejectedError([mismatch], report_steps([mismatch], {})[:1])
    return alternatives


def _kind(tee: Tee, technology: Technology) -> str:
    is_plain = tee is not Tee.SIMULATED or technology is Technology.SGX
    return str(tee) if is_plain else f"{tee} {technology}"


def _check_report_data(examination: Examination, report_data: bytes) -> list[Mismatch]:
    got = examination.report_data
    if got == report_data:
        return []
    return [Mismatch(claim="report_data", expected=report_data.hex(), got=got.hex())]


def _report(
    kind: str, quote_bytes: int, examination: Examination, mismatches: tuple[Mismatch, ...]
) -> tuple[Step, ...]:
    return report_steps(mismatches, _details(kind, quote_bytes, examination), doubt=examination.doubt)


def _details(kind: str, quote_bytes: int, examination: Examination) -> dict[int, str]:
    """Say what each step proved, by its number, for where it holds."""
    until = examination.valid_until.isoformat()
    issued_at = examination.issued_at.isoformat() if examination.issued_at else "not dated"
    return {
        1: f"{kind}: SIMULATED, it protects nothing" if kind.startswith(Tee.SIMULATED) else kind,
        2: f"{quote_bytes} bytes of quote, with what is needed to check it",
        3: f"root certificate {hashlib.sha256(examination.root_der).hexdigest()}",
        4: f"valid until {until}",
        5: "same processor, same kind of document, signed by the right role",
        6: "from the processor's key to the report",
        7: "no debugger, no forbidden attribute",
        8: f"report data {examination.report_data.hex()[:16]}…",
        9: f"measurement {examination.claims.measurement}",
        10: examination.platform,
        11: f"collateral of {issued_at}",
    }
