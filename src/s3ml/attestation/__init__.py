"""Attestation: what an enclave sends to show what it is, and how others decide whether to believe it."""

from s3ml.attestation.binding import Binding
from s3ml.attestation.errors import EvidenceMalformedError, EvidenceRejectedError, Mismatch
from s3ml.attestation.evidence import (
    MEDIA_TYPE,
    Collateral,
    Evidence,
    SnpCertificates,
    Technology,
    Tee,
    encode_evidence,
    parse_evidence,
)
from s3ml.attestation.generate import Attester
from s3ml.attestation.policy import (
    Alternative,
    AppraisalPolicy,
    RuntimeEvent,
    SnpTcb,
    encode_policy,
    is_narrower_or_equal,
    parse_policy,
    policy_from_table,
    policy_to_table,
    widenings,
)
from s3ml.attestation.verify import Step, VerdictCache, VerifiedEnclave, Verifier, verify_evidence

__all__ = [
    "MEDIA_TYPE",
    "Alternative",
    "AppraisalPolicy",
    "Attester",
    "Binding",
    "Collateral",
    "Evidence",
    "EvidenceMalformedError",
    "EvidenceRejectedError",
    "Mismatch",
    "RuntimeEvent",
    "SnpCertificates",
    "SnpTcb",
    "Step",
    "Technology",
    "Tee",
    "VerdictCache",
    "VerifiedEnclave",
    "Verifier",
    "encode_evidence",
    "encode_policy",
    "is_narrower_or_equal",
    "parse_evidence",
    "parse_policy",
    "policy_from_table",
    "policy_to_table",
    "verify_evidence",
    "widenings",
]
