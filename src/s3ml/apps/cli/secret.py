"""`s3ml secret`: keys and configuration that a service's enclaves receive, each under a policy of its own."""

from pathlib import Path

import click
import msgspec
from rich.table import Table

from s3ml.apps.cli.connection import connect, key_service_at
from s3ml.apps.cli.console import print_json, stdout
from s3ml.apps.cli.options import FILE, gateway_option, json_option, keys_option, trust_option
from s3ml.apps.cli.signing import draft, read_signed_message, sign_and_send
from s3ml.apps.cli.withdrawal import delete_secret_command
from s3ml.apps.governance.secrets import draft_secret, read_secret_document
from s3ml.primitives.errors import ConfigurationError

_PREFIX = "secrets/"


@click.group("secret")
def command() -> None:
    """Owners: sign secrets of services, take them away; anyone: list them, without their values."""


command.add_command(delete_secret_command)


@command.command("sign")
@click.argument("name")
@click.option("--service", help="The service whose enclaves may have it.")
@click.option(
    "--policy", help="The governed policy that they satisfy; it may be narrower than the service's."
)
@click.option("--generate", is_flag=True, help="Have the key service make a key of 32 bytes, inside its TEE.")
@click.option("--from-file", "source", type=FILE, help="Seal the content of this file, at most 64 KiB.")
@click.option("--message", type=FILE, help="Instead: a message that another owner signed before.")
@trust_option
@gateway_option
@keys_option
@click.option("-o", "--output", type=FILE, help="Where the message waits for more signatures.")
def sign_command(
    name: str,
    *,
    service: str | None,
    policy: str | None,
    generate: bool,
    source: Path | None,
    message: Path | None,
    trust: Path,
    gateway: str,
    keys: tuple[Path, ...],
    output: Path | None,
) -> None:
    """Sign the secret NAME: a key that the key service makes, or a value that is sealed to it.

    Signing it again makes the next version: another key, or another value. The version before stays released
    beside it, so that what lies under it can be written anew.
    """
    path = output or message or Path(f"{name}.secret.json")
    if message is not None:
        change = read_signed_message(message)
        deployment = connect(trust, gateway)
    else:
        if service is None or policy is None or generate == (source is not None):
            raise ConfigurationError(
                "secret: expected --service, --policy, and either --generate or --from-file; or --message"
            )
        deployment = connect(trust, gateway)
        document, attachments = draft_secret(deployment, name, service=service, policy=policy, source=source)
        change = draft(deployment, _PREFIX + name, msgspec.json.encode(document), attachments)
    sign_and_send(deployment, change, keys=keys, output=path)


@command.command("list")
@gateway_option
@json_option
def list_command(*, gateway: str, as_json: bool) -> None:
    """List the secrets, as the key service reports them: unverified, and never their values."""
    listed = [
        (resource, read_secret_document(resource.body))
        for resource in key_service_at(gateway).resources().resources
        if resource.resource.startswith(_PREFIX)
    ]
    if as_json:
        shown = [
            {**msgspec.to_builtins(document), "version": resource.resource_version}
            for resource, document in listed
        ]
        print_json({"secrets": shown})
        return
    table = Table("secret", "version", "service", "kind", "policy", box=None, padding=(0, 2, 0, 0))
    for resource, document in listed:
        kind = str(document.__struct_config__.tag)
        version = str(resource.resource_version)
        table.add_row(document.secret, version, document.service, kind, document.policy)
    stdout.print(table if listed else "no secrets yet: s3ml secret sign")
