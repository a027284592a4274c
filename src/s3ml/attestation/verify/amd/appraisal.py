"""What a policy asks of SEV-SNP guests and the AMD processors under them."""

from s3ml.attestation.errors import Mismatch
from s3ml.attestation.policy import Alternative
from s3ml.attestation.verify.amd.product import describe_tcb, is_at_most
from s3ml.attestation.verify.amd.report import POLICY_MIGRATE_MA, POLICY_SMT
from s3ml.attestation.verify.claims import SnpClaims
from s3ml.attestation.verify.comparison import among, at_least, mismatch_unless


def appraise_snp(claims: SnpClaims, alternative: Alternative, *, doubt: str | None) -> list[Mismatch]:
    """Compare a guest and its processor with one alternative.

    1. The code is of the signer's image, where it names one, certified by its author.
    2. The host set at launch what it names.
    3. The guest allows nothing that it does not, and no less privileged level asked for the report.
    4. The processor is of a line that it names, and one of its chips.
    5. A kind of key that it tolerates signed, for a TCB that is new enough and was at launch.
    6. AMD's revocation list is there, unless it may be missing.
    """
    return [
        *_check_signer(claims, alternative, doubt),  # (1)
        *among("author", claims.author, alternative.author and (alternative.author,), doubt=doubt),
        *among("host_data", claims.host_data, alternative.host_data, doubt=doubt),  # (2)
        *_check_permissions(claims, alternative),  # (3)
        *among("products", claims.product, alternative.products, doubt=None),  # (4)
        *among("chip_ids", claims.chip_id, alternative.chip_ids, doubt=doubt),
        *among("endorsement_key", claims.endorsement_key, alternative.endorsement_keys, doubt=None),  # (5)
        *_check_min_tcb(claims, alternative),
        *mismatch_unless(  # (6)
            holds=claims.has_crl or not alternative.require_crl,
            claim="crl",
            expected="AMD's revocation list with the certificates",
            got="none",
        ),
    ]


def _check_signer(claims: SnpClaims, alternative: Alternative, doubt: str | None) -> list[Mismatch]:
    if alternative.signer is None:
        return []
    family, image = (alternative.family_id or "",), (alternative.image_id or "",)
    return [
        *among("signer", claims.signer, (alternative.signer,), doubt=doubt),
        *among("family_id", claims.family_id, family, doubt=doubt),
        *among("image_id", claims.image_id, image, doubt=doubt),
        *at_least("svn", claims.svn, alternative.min_svn or 0),
    ]


def _check_permissions(claims: SnpClaims, alternative: Alternative) -> list[Mismatch]:
    return [
        *mismatch_unless(
            holds=alternative.allow_smt or not claims.policy & POLICY_SMT,
            claim="guest_policy",
            expected="a guest that may not run with simultaneous multithreading",
            got="one that may",
        ),
        *mismatch_unless(
            holds=alternative.allow_migration_agent or not claims.policy & POLICY_MIGRATE_MA,
            claim="guest_policy",
            expected="a guest that may not be associated with a migration agent",
            got="one that may",
        ),
        *mismatch_unless(
            holds=claims.vmpl <= alternative.max_vmpl,
            claim="vmpl",
            expected=f"at most {alternative.max_vmpl}",
            got=str(claims.vmpl),
        ),
    ]


def _check_min_tcb(claims: SnpClaims, alternative: Alternative) -> list[Mismatch]:
    """Check the TCB as it is reported and, of a guest that no agent may have brought, as it was at launch."""
    least = alternative.min_tcb
    may_migrate = bool(alternative.allow_migration_agent and claims.policy & POLICY_MIGRATE_MA)
    return [
        *mismatch_unless(
            holds=is_at_most(least, claims.tcb),
            claim="min_tcb",
            expected=f"at least {describe_tcb(least)}",
            got=describe_tcb(claims.tcb),
        ),
        *mismatch_unless(
            holds=may_migrate or is_at_most(least, claims.launch_tcb),
            claim="min_tcb",
            expected=f"at least {describe_tcb(least)} at launch; launch the guest again",
            got=f"{describe_tcb(claims.launch_tcb)} at launch",
        ),
    ]
