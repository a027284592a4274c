"""Verifying evidence: a file per TEE, one door."""

from s3ml.attestation.verify.result import Step, VerifiedEnclave
from s3ml.attestation.verify.verifier import verify_evidence

__all__ = ["Step", "VerifiedEnclave", "verify_evidence"]
