"""`s3ml key`: signing keys for owners and model owners."""

from pathlib import Path

import click

from s3ml.apps.cli.options import FILE
from s3ml.apps.governance.keys import generate_key_files


@click.group("key")
def command() -> None:
    """Make signing keys."""


@command.command("generate")
@click.argument("path", type=FILE)
@click.option("--force", is_flag=True, help="Replace an existing key.")
def generate(path: Path, *, force: bool) -> None:
    """Make an Ed25519 key: PATH.key (secret, mode 0600) and PATH.pub (to give away)."""
    public = generate_key_files(path, replace=force)
    click.echo(f"{path}.pub: {public}")
