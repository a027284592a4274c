"""What an auditor would say of a policy: numbered rules, each with its severity and a remedy.

A policy without findings is not thereby a good one: no rule knows whose code a digest is.

Source: docs/spec/policy.md, section "Lint".
"""

from collections.abc import Iterator
from typing import Final

from s3ml.attestation.policy.alternative import Alternative, AppraisalPolicy
from s3ml.attestation.policy.code_rules import CODE_RULES
from s3ml.attestation.policy.findings import Finding, PolicyRule, Rule, Severity, finding_of
from s3ml.attestation.policy.order import alternative_widenings
from s3ml.attestation.policy.platform_rules import PLATFORM_RULES

__all__ = ["RULES", "Finding", "Severity", "lint_policy"]


def _mixed(alternatives: tuple[Alternative, ...]) -> Iterator[tuple[int, str]]:
    if all(one.is_simulated for one in alternatives):
        return
    for place, one in enumerate(alternatives, start=1):
        if one.is_simulated:
            yield place, "accepts a SIMULATED platform beside real ones: whoever holds its root's key gets in"


def _simulated(alternatives: tuple[Alternative, ...]) -> Iterator[tuple[int, str]]:
    if all(one.is_simulated for one in alternatives):
        for place, _ in enumerate(alternatives, start=1):
            yield place, "accepts a SIMULATED platform, which protects nothing"


def _contained(alternatives: tuple[Alternative, ...]) -> Iterator[tuple[int, str]]:
    """Yield what could be removed without any effect, the later one of two that say the same."""
    kept = dict(enumerate(alternatives, start=1))
    idle = []
    for place, one in reversed(list(kept.items())):
        others = [other for number, other in kept.items() if number != place]
        if alternative_widenings(one, ()) and not alternative_widenings(one, others):
            idle.append(place)
            del kept[place]
    for place in reversed(idle):
        yield place, "changes nothing: the other alternatives accept all that it accepts"


_POLICY_RULES: Final[tuple[PolicyRule, ...]] = (
    PolicyRule(
        number="P23",
        severity=Severity.ERROR,
        field="tee",
        remedy="remove it, or use a policy of its own for trials",
        check=_mixed,
    ),
    PolicyRule(
        number="P24",
        severity=Severity.NOTE,
        field="tee",
        remedy="use it for trials alone",
        check=_simulated,
    ),
    PolicyRule(
        number="P25",
        severity=Severity.WARNING,
        field="accept",
        remedy="remove it, or narrow the others where it was meant to be a limit",
        check=_contained,
    ),
)

RULES: Final[tuple[Rule | PolicyRule, ...]] = (*CODE_RULES, *PLATFORM_RULES, *_POLICY_RULES)


def lint_policy(policy: AppraisalPolicy) -> tuple[Finding, ...]:
    """Return every rule that `policy` breaks: errors first, then by alternative and by rule."""
    found = [
        finding
        for place, alternative in enumerate(policy.accept, start=1)
        for rule in (*CODE_RULES, *PLATFORM_RULES)
        for finding in rule.apply(alternative, place=place)
    ]
    found += [
        finding_of(rule, message, place=place, field=rule.field)
        for rule in _POLICY_RULES
        for place, message in rule.check(policy.accept)
    ]
    order = list(Severity)
    return tuple(sorted(found, key=lambda one: (order.index(one.severity), one.alternative, one.rule)))
