"""Comparisons that end in mismatches: the words in which every appraisal says what it expected and got."""

from collections.abc import Collection

from s3ml.attestation.errors import Mismatch


def mismatch_unless(*, holds: bool, claim: str, expected: str, got: str) -> list[Mismatch]:
    """Return one mismatch, or none where the rule holds."""
    return [] if holds else [Mismatch(claim=claim, expected=expected, got=got)]


def at_least(claim: str, got: int, least: int) -> list[Mismatch]:
    """Check a floor."""
    return mismatch_unless(holds=got >= least, claim=claim, expected=f"at least {least}", got=str(got))


def among(claim: str, got: str, accepted: Collection[str] | None, *, doubt: str | None) -> list[Mismatch]:
    """Check that `got` is proven and one of `accepted`; None accepts anything, proven or not."""
    if accepted is None:
        return []
    holds = got in accepted and not doubt
    return mismatch_unless(holds=holds, claim=claim, expected=one_of(accepted), got=claimed(got, doubt))


def one_of(accepted: Collection[str]) -> str:
    """Return what was expected, in words."""
    return next(iter(accepted)) if len(accepted) == 1 else f"one of {', '.join(sorted(accepted))}"


def claimed(value: str, doubt: str | None) -> str:
    """Return what was got, and that it is unproven where it is."""
    return f"{value} {doubt}" if doubt else value
