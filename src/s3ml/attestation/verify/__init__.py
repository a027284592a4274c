"""Verifying evidence: a package per vendor, one door."""

from s3ml.attestation.errors import Step
from s3ml.attestation.verify.cache import VerdictCache
from s3ml.attestation.verify.claims import IntelTcb, SgxClaims, SnpClaims, TdxClaims
from s3ml.attestation.verify.result import VerifiedEnclave
from s3ml.attestation.verify.session import Verifier
from s3ml.attestation.verify.verifier import verify_evidence

__all__ = [
    "IntelTcb",
    "SgxClaims",
    "SnpClaims",
    "Step",
    "TdxClaims",
    "VerdictCache",
    "VerifiedEnclave",
    "Verifier",
    "verify_evidence",
]
