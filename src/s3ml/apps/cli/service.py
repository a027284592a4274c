"""`s3ml service`: which models a service may serve, under which policy."""

from pathlib import Path

import click
import msgspec
from rich.table import Table

from s3ml.apps.cli.connection import connect, key_service_at
from s3ml.apps.cli.console import print_json, stdout
from s3ml.apps.cli.options import FILE, gateway_option, json_option, keys_option, trust_option
from s3ml.apps.cli.signing import draft, read_signed_message, sign_and_send
from s3ml.apps.cli.withdrawal import delete_service_command, rotate_command
from s3ml.apps.governance.caller_options import read_callers
from s3ml.apps.governance.callers import name_callers
from s3ml.apps.governance.changes import read_manifest
from s3ml.apps.governance.keys import read_verify_key
from s3ml.apps.governance.models import read_grant, service_document, service_times
from s3ml.keyservice.documents import ServiceDocument
from s3ml.primitives.envelope import Envelope
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.units import DAY_S

_PREFIX = "services/"


@click.group("service")
def command() -> None:
    """Owners: sign services, rotate their keys, take them away; anyone: list them."""


command.add_command(rotate_command)
command.add_command(delete_service_command)


@command.command("sign")
@click.argument("service")
@click.option("--policy", help="The governed policy that its replicas satisfy.")
@click.option("--model", "models", type=FILE, multiple=True, help="A model owner's grant; repeat it.")
@click.option("--model-owner", "owners", type=FILE, multiple=True, help="A model owner's .pub; repeat it.")
@click.option(
    "--caller",
    "callers",
    multiple=True,
    metavar="RULE",
    help="Who may call: anonymous, key:NAME=FILE.pub[,ROLE...] or jwt:FILE.toml; repeat it. "
    "[default: anonymous]",
)
@click.option(
    "--epoch-s", default=DAY_S, show_default=True, help="From one rotation to the next, in seconds."
)
@click.option(
    "--lease-s", default=300, show_default=True, help="How long model servers hold keys without renewing."
)
@click.option("--bundle-s", default=600, show_default=True, help="How long clients use what they verified.")
@click.option("--message", type=FILE, help="Instead: a message that another owner signed before.")
@trust_option
@gateway_option
@keys_option
@click.option("-o", "--output", type=FILE, help="Where the message waits for more signatures.")
def sign_command(
    service: str,
    *,
    policy: str | None,
    models: tuple[Path, ...],
    owners: tuple[Path, ...],
    callers: tuple[str, ...],
    epoch_s: int,
    lease_s: int,
    bundle_s: int,
    message: Path | None,
    trust: Path,
    gateway: str,
    keys: tuple[Path, ...],
    output: Path | None,
) -> None:
    """Sign SERVICE: these models, of these model owners, under this policy, for these callers.

    Without --caller anybody may call it. Once enough owners signed, the change is sent to the key service.
    """
    path = output or message or Path(f"{service}.service.json")
    if message is not None:
        change = read_signed_message(message)
        deployment = connect(trust, gateway)
    else:
        if policy is None or not models or not owners:
            raise ConfigurationError("service: expected --policy, --model and --model-owner, or --message")
        grants = [read_grant(model) for model in models]
        document = service_document(
            service,
            policy=policy,
            grants=grants,
            model_owners=[read_verify_key(owner) for owner in owners],
            callers=read_callers(callers),
            times=service_times(epoch_s=epoch_s, lease_s=lease_s, bundle_s=bundle_s),
        )
        deployment = connect(trust, gateway)
        attachments = tuple(grant.sealed_identity for grant in grants)
        change = draft(deployment, _PREFIX + service, msgspec.json.encode(document), attachments)
    sign_and_send(
        deployment,
        change,
        keys=keys,
        output=path,
    )


@command.command("list")
@gateway_option
@json_option
def list_command(*, gateway: str, as_json: bool) -> None:
    """List the services, as the key service reports them: unverified (see `s3ml verify`)."""
    resources = key_service_at(gateway).resources().resources
    listed = [
        (resource, msgspec.json.decode(resource.body, type=ServiceDocument))
        for resource in resources
        if resource.resource.startswith(_PREFIX)
    ]
    if as_json:
        print_json(
            {
                "services": [
                    {
                        "service": document.service,
                        "version": resource.resource_version,
                        "policy": document.policy,
                        "policy_sha256": document.policy_sha256,
                        "callers": msgspec.to_builtins(document.callers),
                        "models": [_model(envelope) for envelope in document.models],
                    }
                    for resource, document in listed
                ]
            }
        )
        return
    table = Table("service", "version", "policy", "callers", "models", box=None, padding=(0, 2, 0, 0))
    for resource, document in listed:
        models = ", ".join(f"{m['model']} {m['version']}" for m in map(_model, document.models))
        callers = name_callers(document.callers)
        table.add_row(document.service, str(resource.resource_version), document.policy, callers, models)
    stdout.print(table if listed else "no services yet: s3ml service sign")


def _model(envelope: Envelope) -> dict[str, str]:
    manifest = read_manifest(envelope)
    return {"model": manifest.model, "version": manifest.model_version}
