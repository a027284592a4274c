"""The order of policies: A ⊆ B holds when B accepts everything that A accepts.

Computed, and exact up to what policies can say: A is split into its smallest parts (one code identity, one
TCB status), and each part must lie within one alternative of B. Clients rely on it: a service's policy must
be at most as wide as the client's own.

Source: docs/spec/policy.md, section "Order".
"""

from s3ml.attestation.policy.alternative import Alternative, AppraisalPolicy


def is_narrower_or_equal(narrower: AppraisalPolicy, wider: AppraisalPolicy) -> bool:
    """Tell whether `wider` accepts everything that `narrower` accepts."""
    return not widenings(narrower, wider)


def widenings(candidate: AppraisalPolicy, bound: AppraisalPolicy) -> tuple[str, ...]:
    """Explain in plain words what `candidate` accepts and `bound` does not.

    Returns:
        One line for each reason, without repeats; empty when `candidate` is narrower or equal.
    """
    reasons: dict[str, None] = {}
    for alternative in candidate.accept:
        peers = [other for other in bound.accept if other.tee is alternative.tee]
        if not peers:
            reasons[f"accepts tee {alternative.tee}, which is not accepted"] = None
            continue
        measurements: tuple[str | None, ...] = alternative.measurements or (None,)
        for measurement in measurements:
            for status in alternative.tcb_statuses:
                closest = min((_excess(alternative, measurement, status, peer) for peer in peers), key=len)
                reasons.update(dict.fromkeys(closest))
    return tuple(reasons)


def _excess(part: Alternative, measurement: str | None, status: str, bound: Alternative) -> list[str]:
    """Say why `part`, with one measurement and one status, does not lie within `bound` (of the same TEE)."""
    reasons = []
    if part.root != bound.root:
        reasons.append("trusts another simulation root")
    reasons += _excess_identity(part, measurement, bound)
    if status not in bound.tcb_statuses:
        reasons.append(f"tolerates TCB status {status}")
    reasons += [f"tolerates advisory {name}" for name in part.advisories if name not in bound.advisories]
    floors = (
        (
            "tcbEvaluationDataNumber",
            part.min_tcb_evaluation_data_number,
            bound.min_tcb_evaluation_data_number,
        ),
        ("a quoting enclave of SVN", part.min_qe_svn, bound.min_qe_svn),
        ("a certification enclave of SVN", part.min_pce_svn, bound.min_pce_svn),
    )
    reasons += [
        f"accepts {what} {least}, where at least {asked} is asked"
        for what, least, asked in floors
        if least < asked
    ]
    if part.max_collateral_age_s > bound.max_collateral_age_s:
        reasons.append(
            f"accepts collateral {part.max_collateral_age_s} s old, "
            f"where at most {bound.max_collateral_age_s} s is allowed"
        )
    return reasons


def _excess_identity(part: Alternative, measurement: str | None, bound: Alternative) -> list[str]:
    """Say why the code that `part` names is not the code that `bound` names.

    A measurement fixes no signer, because anybody may sign any code, and a signer fixes no measurement: one
    form never lies within the other.
    """
    if measurement is not None:
        if bound.measurements is None:
            return [f"accepts measurement {measurement}, where signer {bound.signer} is asked"]
        return [] if measurement in bound.measurements else [f"accepts measurement {measurement}"]
    if bound.measurements is not None or (part.signer, part.product_id) != (bound.signer, bound.product_id):
        return [f"accepts product {part.product_id} of signer {part.signer}"]
    if (part.min_svn or 0) < (bound.min_svn or 0):
        return [
            f"accepts SVN {part.min_svn} of the signer's product, where at least {bound.min_svn} is asked"
        ]
    return []
