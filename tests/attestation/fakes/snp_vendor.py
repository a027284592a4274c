"""The simulated counterpart of AMD for tests that make evidence. SIMULATED.

Its RSA keys take seconds, so that there is one pair for all tests of a process.
"""

from functools import cache

from s3ml.attestation.policy.alternative import EndorsementKey
from s3ml.attestation.simulated.snp_pki import EndorsedPlatform, SimulatedSnpPKI, SnpKeys
from s3ml.attestation.verify.amd.product import MILAN, Product
from tests.attestation.attestation_world import CREATED


@cache
def snp_keys() -> SnpKeys:
    return SnpKeys.create()


@cache
def snp_pki(kind: EndorsementKey = "VCEK", product: Product = MILAN) -> SimulatedSnpPKI:
    """Return the vendor with a platform of `product`; all have the same keys."""
    return SimulatedSnpPKI.create(CREATED, EndorsedPlatform.of(product, kind), keys=snp_keys())
