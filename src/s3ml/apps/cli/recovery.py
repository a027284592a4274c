"""`s3ml recovery`: shares of what is recoverable, for k of n holders of recovery keys."""

from datetime import UTC, datetime
from pathlib import Path

import click
from rich.markup import escape

from s3ml.apps.cli.connection import KEY_SERVICE_PATH, connect
from s3ml.apps.cli.console import facts, print_json, stderr, stdout, warn_about_simulation
from s3ml.apps.cli.options import (
    FILE,
    follow_option,
    gateway_option,
    json_option,
    keys_option,
    trust_option,
)
from s3ml.apps.cli.recovery_offline import combine_command, contribute_command, keygen_command, split_command
from s3ml.apps.cli.signing import draft, read_message, sign_and_send
from s3ml.apps.governance.recovery import (
    RESOURCE,
    Rehearsal,
    ask_replica,
    read_contribution,
    read_identity,
    read_recovery_key,
    read_request_file,
    recovery_document,
    rehearse,
    send,
    verify_request_file,
)
from s3ml.client.trust import Trust
from s3ml.keyservice.client import KeyServiceClient
from s3ml.keyservice.documents.recovery import Purpose
from s3ml.keyservice.escrow.holder import describe_request
from s3ml.keyservice.parsing import encode_document
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.files import write_atomically

EXIT_FAILED = 3

_replica_option = click.option(
    "--replica",
    metavar="URL",
    help="One replica's own address, up to before /v1. [default: the key service behind the gateway]",
)


@click.group("recovery")
def command() -> None:
    """Holders and owners: recover the deployment's keys after a total loss, and rehearse it before."""


for _offline in (keygen_command, contribute_command, split_command, combine_command):
    command.add_command(_offline)


@command.command("sign")
@click.option("--threshold", type=click.IntRange(1, 16), help="How many holders recover together.")
@click.option("--holder", "holders", multiple=True, metavar="NAME=RECIPIENT", help="A holder; repeat it.")
@click.option("--message", type=FILE, help="Instead: a message that another owner signed before.")
@trust_option
@gateway_option
@keys_option
@click.option("-o", "--output", type=FILE, help="Where the message waits for more signatures.")
def sign_command(
    *,
    threshold: int | None,
    holders: tuple[str, ...],
    message: Path | None,
    trust: Path,
    gateway: str,
    keys: tuple[Path, ...],
    output: Path | None,
) -> None:
    """Sign who holds shares of the deployment's wrapping key; RECIPIENT is age1… or a file that holds it.

    Once enough owners signed, the change is sent to the key service, which makes the shares.
    """
    path = output or message or Path("deployment.recovery.json")
    if message is not None:
        change = read_message(message)
        if change is None:
            raise ConfigurationError(f"{message}: is no message; expected what an owner signed before")
        deployment = connect(trust, gateway)
    else:
        if threshold is None or not holders:
            raise ConfigurationError("recovery: expected --threshold and --holder, or --message")
        body = recovery_document([read_recovery_key(text) for text in holders], threshold=threshold)
        deployment = connect(trust, gateway)
        change = draft(deployment, RESOURCE, body)
    sign_and_send(
        deployment,
        change,
        keys=keys,
        output=path,
    )


@command.command("shares")
@gateway_option
@_replica_option
@click.option("-o", "--output", type=FILE, required=True)
def shares_command(*, gateway: str, replica: str | None, output: Path) -> None:
    """Keep a copy of the encrypted shares; each opens with its holder's recovery key alone."""
    shares = _replica_at(gateway, replica).recovery_shares()
    write_atomically(output, encode_document(shares))
    click.echo(f"{output}: {len(shares.shares)} encrypted shares")


@command.command("request")
@click.option("--purpose", type=click.Choice(["recovery", "rehearsal"]), required=True)
@trust_option
@follow_option
@gateway_option
@_replica_option
@json_option
@click.option("-o", "--output", type=FILE, default=Path("recovery-request.json"), show_default=True)
def request_command(
    *,
    purpose: Purpose,
    trust: Path,
    is_following: bool,
    gateway: str,
    replica: str | None,
    as_json: bool,
    output: Path,
) -> None:
    """Have a replica ask for shares, verify what it asks, and write the request for the holders."""
    pinned = Trust.read(trust)
    reply = ask_replica(_replica_at(gateway, replica), purpose)
    verified = verify_request_file(reply, pinned, is_following=is_following, now=datetime.now(UTC))
    write_atomically(output, encode_document(reply))
    if as_json:
        print_json(
            {
                "request": verified.request_id,
                "purpose": purpose,
                "measurement": verified.enclave.measurement,
                "is_simulated": verified.enclave.is_simulated,
                "threshold": verified.share_set.outline.threshold,
                "holders": [key.name for key in verified.share_set.document.recipients],
                "file": str(output),
            }
        )
        return
    _warn(is_simulated=verified.enclave.is_simulated)
    stderr.print(facts([("", escape(line)) for line in describe_request(verified)]))
    click.echo(f"{output}: written; each holder: s3ml recovery contribute {output}")


