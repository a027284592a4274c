"""`s3ml verify-evidence`: appraise evidence from a file, offline, and print every numbered step."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from s3ml.apps.cli.console import print_json, stderr, stdout, warn_about_simulation
from s3ml.apps.cli.options import FILE, json_option
from s3ml.apps.governance.policies import read_policy
from s3ml.attestation import (
    Evidence,
    EvidenceMalformedError,
    EvidenceRejectedError,
    Step,
    Tee,
    VerifiedEnclave,
    parse_evidence,
    verify_evidence,
)
from s3ml.attestation.evidence import EVIDENCE_LIMIT_BYTES, REPORT_DATA_BYTES
from s3ml.attestation.verify.claimed import claimed_report_data
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.files import read_limited

EXIT_REJECTED = 3
UNCHECKED = "NOT CHECKED: give --report-data to learn whether the quote answers a particular request"
REPORT_DATA_STEP = 8
UNPROVEN = "unproven"


@click.command("verify-evidence")
@click.argument("file", type=FILE)
@click.option("--policy", "policy_file", type=FILE, required=True, help="What you accept: TOML or JSON.")
@click.option(
    "--report-data",
    metavar="HEX",
    help="The 64 bytes that the quote must carry, as 128 digits. Without it, freshness is not checked.",
)
@click.option(
    "--at",
    metavar="TIME",
    help="Verify as of this instant, such as 2026-03-01T12:00:00Z. [default: now]",
)
@json_option
def command(file: Path, *, policy_file: Path, report_data: str | None, at: str | None, as_json: bool) -> None:
    """Verify the evidence in FILE against a policy and print every numbered step.

    Works offline: the collateral travels in the evidence. Exit status 0 only when every step holds, 2 when a
    file cannot be read, 3 when the evidence is rejected.
    """
    _, policy = read_policy(policy_file)
    try:
        evidence = parse_evidence(read_limited(file, limit_bytes=EVIDENCE_LIMIT_BYTES, what="evidence"))
        expected = _report_data(report_data) if report_data is not None else claimed_report_data(evidence)
    except EvidenceMalformedError as error:
        raise ConfigurationError(f"{file}: {error}") from error
    now = _instant(at) if at is not None else datetime.now(UTC)
    is_fresh = report_data is not None
    try:
        enclave = verify_evidence(evidence, policy, report_data=expected, now=now)
    except EvidenceRejectedError as rejected:
        _print_rejected(rejected, evidence, now, is_fresh=is_fresh, as_json=as_json)
        raise click.exceptions.Exit(EXIT_REJECTED) from None
    except EvidenceMalformedError as error:
        raise ConfigurationError(f"{file}: {error}") from error
    _print_verified(enclave, evidence, now, is_fresh=is_fresh, as_json=as_json)


def _report_data(text: str) -> bytes:
    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = b""
    if len(data) != REPORT_DATA_BYTES:
        raise ConfigurationError("--report-data: expected 128 hexadecimal digits")
    return data


def _instant(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"--at: expected a time such as 2026-03-01T12:00:00Z, got {text[:40]!r}"
        ) from None
    if instant.tzinfo is None:
        raise ConfigurationError(f"--at: expected a time with its zone, such as {text[:40]}Z")
    return instant


def _print_rejected(
    rejected: EvidenceRejectedError, evidence: Evidence, now: datetime, *, is_fresh: bool, as_json: bool
) -> None:
    if as_json:
        document = _document(evidence, rejected.steps, now, is_verified=False, is_fresh=is_fresh)
        document["mismatches"] = [
            {"claim": m.claim, "expected": m.expected, "got": m.got} for m in rejected.mismatches
        ]
        print_json(document)
        return
    _warn(evidence)
    _print_steps(rejected.steps, is_fresh=is_fresh)
    stdout.print()
    for mismatch in rejected.mismatches:
        stdout.print(f"  [bold]{mismatch.claim}[/]")
        stdout.print(f"    expected  {escape(mismatch.expected)}")
        stdout.print(f"    got       {escape(mismatch.got)}")
    stdout.print(f"[bold red]REJECTED[/] as of {now.isoformat()}: {len(rejected.mismatches)} mismatches")


def _print_verified(
    enclave: VerifiedEnclave, evidence: Evidence, now: datetime, *, is_fresh: bool, as_json: bool
) -> None:
    if as_json:
        document = _document(evidence, enclave.steps, now, is_verified=True, is_fresh=is_fresh)
        document |= {
            "measurement": enclave.measurement,
            "platform": enclave.platform,
            "claims": enclave.claims,
            "notes": enclave.notes,
            "mismatches": [],
        }
        print_json(document)
        return
    _warn(evidence)
    _print_steps(enclave.steps, is_fresh=is_fresh)
    for note in enclave.notes:
        stderr.print(f"[bold black on yellow] NOTE [/] {escape(note)}")
    stdout.print(
        f"[bold green]VERIFIED[/] as of {now.isoformat()}" + ("" if is_fresh else ", freshness unknown")
    )


def _document(
    evidence: Evidence, steps: tuple[Step, ...], now: datetime, *, is_verified: bool, is_fresh: bool
) -> dict[str, Any]:
    return {
        "is_verified": is_verified,
        "tee": evidence.tee,
        "technology": evidence.technology,
        "is_simulated": evidence.tee is Tee.SIMULATED,
        "is_report_data_checked": is_fresh,
        "at": now,
        "steps": [
            {
                "number": step.number,
                "title": step.title,
                "holds": step.holds if is_fresh or step.number != REPORT_DATA_STEP else None,
                "detail": step.detail,
            }
            for step in steps
        ],
    }


def _print_steps(steps: tuple[Step, ...], *, is_fresh: bool) -> None:
    for step in steps:
        mark, detail = ("[green]✓[/]", escape(step.detail)) if step.holds else ("[red]✗[/]", "")
        if not is_fresh and step.number == REPORT_DATA_STEP:
            mark, detail = "[yellow]?[/]", f"[yellow]{UNCHECKED}[/]"
        elif step.detail.startswith(UNPROVEN):
            mark, detail = "[red]?[/]", f"[red]{escape(step.detail)}[/]"
        stdout.print(f"{mark} {step.number:>2}  [bold]{step.title}[/]")
        if detail:
            stdout.print(f"      {detail}", style="dim")


def _warn(evidence: Evidence) -> None:
    if evidence.tee is Tee.SIMULATED:
        warn_about_simulation("no TEE hardware made this evidence; it proves nothing about a real machine.")
