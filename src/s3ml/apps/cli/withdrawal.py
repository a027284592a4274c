"""`s3ml service rotate|delete`, `s3ml policy delete`, `s3ml secret delete`: new keys, and what goes away."""

from pathlib import Path

import click

from s3ml.apps.cli.connection import connect
from s3ml.apps.cli.options import FILE, gateway_option, keys_option, trust_option
from s3ml.apps.cli.signing import draft, sign_and_send
from s3ml.apps.governance.amendments import rotation_body
from s3ml.primitives.names import check_name

_OUTPUT = click.option("-o", "--output", type=FILE, help="Where the message waits for more signatures.")


@click.command("rotate")
@click.argument("service")
@click.option(
    "--discard",
    is_flag=True,
    help="Retire the old keys at once: requests that are under way are lost. [default: they drain]",
)
@trust_option
@gateway_option
@keys_option
@_OUTPUT
def rotate_command(
    service: str, *, discard: bool, trust: Path, gateway: str, keys: tuple[Path, ...], output: Path | None
) -> None:
    """Give SERVICE new keys now, not only when its next rotation is due."""
    deployment = connect(trust, gateway)
    message = draft(deployment, f"rotations/{service}", rotation_body(service, discard=discard))
    sign_and_send(deployment, message, keys=keys, output=output or Path(f"{service}.rotation.json"))


@click.command("delete")
@click.argument("service")
@trust_option
@gateway_option
@keys_option
@_OUTPUT
def delete_service_command(
    service: str, *, trust: Path, gateway: str, keys: tuple[Path, ...], output: Path | None
) -> None:
    """Take SERVICE away: its keys are retired at once, its models' identities deleted."""
    _delete(f"services/{check_name(service, what='service')}", trust, gateway, keys, output)


@click.command("delete")
@click.argument("policy")
@trust_option
@gateway_option
@keys_option
@_OUTPUT
def delete_policy_command(
    policy: str, *, trust: Path, gateway: str, keys: tuple[Path, ...], output: Path | None
) -> None:
    """Take POLICY away, which no service and no secret needs any more."""
    _delete(f"policies/{check_name(policy, what='policy')}", trust, gateway, keys, output)


@click.command("delete")
@click.argument("secret")
@trust_option
@gateway_option
@keys_option
@_OUTPUT
def delete_secret_command(
    secret: str, *, trust: Path, gateway: str, keys: tuple[Path, ...], output: Path | None
) -> None:
    """Take SECRET away: its values are destroyed, and with them what lies under them."""
    _delete(f"secrets/{check_name(secret, what='secret')}", trust, gateway, keys, output)


def _delete(resource: str, trust: Path, gateway: str, keys: tuple[Path, ...], output: Path | None) -> None:
    deployment = connect(trust, gateway)
    message = draft(deployment, resource, b"", method="DELETE")
    path = output or Path(f"{resource.rpartition('/')[2]}.deletion.json")
    sign_and_send(deployment, message, keys=keys, output=path)
