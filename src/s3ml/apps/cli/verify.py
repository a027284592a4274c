"""`s3ml verify`: what a client verifies of a service, step by step."""

from pathlib import Path

import click
from rich.table import Table

from s3ml.apps.cli.console import print_json, stdout, warn_about
from s3ml.apps.cli.options import gateway_option, json_option, trust_option
from s3ml.client import Client


@click.command("verify")
@click.argument("service")
@trust_option
@gateway_option
@json_option
def command(service: str, *, trust: Path, gateway: str, as_json: bool) -> None:
    """Verify SERVICE against the trust file and print what was verified.

    Exit status 0 only when every step held.
    """
    with Client(gateway, trust=trust) as client:
        verified = client.verify(service)
    if as_json:
        print_json(
            {
                "service": verified.service,
                "deployment": verified.deployment,
                "models": [
                    {"model": m.model, "version": m.model_version, "manifest_sha256": m.manifest_sha256}
                    for m in verified.models
                ],
                "expires_at": verified.expires_at,
                "log_size": verified.log_size,
                "is_simulated": verified.is_simulated,
                "is_fork_protected": verified.is_fork_protected,
                "steps": [
                    {"number": step.number, "title": step.title, "detail": step.detail}
                    for step in verified.steps
                ],
            }
        )
        return
    warn_about(is_simulated=verified.is_simulated, is_fork_protected=verified.is_fork_protected)
    table = Table(show_header=False, box=None, padding=(0, 1, 0, 0))
    table.add_column(justify="right", style="green", no_wrap=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for step in verified.steps:
        table.add_row(f"✓ {step.number}", step.title, step.detail)
    stdout.print(table)
    until = verified.expires_at.astimezone().strftime("%H:%M:%S")
    stdout.print(f"[bold green]Verified:[/] {service} may be sealed to until {until}.")
