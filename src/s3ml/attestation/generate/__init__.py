"""Making evidence: the seam between what runs in a TEE and the kind of TEE it runs in."""

from s3ml.attestation.generate.attester import Attester, SealingAbsentError
from s3ml.attestation.generate.collateral import CollateralSource
from s3ml.attestation.generate.directory import Directory
from s3ml.attestation.generate.gramine import GramineAttester
from s3ml.attestation.generate.snp import SnpAttester
from s3ml.attestation.generate.tdx import TdxAttester

__all__ = [
    "Attester",
    "CollateralSource",
    "Directory",
    "GramineAttester",
    "SealingAbsentError",
    "SnpAttester",
    "TdxAttester",
]
