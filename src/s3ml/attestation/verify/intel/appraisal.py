"""What a policy asks of SGX enclaves, TDX trust domains and the Intel platforms under them."""

from s3ml.attestation.errors import Mismatch
from s3ml.attestation.policy import Alternative, RuntimeEvent
from s3ml.attestation.verify.claims import IntelTcb, SgxClaims, TdxClaims
from s3ml.attestation.verify.comparison import among, at_least, claimed, mismatch_unless


def appraise_sgx(claims: SgxClaims, alternative: Alternative, *, doubt: str | None) -> list[Mismatch]:
    """Compare an enclave's signer and its platform with one alternative."""
    return [*_check_signer(claims, alternative, doubt), *_check_platform(claims.tcb, alternative)]


def appraise_tdx(claims: TdxClaims, alternative: Alternative, *, doubt: str | None) -> list[Mismatch]:
    """Compare a trust domain's registers, events and configuration, and its platform, with one alternative.

    1. Where the alternative names registers or events, the event log replays to all of the quote's registers.
    2. Each register has a value that is named for it.
    3. Each event that is named extended its register.
    4. The configuration is one that is named.
    5. The platform is in a tolerated state.
    """
    return [
        *_check_event_log(claims, alternative),  # (1)
        *_check_registers(claims, alternative, doubt),  # (2)
        *_check_events(claims, alternative, doubt),  # (3)
        *among("config_id", claims.config_id, alternative.config_ids, doubt=doubt),  # (4)
        *_check_platform(claims.tcb, alternative),  # (5)
    ]


def _named_registers(alternative: Alternative) -> tuple[tuple[str, ...] | None, ...]:
    return alternative.rtmr0, alternative.rtmr1, alternative.rtmr2, alternative.rtmr3


def _check_event_log(claims: TdxClaims, alternative: Alternative) -> list[Mismatch]:
    if not alternative.events and not any(_named_registers(alternative)):
        return []
    if claims.replayed is None:
        expected = "an event log with a policy that names registers or events"
        return [Mismatch(claim="event_log", expected=expected, got="none")]
    return [
        Mismatch(claim="event_log", expected=f"a log that replays to RTMR{number} {register}", got=replayed)
        for number, (register, replayed) in enumerate(zip(claims.registers, claims.replayed, strict=True))
        if register != replayed
    ]


def _check_registers(claims: TdxClaims, alternative: Alternative, doubt: str | None) -> list[Mismatch]:
    named = zip(claims.registers, _named_registers(alternative), strict=True)
    return [
        mismatch
        for number, (register, accepted) in enumerate(named)
        for mismatch in among(f"rtmr{number}", register, accepted, doubt=doubt)
    ]


def _check_events(claims: TdxClaims, alternative: Alternative, doubt: str | None) -> list[Mismatch]:
    if claims.events is None:
        return []  # the missing log has its own mismatch
    return [
        Mismatch(
            claim="events", expected=_describe(event), got=claimed("an event", doubt) if found else "none"
        )
        for event in alternative.events
        if not (found := event in claims.events) or doubt
    ]


def _describe(event: RuntimeEvent) -> str:
    return f"event {event.digest} in RTMR{event.register}"


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
