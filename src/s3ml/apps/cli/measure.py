"""`s3ml measure`: what the simulated platform would measure."""

import click

from s3ml.apps.cli.console import print_json
from s3ml.apps.cli.options import json_option, simulates_option
from s3ml.apps.governance.policies import Role, measure_installed
from s3ml.attestation import Technology


@click.command("measure")
@click.argument("role", type=click.Choice(["key-service", "model-server"]))
@simulates_option
@json_option
def command(role: Role, *, simulates: Technology, as_json: bool) -> None:
    """Compute the measurement of the installed code of ROLE on the simulated platform.

    Owners compute it from the code that they reviewed; the platform computes it from the code that it runs.
    """
    measurement = measure_installed(role, simulates)
    if as_json:
        print_json({"role": role, "tee": "simulated", "simulates": simulates, "measurement": measurement})
    else:
        click.echo(measurement)
