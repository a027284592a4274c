"""What a policy asks of SEV-SNP guests and the AMD processors under them."""

from s3ml.attestation.errors import Mismatch
from s3ml.attestation.policy import Alternative
from s3ml.attestation.verify.claims import SnpClaims
from s3ml.attestation.verify.comparison import among


def appraise_snp(claims: SnpClaims, alternative: Alternative, *, doubt: str | None) -> list[Mismatch]:
    """Compare a guest and its processor with one alternative."""
    return [
        *among("author", claims.author, alternative.author and (alternative.author,), doubt=doubt),
    ]
