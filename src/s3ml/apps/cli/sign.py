"""`s3ml sign`: add a signature to any message that another owner made, and see first what it says."""

from pathlib import Path

import click

from s3ml.apps.cli.connection import connect
from s3ml.apps.cli.options import FILE, gateway_option, keys_option, trust_option
from s3ml.apps.cli.signing import read_message, sign_and_send
from s3ml.primitives.errors import ConfigurationError


@click.command("sign")
@click.argument("message", type=FILE)
@trust_option
@gateway_option
@keys_option
def command(message: Path, *, trust: Path, gateway: str, keys: tuple[Path, ...]) -> None:
    """Sign the change in the file MESSAGE, whatever it changes; it is sent once enough owners signed.

    Shows in plain words what it makes of what stands: who comes and goes, what widens and narrows, which
    models may be served to whom. (Proposals are signed by s3ml deployment sign, acknowledgements by s3ml
    deployment acknowledge.)
    """
    change = read_message(message)
    if change is None:
        raise ConfigurationError(f"{message}: is no message; expected what an owner signed before")
    sign_and_send(connect(trust, gateway), change, keys=keys, output=message)
