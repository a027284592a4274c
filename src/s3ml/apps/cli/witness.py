"""`s3ml witness`: keep logs from being shown differently to different people."""

from pathlib import Path

import click
import msgspec
from rich.markup import escape

from s3ml.apps.cli.console import facts, print_json, stdout
from s3ml.apps.cli.options import FILE, FOLDER, json_option
from s3ml.apps.transparency.describing import printable
from s3ml.primitives.errors import ConfigurationError, UnavailableError
from s3ml.primitives.files import write_atomically
from s3ml.transparency.witness.client import WitnessClient
from s3ml.transparency.witness.signer import WitnessSigner

_STATUS_TIMEOUT_S = 10.0


class _Log(msgspec.Struct, frozen=True, kw_only=True):
    origin: str
    is_watched: bool
    size: int
    root: str | None
    time: str | None


class _Status(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    key: str
    is_configuration_usable: bool
    logs: tuple[_Log, ...]


@click.group("witness")
def command() -> None:
    """Cosign logs that only ever append."""


@command.command("key")
@click.argument("name")
@click.option("-o", "--output", type=FILE, default=Path("witness.key"), show_default=True)
@click.option("--force", is_flag=True, help="Replace an existing key.")
def key_command(name: str, *, output: Path, force: bool) -> None:
    """Make the key of the witness NAME, such as witness.example.com/w1: a secret file of mode 0600.

    Prints the public key (vkey), which also goes into a file beside it: give it to the logs' owners.
    """
    public = output.with_name(f"{output.name.removesuffix('.key')}.vkey")
    for existing in (output, public):
        if existing.exists() and not force:
            raise ConfigurationError(f"{existing}: exists already; choose another with -o, or use --force")
    signer = WitnessSigner.generate(name)
    write_atomically(output, f"{signer.to_text()}\n".encode(), mode=0o600)
    write_atomically(public, f"{signer.public}\n".encode())
    click.echo(f"{signer.public}")


@command.command("serve")
@click.option("--config", type=FILE, required=True, help="The logs to watch (TOML); read again on change.")
@click.option("--key", type=FILE, required=True, help="The witness's key, from `s3ml witness key`.")
@click.option("--state", type=FOLDER, required=True, help="The folder of what the witness must not forget.")
@click.option("--listen", metavar="HOST:PORT", default="127.0.0.1:8081", show_default=True)
@click.option(
    "--begin",
    is_flag=True,
    help="Make the state, the first time only: a witness that begins anew cosigns forks of what it knew.",
)
def serve_command(*, config: Path, key: Path, state: Path, listen: str, begin: bool) -> None:
    """Serve POST /add-checkpoint (C2SP tlog-witness) until SIGTERM."""
    host, separator, port = listen.rpartition(":")
    if not (separator and host and port.isascii() and port.isdecimal() and int(port[:6]) < 2**16):
        raise ConfigurationError(f"--listen: expected HOST:PORT, got {listen[:80]!r}")
    try:
        from s3ml.apps.processes.witness import serve  # noqa: PLC0415 - its packages are an extra
    except ImportError as error:
        raise ConfigurationError(f"witness: needs the extra s3ml[witness]: {error}") from error
    serve(
        config=config,
        key=key,
        state=state,
        host=host.removeprefix("[").removesuffix("]"),
        port=int(port),
        is_beginning=begin,
    )


@command.command("status")
@click.option("--url", default="http://127.0.0.1:8081", show_default=True, help="Where the witness answers.")
@json_option
def status_command(*, url: str, as_json: bool) -> None:
    """Show which logs a witness watches, and the newest head that it cosigned of each: as it says itself."""
    status = _status(url)
    if as_json:
        print_json(status)
        return
    rows = [("witness", status.name), ("key", status.key)]
    if not status.is_configuration_usable:
        rows.append(("configuration", "the file changed and cannot be used; the old one holds"))
    for log in status.logs:
        newest = f"size {log.size} at {log.time}" if log.time else "nothing cosigned yet"
        rows.append(("log", log.origin))
        rows.append(("", newest if log.is_watched else f"{newest}; no longer watched"))
    stdout.print(facts([(name, escape(printable(value))) for name, value in rows]))


def _status(url: str) -> _Status:
    client = WitnessClient(url, timeout_s=_STATUS_TIMEOUT_S)
    try:
        return msgspec.json.decode(client.status(), type=_Status)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnavailableError(f"witness {url}: expected a witness's status: {error}") from error
    finally:
        client.close()
