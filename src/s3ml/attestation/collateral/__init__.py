"""Collateral: a caching client of the vendors' services, and the same from files.

Source: docs/spec/collateral.md.
"""

from s3ml.attestation.collateral.amd import AmdService
from s3ml.attestation.collateral.client import CollateralClient
from s3ml.attestation.collateral.endpoints import AMD_KDS_URL, INTEL_PCS_URL, IntelEndpoint, pccs, pcs
from s3ml.attestation.collateral.freshness import Freshness
from s3ml.attestation.collateral.intel import IntelService
from s3ml.attestation.collateral.item import CollateralRejectedError, CollateralUnavailableError
from s3ml.attestation.collateral.offline import CollateralFiles
from s3ml.attestation.collateral.transport import Transport

__all__ = [
    "AMD_KDS_URL",
    "INTEL_PCS_URL",
    "AmdService",
    "CollateralClient",
    "CollateralFiles",
    "CollateralRejectedError",
    "CollateralUnavailableError",
    "Freshness",
    "IntelEndpoint",
    "IntelService",
    "Transport",
    "pccs",
    "pcs",
]
