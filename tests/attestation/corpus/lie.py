"""What a lie is: evidence in which one rule is broken, and its honest twin, in which nothing is.

Policy, time and request are the same for both; the evidence alone differs. What a lie needs of them is
`given` to both. A lie goes the whole way: from the bytes that travel to the verdict.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from s3ml.attestation import (
    AppraisalPolicy,
    Evidence,
    EvidenceMalformedError,
    EvidenceRejectedError,
    Mismatch,
    Step,
    Technology,
    encode_evidence,
    parse_evidence,
    verify_evidence,
)
from s3ml.attestation.verify.steps import STEPS

MALFORMED = "malformed"
REJECTED = "rejected"
ACCEPTED = "accepted"


class Told(Protocol):
    """Everything that evidence, its verifier and the time consist of."""

    @property
    def evidence(self) -> Evidence: ...
    @property
    def policy(self) -> AppraisalPolicy: ...
    @property
    def report_data(self) -> bytes: ...
    @property
    def now(self) -> datetime: ...


# Of any technology's world: the tables say of which.
Tell = Callable[[Any], Told]
Rewrite = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What a verifier is given."""

    evidence: bytes
    policy: AppraisalPolicy
    report_data: bytes
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a verifier makes of a case."""

    result: str
    mismatches: tuple[Mismatch, ...] = ()
    steps: tuple[Step, ...] = ()
    reason: str = ""

    @property
    def claims(self) -> tuple[str, ...]:
        """What is wrong, each once, in the order in which it is said."""
        return tuple(dict.fromkeys(mismatch.claim for mismatch in self.mismatches))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lie:
    """Evidence in which one rule is broken.

    Args:
        name: Stable, in words joined by hyphens.
        claims: Of all mismatches, each once, the rule that is broken first; none where the lie is malformed.
            What follows from the first is that claims of an unproven quote are named as such.
        tell: Makes the lie of the honest twin.
        given: Makes the honest twin of the honest world.
        rewrite: Changes the text of the evidence instead.
    """

    name: str
    claims: tuple[str, ...]
    tell: Tell
    given: Tell
    rewrite: Rewrite

    @property
    def result(self) -> str:
        """What becomes of it."""
        return REJECTED if self.claims else MALFORMED

    @property
    def step(self) -> int:
        """The step of verification that it breaks: 2 where it is malformed."""
        return step_of(self.claims[0]) if self.claims else 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A lie, told of one technology."""

    technology: Technology
    lie: Lie

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.technology}/{self.lie.name}"

    def honest(self, world: Told) -> Case:
        """Return the honest twin, given the honest world."""
        return case_of(self.lie.given(world))

    def told(self, world: Told) -> Case:
        """Return the lie, given the honest world."""
        return case_of(self.lie.tell(self.lie.given(world)), self.lie.rewrite)


def unchanged(world: Told) -> Told:
    """Change nothing."""
    return world


def same_text(text: bytes) -> bytes:
    """Change nothing."""
    return text


def rejected(name: str, tell: Tell, *claims: str, given: Tell = unchanged) -> Lie:
    """Return a lie that is rejected with exactly `claims`, about the first."""
    return Lie(name=name, claims=claims, tell=tell, given=given, rewrite=same_text)


def unproven(name: str, tell: Tell, *claims: str, given: Tell = unchanged) -> Lie:
    """Return a lie after which the quote proves nothing: the measurement is then a mere claim."""
    return rejected(name, tell, *claims, "measurement", given=given)


def malformed(name: str, tell: Tell, *, given: Tell = unchanged) -> Lie:
    """Return a lie that cannot be read."""
    return Lie(name=name, claims=(), tell=tell, given=given, rewrite=same_text)


def rewritten(name: str, rewrite: Rewrite, *claims: str) -> Lie:
    """Return a lie in the text of the evidence: malformed, unless it is rejected with `claims`."""
    return Lie(name=name, claims=claims, tell=unchanged, given=unchanged, rewrite=rewrite)


def fields(edit: Callable[[dict[str, Any]], object]) -> Rewrite:
    """Edit the fields of the evidence."""

    def rewrite(text: bytes) -> bytes:
        document = json.loads(text)
        edit(document)
        return json.dumps(document, separators=(",", ":")).encode()

    return rewrite


def case_of(world: Told, rewrite: Rewrite = same_text) -> Case:
    """Return what travels."""
    return Case(
        evidence=rewrite(encode_evidence(world.evidence)),
        policy=world.policy,
        report_data=world.report_data,
        now=world.now,
    )


def judge(case: Case) -> Outcome:
    """Have the verifier judge a case."""
    try:
        evidence = parse_evidence(case.evidence)
        enclave = verify_evidence(evidence, case.policy, report_data=case.report_data, now=case.now)
    except EvidenceMalformedError as error:
        return Outcome(result=MALFORMED, reason=str(error))
    except EvidenceRejectedError as error:
        return Outcome(result=REJECTED, mismatches=error.mismatches, steps=error.steps)
    return Outcome(result=ACCEPTED, steps=enclave.steps)


def step_of(claim: str) -> int:
    """Return the number of the step that `claim` belongs to."""
    (number,) = (number for number, (_, claims) in enumerate(STEPS, start=1) if claim in claims)
    return number
