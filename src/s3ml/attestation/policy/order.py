"""The order of policies: A ⊆ B holds when B accepts everything that A accepts.

Computed, never guessed: A is split into its smallest parts, and each part must lie within one alternative of
B. A policy is never called narrower when it is wider. Clients rely on it: a service's policy must be at most
as wide as the client's own.

Source: docs/spec/policy.md, section "Order".
"""

import itertools
from collections.abc import Sequence

from s3ml.attestation.policy.alternative import Alternative, AppraisalPolicy
from s3ml.attestation.policy.excess import edge_excess, kind_excess, value_excess
from s3ml.attestation.policy.parts import ValueClass, classify, is_covered

PARTS_LIMIT = 1024  # looked at, for each alternative, to explain what is wider
EXPLAINED_LIMIT = 64
ENTANGLED = "accepts combinations that cannot be told to lie within the other's many alternatives"


def is_narrower_or_equal(narrower: AppraisalPolicy, wider: AppraisalPolicy) -> bool:
    """Tell whether `wider` accepts everything that `narrower` accepts."""
    return all(not alternative_widenings(one, wider.accept) for one in narrower.accept)


def widenings(candidate: AppraisalPolicy, bound: AppraisalPolicy) -> tuple[str, ...]:
    """Explain in plain words what `candidate` accepts and `bound` does not.

    Returns:
        One line for each reason, without repeats; empty when `candidate` is narrower or equal.
    """
    reasons: dict[str, None] = {}
    for alternative in candidate.accept:
        reasons.update(dict.fromkeys(alternative_widenings(alternative, bound.accept)))
    return tuple(reasons)


def alternative_widenings(candidate: Alternative, bounds: Sequence[Alternative]) -> tuple[str, ...]:
    """Explain what one alternative accepts and `bounds` together do not; empty when they accept all of it.

    The reasons are those of the parts that lie within no bound, each by the bound that comes closest to it.
    """
    if candidate in bounds:
        return ()
    peers = [one for one in bounds if (one.tee, one.technology) == (candidate.tee, candidate.technology)]
    excesses = [edge_excess(candidate, peer) for peer in peers]
    within = sum(1 << number for number, excess in enumerate(excesses) if not excess)
    classes = classify(candidate, peers)
    if is_covered(([one.peers for one in choice] for choice in classes.values()), within):
        return ()
    if not peers:
        return (kind_excess(candidate, bounds),)
    reasons: dict[str, None] = {}
    explained = 0
    for part in itertools.islice(itertools.product(*classes.values()), PARTS_LIMIT):
        if not _is_outside(part, within):
            continue
        reasons.update(
            dict.fromkeys(_reasons(candidate, dict(zip(classes, part, strict=True)), peers, excesses))
        )
        explained += 1
        if explained == EXPLAINED_LIMIT:
            break
    return tuple(reasons) or (ENTANGLED,)


def _is_outside(part: Sequence[ValueClass], within: int) -> bool:
    for choice in part:
        within &= choice.peers
    return not within


def _reasons(
    candidate: Alternative,
    part: dict[str, ValueClass],
    peers: Sequence[Alternative],
    excesses: Sequence[Sequence[str]],
) -> list[str]:
    """Say why `part` does not lie within the peer that comes closest to it."""

    def distance(number: int) -> int:
        return len(excesses[number]) + sum(not one.peers >> number & 1 for one in part.values())

    closest = min(range(len(peers)), key=distance)
    outside = {name: one.values for name, one in part.items() if not one.peers >> closest & 1}
    reasons = [
        reason
        for name, values in outside.items()
        for value in values
        for reason in value_excess(name, value, candidate, peers[closest])
    ]
    return [*reasons, *excesses[closest]]
