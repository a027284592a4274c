"""What a change of a policy widens and what it narrows, as a whole and for each alternative.

The verdict is computed by the order of policies, never from the text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from s3ml.attestation.policy.alternative import Alternative, AppraisalPolicy
from s3ml.attestation.policy.order import alternative_widenings, widenings
from s3ml.attestation.policy.parts import ANYTHING, IDENTITY, choices_of

_NO_LONGER = "no longer "


class Verdict(StrEnum):
    """How the new policy compares with the old one."""

    IDENTICAL = "identical"
    """Both accept the same."""
    NARROWER = "narrower"
    """The new one accepts less, and nothing that the old one does not."""
    WIDER = "wider"
    """The new one accepts more, and everything that the old one does."""
    BOTH = "both"
    """The new one accepts some that the old one does not, the other way round too, and some is common."""
    INCOMPARABLE = "incomparable"
    """Nothing that one accepts is accepted by the other."""

    @property
    def is_wider(self) -> bool:
        """Whether the new policy accepts anything that the old one does not."""
        return self not in (Verdict.IDENTICAL, Verdict.NARROWER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What became of one alternative.

    Args:
        old: Its place in the old policy, from 1; None where it was added.
        new: Its place in the new policy, from 1; None where it was removed.
        widens: What it accepts now and did not before; of an added one, what no old alternative accepts.
        narrows: What it no longer accepts; of a removed one, what no new alternative accepts.
        note: What else changed, which changes nothing that is accepted.
    """

    old: int | None
    new: int | None
    widens: tuple[str, ...]
    narrows: tuple[str, ...]
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyDiff:
    """What a change of a policy means.

    Args:
        verdict: Of the whole.
        widens: What the new policy accepts and the old one does not.
        narrows: What the new policy no longer accepts.
        changes: One for each alternative, those that widen first; each is matched with the one closest to it.
    """

    verdict: Verdict
    widens: tuple[str, ...]
    narrows: tuple[str, ...]
    changes: tuple[Change, ...]


def diff_policies(old: AppraisalPolicy, new: AppraisalPolicy) -> PolicyDiff:
    """Return what replacing `old` by `new` widens and narrows."""
    widens, narrows = widenings(new, old), _no_longer(widenings(old, new))
    changes = _changes(old.accept, new.accept)
    return PolicyDiff(
        verdict=_verdict(old.accept, new.accept, is_wider=bool(widens), is_narrower=bool(narrows)),
        widens=widens,
        narrows=narrows,
        changes=tuple(sorted(changes, key=lambda change: not change.widens)),
    )


def _verdict(
    old: Sequence[Alternative], new: Sequence[Alternative], *, is_wider: bool, is_narrower: bool
) -> Verdict:
    if not is_wider:
        return Verdict.NARROWER if is_narrower else Verdict.IDENTICAL
    if not is_narrower:
        return Verdict.WIDER
    is_common = any(_overlap(one, other) for one in old for other in new)
    return Verdict.BOTH if is_common else Verdict.INCOMPARABLE


def _overlap(one: Alternative, other: Alternative) -> bool:
    """Tell whether anything is accepted by both."""
    if (one.tee, one.technology, one.root) != (other.tee, other.technology, other.root):
        return False
    ours, theirs = choices_of(one), choices_of(other)
    if (one.measurements is None) != (other.measurements is None):
        del ours[IDENTITY]  # code of that measurement may be signed by that signer
    return all(
        values
        and theirs[name]
        and (ANYTHING in (*values, *theirs[name]) or not set(values).isdisjoint(theirs[name]))
        for name, values in ours.items()
    )


def _changes(old: Sequence[Alternative], new: Sequence[Alternative]) -> list[Change]:
    matched = _match(old, new)
    changes = []
    for place, one in enumerate(new):
        before = matched.get(place)
        if before is None:
            widens = alternative_widenings(one, old)
            changes.append(Change(old=None, new=place + 1, widens=widens, narrows=()))
        else:
            changes.append(_change(before, old[before], place, one))
    removed = [place for place in range(len(old)) if place not in matched.values()]
    for place in removed:
        narrows = _no_longer(alternative_widenings(old[place], new))
        changes.append(Change(old=place + 1, new=None, widens=(), narrows=narrows))
    return changes


def _change(before: int, old: Alternative, place: int, new: Alternative) -> Change:
    note = None
    if old.warn_collateral_age_s != new.warn_collateral_age_s:
        note = f"warn_collateral_age_s is {new.warn_collateral_age_s}, was {old.warn_collateral_age_s}"
    return Change(
        old=before + 1,
        new=place + 1,
        widens=alternative_widenings(new, (old,)),
        narrows=_no_longer(alternative_widenings(old, (new,))),
        note=note,
    )


def _match(old: Sequence[Alternative], new: Sequence[Alternative]) -> dict[int, int]:
    """Return for alternatives of `new` the closest one of `old`, each at most once, the closest pairs first.

    Only alternatives of the same kind of TEE and the same root are ever matched.
    """
    pairs = sorted(
        (_distance(ours, theirs), place, before)
        for place, ours in enumerate(new)
        for before, theirs in enumerate(old)
        if (ours.tee, ours.technology, ours.root) == (theirs.tee, theirs.technology, theirs.root)
    )
    matched: dict[int, int] = {}
    for _, place, before in pairs:
        if place not in matched and before not in matched.values():
            matched[place] = before
    return matched


def _distance(one: Alternative, other: Alternative) -> int:
    return len(alternative_widenings(one, (other,))) + len(alternative_widenings(other, (one,)))


def _no_longer(reasons: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_NO_LONGER + reason.replace(", where ", ": now ") for reason in reasons)
