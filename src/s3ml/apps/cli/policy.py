"""`s3ml policy`: what code a service's replicas may run."""

from pathlib import Path

import click

from s3ml.apps.cli.connection import connect
from s3ml.apps.cli.options import (
    FILE,
    allow_simulated_option,
    gateway_option,
    keys_option,
    simulates_option,
    simulation_root_option,
    trust_option,
)
from s3ml.apps.cli.signing import draft, read_message, sign_and_send
from s3ml.apps.governance.policies import (
    Role,
    describe_policy,
    policy_document,
    read_policy,
    read_root,
)
from s3ml.attestation import Technology, parse_policy
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.files import write_atomically
from s3ml.primitives.names import check_name


@click.group("policy")
def command() -> None:
    """Owners: write and sign policies."""


@command.command("new")
@click.argument("role", type=click.Choice(["key-service", "model-server"]))
@allow_simulated_option
@simulation_root_option
@simulates_option
@click.option("-o", "--output", type=FILE, required=True)
def new_command(
    role: Role,
    *,
    allow_simulated: bool,
    simulation_root: Path | None,
    simulates: Technology,
    output: Path,
) -> None:
    """Write a policy that accepts the installed code of ROLE and nothing else, for owners to sign."""
    if not allow_simulated or simulation_root is None:
        raise ConfigurationError(
            "policy: the installed code can be measured for the simulated platform only: "
            "give --allow-simulated and --simulation-root FILE"
        )
    write_atomically(output, policy_document(role, root=read_root(simulation_root), simulates=simulates))
    click.echo(f"{output}: written")


@command.command("sign")
@click.argument("file", type=FILE)
@click.option("--name", help="What to call the policy. [default: the file's name without its ending]")
@trust_option
@gateway_option
@keys_option
@click.option("-o", "--output", type=FILE, help="Where the message waits for more signatures.")
def sign_command(
    file: Path, *, name: str | None, trust: Path, gateway: str, keys: tuple[Path, ...], output: Path | None
) -> None:
    """Sign the policy in FILE, or the message in FILE that another owner signed before.

    Once enough owners signed, the change is sent to the key service.
    """
    message = read_message(file)
    if message is None:
        body, _ = read_policy(file)
        name = check_name(name or file.stem, what="policy name")
        deployment = connect(trust, gateway)
        message = draft(deployment, f"policies/{name}", body)
        output = output or file.with_name(f"{name}.policy.json")
    else:
        deployment = connect(trust, gateway)
        output = output or file
    sign_and_send(
        deployment,
        message,
        keys=keys,
        output=output,
        describe=lambda body: describe_policy(parse_policy(body)),
    )
