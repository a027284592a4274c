"""How findings, explanations and differences of policies look in a terminal."""

from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape

from s3ml.apps.cli.console import stdout
from s3ml.attestation.policy.diff import Change, PolicyDiff, Verdict
from s3ml.attestation.policy.explain import Explanation
from s3ml.attestation.policy.lint import RULES, Finding, Severity

_STYLES = {
    Severity.ERROR: "bold white on red",
    Severity.WARNING: "bold black on yellow",
    Severity.NOTE: "bold white on blue",
}
_VERDICTS = {
    Verdict.IDENTICAL: ("green", "both accept the same"),
    Verdict.NARROWER: ("green", "the new policy accepts less, and nothing more"),
    Verdict.WIDER: ("red", "the new policy accepts more, and everything that the old one does"),
    Verdict.BOTH: ("red", "the new policy accepts some more, and some no longer"),
    Verdict.INCOMPARABLE: ("red", "the two policies have nothing in common"),
}


def print_findings(findings: Sequence[Finding], *, file: Path) -> None:
    """Print each finding with its remedy, and how many there are."""
    for one in findings:
        head = f"[{_STYLES[one.severity]}] {one.severity.upper()} [/] [bold]{one.rule}[/]"
        stdout.print(f"{head} alternative {one.alternative}, {one.field}: {escape(one.message)}")
        stdout.print(f"      {escape(one.remedy)}", style="dim")
    if not findings:
        stdout.print(f"{escape(str(file))}: keeps all {len(RULES)} rules")
        return
    counts = [(severity, sum(one.severity is severity for one in findings)) for severity in Severity]
    told = ", ".join(f"{count} {severity}{'s' if count > 1 else ''}" for severity, count in counts if count)
    stdout.print(f"{escape(str(file))}: {told}")


def print_explanation(explained: Sequence[Explanation]) -> None:
    """Print what each alternative accepts."""
    if len(explained) > 1:
        stdout.print(f"Accepts any one of {len(explained)}:")
    for one in explained:
        stdout.print(f"[bold]{one.place}. {escape(one.title)}[/]")
        for line in one.lines:
            stdout.print(f"   {escape(line)}")


def print_diff(diff: PolicyDiff) -> None:
    """Print the verdict, and for each alternative what became of it; what widens comes first."""
    style, words = _VERDICTS[diff.verdict]
    stdout.print(f"[bold {style}]{diff.verdict.upper()}[/] {words}")
    for change in diff.changes:
        stdout.print(f"[bold]{_title(change)}[/]")
        for line in change.widens:
            stdout.print(f"  [red]+ {escape(line)}[/]")
        for line in change.narrows:
            stdout.print(f"  [green]- {escape(line)}[/]")
        if change.note is not None:
            stdout.print(f"    {escape(change.note)}", style="dim")
    for lines, mark in ((diff.widens, "wider"), (diff.narrows, "narrower")):
        if lines and len(diff.changes) > 1:
            stdout.print(f"[bold]as a whole {mark}[/]: {len(lines)} in all")
            for line in lines:
                stdout.print(f"  {escape(line)}")


def _title(change: Change) -> str:
    if change.old is None:
        within = "" if change.widens else ": within what was accepted"
        return f"alternative {change.new}, added{within}"
    if change.new is None:
        within = "" if change.narrows else ": still accepted by others"
        return f"old alternative {change.old}, removed{within}"
    moved = "" if change.old == change.new else f" (was {change.old})"
    unchanged = "" if change.widens or change.narrows else ": accepts the same"
    return f"alternative {change.new}{moved}{unchanged}"
