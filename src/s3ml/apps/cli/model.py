"""`s3ml model`: what model owners do."""

from pathlib import Path

import click
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from s3ml.apps.cli.connection import connect
from s3ml.apps.cli.console import stderr
from s3ml.apps.cli.options import FILE, FOLDER, gateway_option, trust_option
from s3ml.apps.governance.keys import read_signing_key
from s3ml.apps.governance.models import bundle_path, pack, write_grant


@click.group("model")
def command() -> None:
    """Model owners: pack, encrypt and sign a model."""


@command.command("pack")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--service", required=True, help="The one service that may open it.")
@click.option("--policy", required=True, help="The governed policy under which it may be opened.")
@click.option("--name", help="The model's name. [default: the service's]")
@click.option(
    "--version", default="1", show_default=True, help="A positive number; a version is packed once."
)
@click.option("--store", type=FOLDER, required=True, help="The folder of encrypted bundles.")
@click.option("--key", type=FILE, required=True, help="The model owner's private key.")
@trust_option
@gateway_option
@click.option("-o", "--output", type=FILE, help="The grant. [default: NAME-VERSION.grant.json]")
def pack_command(
    source: Path,
    *,
    service: str,
    policy: str,
    name: str | None,
    version: str,
    store: Path,
    key: Path,
    trust: Path,
    gateway: str,
    output: Path | None,
) -> None:
    """Encrypt SOURCE (an .onnx file, or a folder with model.onnx) into a bundle, and sign who may open it.

    The bundle goes to the store, which anyone may read. The grant goes to the deployment's owners.
    """
    model = name or service
    signing_key = read_signing_key(key)
    deployment = connect(trust, gateway)
    governed = deployment.governed_policy(policy)
    columns = (TextColumn("packing {task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=stderr, transient=True) as progress:
        task = progress.add_task(model, total=None)
        grant = pack(
            source,
            store=store,
            model=model,
            version=version,
            service=service,
            policy_sha256=governed.body_sha256,
            deployment=deployment,
            key=signing_key,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    path = output or Path(f"{model}-{version}.grant.json")
    write_grant(path, grant)
    click.echo(f"{bundle_path(store, model, version)}: encrypted")
    click.echo(f"{path}: give it to the deployment's owners: s3ml service sign {service} --model {path}")
