"""`s3ml balancer`: run one beside a gateway, see what it decides and why, switch its policy."""

from pathlib import Path

import click

from s3ml.apps.balancing.control import read_status, switch_policy
from s3ml.apps.cli.balancer_run import run_command
from s3ml.apps.cli.balancer_view import print_status
from s3ml.apps.cli.console import print_json, stdout
from s3ml.apps.cli.options import FILE, json_option


@click.group("balancer")
def command() -> None:
    """Operator: balance by the nodes' TEE memory; see why a replica was chosen; switch policies."""


command.add_command(run_command)

_control_option = click.option(
    "--control",
    type=FILE,
    envvar="S3ML_BALANCER",
    required=True,
    help="The balancer's Unix socket, as `s3ml up` prints it. [env: S3ML_BALANCER]",
)


@command.command("status")
@_control_option
@json_option
def status_command(*, control: Path, as_json: bool) -> None:
    """Show what a running balancer sees of each replica, what it gives it, and why."""
    status = read_status(control)
    if as_json:
        print_json(status)
    else:
        print_status(status)


@command.command("policy")
@click.argument("name", required=False)
@_control_option
def policy_command(*, name: str | None, control: Path) -> None:
    """Let the policy NAME decide from now on; without NAME, list the policies."""
    status = read_status(control) if name is None else switch_policy(control, name)
    for policy in status.policies:
        stdout.print(f"{'*' if policy == status.policy else ' '} {policy}", markup=False)
