"""`s3ml repository`: what a service's replicas have loaded; loading and unloading by request."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from s3ml.apps.cli.console import print_json, stdout, warn_about
from s3ml.apps.cli.credentials import credentials_options, read_credentials
from s3ml.apps.cli.options import gateway_option, json_option, trust_option
from s3ml.client import Client

F = TypeVar("F", bound=Callable[..., Any])


@click.group("repository")
def command() -> None:
    """Callers: list the models of a service; load and unload them, with the role `models`.

    Each acts on the one replica that answers.
    """


def _calling(function: F) -> F:
    """Add what every call needs: who calls, whom to trust, where to ask."""
    return credentials_options(trust_option(gateway_option(function)))


@command.command("index")
@click.argument("service")
@click.option("--ready", is_flag=True, help="Only what is ready.")
@_calling
@json_option
def index_command(
    service: str,
    *,
    ready: bool,
    token_file: Path | None,
    caller_key: Path | None,
    trust: Path,
    gateway: str,
    as_json: bool,
) -> None:
    """List each version of each model of SERVICE, and where it stands on the replica that answers."""
    with _client(gateway, trust, token_file, caller_key, service) as client:
        entries = client.models(service, ready=ready)
    if as_json:
        print_json({"service": service, "models": [msgspec.to_builtins(entry) for entry in entries]})
        return
    for entry in entries:
        reason = f"  {entry.reason}" if entry.reason else ""
        stdout.print(f"{entry.name} {entry.version}  {entry.state}{reason}", markup=False)


@command.command("load")
@click.argument("service")
@click.argument("model")
@_calling
def load_command(
    service: str, model: str, *, token_file: Path | None, caller_key: Path | None, trust: Path, gateway: str
) -> None:
    """Load every released version of MODEL."""
    with _client(gateway, trust, token_file, caller_key, service) as client:
        client.load_model(service, model)
    stdout.print(f"{model}: loaded by the replica that answered", markup=False)


@command.command("unload")
@click.argument("service")
@click.argument("model")
@_calling
def unload_command(
    service: str, model: str, *, token_file: Path | None, caller_key: Path | None, trust: Path, gateway: str
) -> None:
    """Unload MODEL; requests on it that are under way are still answered."""
    with _client(gateway, trust, token_file, caller_key, service) as client:
        client.unload_model(service, model)
    stdout.print(f"{model}: unloaded by the replica that answered", markup=False)


def _client(
    gateway: str, trust: Path, token_file: Path | None, caller_key: Path | None, service: str
) -> Client:
    """Return a client that has verified `service`, with the warnings that go with it said."""
    credentials = read_credentials(token_file, caller_key, command="repository")
    client = Client(gateway, trust=trust, credentials=credentials)
    verified = client.verify(service)
    warn_about(is_simulated=verified.is_simulated, is_fork_protected=verified.is_fork_protected)
    return client
