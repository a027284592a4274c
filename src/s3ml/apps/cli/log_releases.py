"""`s3ml log releases`: who received which keys, as the log commits to it."""

from collections.abc import Iterator
from datetime import UTC
from pathlib import Path

import click
import msgspec
from rich.table import Table

from s3ml.apps.cli.connection import key_service_at
from s3ml.apps.cli.console import print_json, stdout
from s3ml.apps.cli.options import gateway_option, json_option, trust_option
from s3ml.apps.transparency.releases import committed_releases
from s3ml.apps.transparency.replay import Replay, size_of
from s3ml.apps.transparency.sources import GatewayLog
from s3ml.client.trust import Trust
from s3ml.keyservice.documents import LogEntry

_SHOWN_DIGITS = 16


@click.command("releases")
@click.option("--service", help="Only the releases of this service.")
@gateway_option
@trust_option
@json_option
def releases_command(*, service: str | None, gateway: str, trust: Path, as_json: bool) -> None:
    """Show every release that the log commits to: when, to which measurement, which keys.

    The log is checked as by s3ml log audit (without its head), and the records against it: exit status 3
    where one was changed, left out or made up. Releases of the last minute may not be committed yet.
    """
    client = key_service_at(gateway)
    source, replay = GatewayLog(client), Replay(Trust.read(trust).deployment)

    def entries() -> Iterator[LogEntry]:
        for data in source.entries(0, size_of(source.checkpoint())):
            yield replay.read(data)

    found = [
        (number, record)
        for number, record in committed_releases(client, entries())
        if service in (None, record.service)
    ]
    if as_json:
        print_json({"releases": [{"number": n, **msgspec.to_builtins(record)} for n, record in found]})
        return
    table = Table("number", "time", "service", "epochs", "models", "tee", "measurement", box=None)
    for number, record in found:
        table.add_row(
            str(number),
            record.time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
            record.service,
            ", ".join(map(str, record.epochs)),
            str(len(record.models)),
            record.tee,
            record.measurement[:_SHOWN_DIGITS],
        )
    stdout.print(table if found else "no committed releases yet; they are committed within a minute")
