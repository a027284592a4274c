"""The one door from evidence to a verified enclave.

A kind of TEE without a verifier is rejected by name, and policies cannot name it.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType

from s3ml.attestation.errors import EvidenceRejectedError, Mismatch
from s3ml.attestation.evidence import REPORT_DATA_BYTES, Evidence, Tee
from s3ml.attestation.policy import AppraisalPolicy
from s3ml.attestation.verify.result import VerifiedEnclave
from s3ml.primitives.errors import ConfigurationError


def _load_sgx() -> Callable[..., VerifiedEnclave]:
    from s3ml.attestation.verify.sgx import verify_sgx  # noqa: PLC0415

    return verify_sgx


def _load_simulated() -> Callable[..., VerifiedEnclave]:
    from s3ml.attestation.verify.simulated import verify_simulated  # noqa: PLC0415

    return verify_simulated


# Loaded when it is needed: a model server makes evidence and verifies none, and memory is scarce there.
VERIFIERS: Mapping[Tee, Callable[[], Callable[..., VerifiedEnclave]]] = MappingProxyType(
    {Tee.SGX: _load_sgx, Tee.SIMULATED: _load_simulated}
)


def verify_evidence(
    evidence: Evidence, policy: AppraisalPolicy, *, report_data: bytes, now: datetime
) -> VerifiedEnclave:
    """Appraise `evidence` against `policy` and return what it proves.

    Pure: no network, clock or randomness. Collateral travels in `evidence`.

    1. The policy accepts this kind of TEE.
    2. The evidence is complete: a quote of the exact layout, collateral, nothing that the TEE has no use for.
    3. Everything holds that no policy changes: chains and roles up to the one root, validity, signatures,
       revocation, the quoting enclave's identity, production attributes.
    4. The quote carries `report_data`.
    5. One alternative of the policy holds: code, state of the platform, age of the collateral.

    Args:
        evidence: From an untrusted peer, at most 64 KiB.
        policy: What this caller accepts. An empty policy accepts nothing.
        report_data: The 64 bytes that the quote must carry, from `Binding.report_data`.
        now: Aware time, for the expiry of collateral.

    Returns:
        Only claims that were checked.

    Raises:
        EvidenceMalformedError: A part of `evidence` cannot be read.
        EvidenceRejectedError: A check failed; `.mismatches` lists all of them.
        ConfigurationError: `report_data` is not 64 bytes, or `now` has no time zone.

    Source: RFC 9334, section 10 (freshness); docs/spec/evidence.md, section "Verification".
    """
    if len(report_data) != REPORT_DATA_BYTES:
        raise ConfigurationError(f"report data: expected {REPORT_DATA_BYTES} bytes, got {len(report_data)}")
    if now.tzinfo is None:
        raise ConfigurationError("now: expected a time with its zone, got none")
    accepted = sorted({alternative.tee for alternative in policy.accept})
    if evidence.tee not in accepted:  # (1)
        expected = f"one of {', '.join(accepted)}"
        raise EvidenceRejectedError([Mismatch(claim="tee", expected=expected, got=evidence.tee)])
    alternatives = [alternative for alternative in policy.accept if alternative.tee is evidence.tee]
    verify = VERIFIERS[evidence.tee]()
    return verify(evidence, alternatives, report_data=report_data, now=now)  # (2) to (5)
