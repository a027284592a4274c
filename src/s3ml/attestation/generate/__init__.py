"""Making evidence: the seam between what runs in a TEE and the kind of TEE it runs in."""

from s3ml.attestation.generate.attester import Attester

__all__ = ["Attester"]
