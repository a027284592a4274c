"""What a rule about policies looks like, and what it finds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from s3ml.attestation.policy.alternative import Alternative


class Severity(StrEnum):
    """How much a finding matters."""

    ERROR = "error"
    """The policy fails at its purpose: it accepts code or platforms that nobody vouches for, or nothing."""
    WARNING = "warning"
    """A known risk is accepted; somebody should have decided so."""
    NOTE = "note"
    """Worth knowing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A rule that a policy breaks.

    Args:
        rule: Its number, as ``P01``.
        severity: How much it matters.
        alternative: The alternative's place in the policy, from 1.
        field: The field that it is about.
        message: What the policy does.
        remedy: What to do about it.
    """

    rule: str
    severity: Severity
    alternative: int
    field: str
    message: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule that each alternative keeps by itself.

    Args:
        number: As ``P01``; a number is never used again for another rule.
        severity: Of what it finds.
        remedy: What to do about what it finds.
        check: Yields fields and what is wrong there, a line each; nothing where the rule is kept.
    """

    number: str
    severity: Severity
    remedy: str
    check: Callable[[Alternative], Iterator[tuple[str, str]]]

    def apply(self, alternative: Alternative, *, place: int) -> Iterator[Finding]:
        """Yield what is wrong with the alternative at that place of its policy."""
        for field, message in self.check(alternative):
            yield finding_of(self, message, place=place, field=field)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRule:
    """A rule about the alternatives of a policy together; see `Rule`.

    Args:
        number: See `Rule`.
        severity: See `Rule`.
        field: The field that it is about.
        remedy: See `Rule`.
        check: Yields places, from 1, and what is wrong there.
    """

    number: str
    severity: Severity
    field: str
    remedy: str
    check: Callable[[tuple[Alternative, ...]], Iterator[tuple[int, str]]]


def finding_of(rule: Rule | PolicyRule, message: str, *, place: int, field: str) -> Finding:
    """Return what `rule` found."""
    return Finding(
        rule=rule.number,
        severity=rule.severity,
        alternative=place,
        field=field,
        message=message,
        remedy=rule.remedy,
    )
