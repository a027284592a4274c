"""Verifying evidence: a package per vendor, one door."""

from s3ml.attestation.errors import Step
from s3ml.attestation.verify.claims import IntelTcb, SgxClaims, SnpClaims, TdxClaims
from s3ml.attestation.verify.result import VerifiedEnclave
from s3ml.attestation.verify.verifier import verify_evidence

__all__ = ["IntelTcb", "SgxClaims", "SnpClaims", "Step", "TdxClaims", "VerifiedEnclave", "verify_evidence"]
