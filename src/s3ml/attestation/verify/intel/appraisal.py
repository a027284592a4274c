"""What a policy asks of SGX enclaves, TDX trust domains and the Intel platforms under them."""

from s3ml.attestation.errors import Mismatch
from s3ml.attestation.policy import Alternative
from s3ml.attestation.verify.claims import IntelTcb, SgxClaims, TdxClaims
from s3ml.attestation.verify.comparison import among, at_least, mismatch_unless


def appraise_sgx(claims: SgxClaims, alternative: Alternative, *, doubt: str | None) -> list[Mismatch]:
    """Compare an enclave's signer and its platform with one alternative."""
    return [*_check_signer(claims, alternative, doubt), *_check_platform(claims.tcb, alternative)]


def appraise_tdx(claims: TdxClaims, alternative: Alternative, *, doubt: str | None) -> list[Mismatch]:
    """Compare a trust domain's configuration and its platform with one alternative."""
    config_id = among("config_id", claims.config_id, alternative.config_ids, doubt=doubt)
    return [*config_id, *_check_platform(claims.tcb, alternative)]


def _check_signer(claims: SgxClaims, alternative: Alternative, doubt: str | None) -> list[Mismatch]:
    if alternative.signer is None:
        return []
    product = (str(alternative.product_id),)
    return [
        *among("signer", claims.signer, (alternative.signer,), doubt=doubt),
        *among("product_id", str(claims.product_id), product, doubt=doubt),
        *at_least("svn", claims.svn, alternative.min_svn or 0),
    ]


def _check_platform(tcb: IntelTcb, alternative: Alternative) -> list[Mismatch]:
    mismatches = [
        *at_least("qe_svn", tcb.qe_svn, alternative.min_qe_svn),
        *at_least("pce_svn", tcb.pce_svn, alternative.min_pce_svn),
        *at_least(
            "tcb_evaluation_data_number",
            tcb.evaluation_data_number,
            alternative.min_tcb_evaluation_data_number,
        ),
    ]
    if tcb.status is None:
        return mismatches
    unexpected = sorted(set(tcb.advisories) - set(alternative.advisories))
    return [
        *mismatch_unless(
            holds=tcb.status in alternative.tcb_statuses,
            claim="tcb_status",
            expected=" or ".join(alternative.tcb_statuses),
            got=tcb.status,
        ),
        *mismatch_unless(
            holds=not unexpected,
            claim="advisories",
            expected=f"none but {', '.join(alternative.advisories)}" if alternative.advisories else "none",
            got=", ".join(unexpected),
        ),
        *mismatches,
    ]