@command.command("submit")
@click.argument("contributions", nargs=-1, type=FILE, required=True)
@gateway_option
@_replica_option
@json_option
def submit_command(
    contributions: tuple[Path, ...], *, gateway: str, replica: str | None, as_json: bool
) -> None:
    """Hand sealed CONTRIBUTIONS to the replica that asked; nobody on the way can open them."""
    given = [read_contribution(path) for path in contributions]
    status = send(_replica_at(gateway, replica), given)
    if as_json:
        print_json(status)
        return
    names = ", ".join(status.contributed)
    more = f"{status.missing} more needed" if status.missing else "enough"
    click.echo(f"{status.purpose}: {names} of {status.threshold} needed holders contributed: {more}")


@command.command("status")
@gateway_option
@_replica_option
@json_option
def status_command(*, gateway: str, replica: str | None, as_json: bool) -> None:
    """Show how far a replica's requests for shares are, as it reports them: unverified."""
    reply = _replica_at(gateway, replica).recovery_status()
    if as_json:
        print_json(reply)
        return
    for status in reply.requests:
        stdout.print(f"[bold]{status.purpose}[/] {status.request[:16]}: {status.state}")
        names = ", ".join(status.contributed) or "nobody"
        stdout.print(f"   {escape(names)} contributed; {status.missing} of {status.threshold} missing")
    if not reply.requests:
        stdout.print("no requests are open: s3ml recovery request")


@command.command("rehearse")
@click.option("--identity", "identities", type=FILE, multiple=True, help="A recovery key; repeat it.")
@click.option("--contribution", "given", type=FILE, multiple=True, help="A contribution; repeat it.")
@click.option("--request", "request_file", type=FILE, help="The rehearsal that contributions are for.")
@trust_option
@follow_option
@gateway_option
@_replica_option
@json_option
def rehearse_command(
    *,
    identities: tuple[Path, ...],
    given: tuple[Path, ...],
    request_file: Path | None,
    trust: Path,
    is_following: bool,
    gateway: str,
    replica: str | None,
    as_json: bool,
) -> None:
    """Prove that the shares open the deployment's stored keys, without giving them to anybody.

    The replica's TEE tries them and answers with evidence. Exit status 0 when everything opened, 3 when
    something did not or a check failed.
    """
    if given and request_file is None:
        raise ConfigurationError("rehearsal: expected --request FILE: the one that --contribution is for")
    pinned = Trust.read(trust)
    client = _replica_at(gateway, replica)
    opened = [read_identity(path) for path in identities]
    contributions = [read_contribution(path) for path in given]
    if not opened and not contributions:
        raise ConfigurationError("rehearsal: expected --identity or --contribution, got neither")
    reply = read_request_file(request_file) if request_file else ask_replica(client, "rehearsal")
    rehearsal = rehearse(
        client,
        reply,
        identities=opened,
        contributions=contributions,
        trust=pinned,
        is_following=is_following,
        now=datetime.now(UTC),
    )
    _show_rehearsal(rehearsal, as_json=as_json)
    if not rehearsal.is_recoverable:
        raise click.exceptions.Exit(EXIT_FAILED)


def _show_rehearsal(rehearsal: Rehearsal, *, as_json: bool) -> None:
    enclave, outcome = rehearsal.request.enclave, rehearsal.outcome
    if as_json:
        print_json(
            {
                "is_recoverable": rehearsal.is_recoverable,
                "request": rehearsal.request.request_id,
                "log_size": rehearsal.request.request.log_size,
                "opened": outcome.opened,
                "failures": outcome.failures,
                "failed": outcome.failed,
                "measurement": enclave.measurement,
                "is_simulated": enclave.is_simulated,
            }
        )
        return
    _warn(is_simulated=enclave.is_simulated)
    for failed in outcome.failed:
        stdout.print(f"[red]✗[/] {escape(failed.claim)}: {escape(failed.got)}")
    if rehearsal.is_recoverable:
        stdout.print(f"[bold green]RECOVERABLE[/]: all {outcome.opened} stored secrets open")
    else:
        stdout.print(f"[bold red]NOT RECOVERABLE[/]: {outcome.opened} open, {outcome.failures} do not")


def _replica_at(gateway: str, replica: str | None) -> KeyServiceClient:
    return KeyServiceClient(replica or gateway.rstrip("/") + KEY_SERVICE_PATH)


def _warn(*, is_simulated: bool) -> None:
    if is_simulated:
        warn_about_simulation("what asks for the shares runs on no TEE hardware; its host can read them.")
