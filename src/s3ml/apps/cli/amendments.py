"""`s3ml deployment owners|witnesses|key-service|acknowledge`: what owners change about a deployment."""

from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from s3ml.apps.cli.connection import connect
from s3ml.apps.cli.console import facts, stderr
from s3ml.apps.cli.options import (
    FILE,
    gateway_option,
    keys_option,
    quorum_option,
    read_owner,
    read_witness,
    trust_option,
    witnesses_option,
)
from s3ml.apps.cli.signing import draft, sign_and_send
from s3ml.apps.governance.amendments import (
    acknowledge,
    key_service_body,
    owners_body,
    read_acknowledgement,
    witnesses_body,
)
from s3ml.apps.governance.keys import read_signing_key
from s3ml.apps.governance.policies import read_policy
from s3ml.keyservice.client import KeyServiceClient
from s3ml.keyservice.documents import Acknowledgement, WitnessesDocument
from s3ml.primitives.envelope import ENVELOPE_LIMIT_BYTES, Envelope, parse_envelope
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.files import read_limited, write_atomically

_OUTPUT = click.option("-o", "--output", type=FILE, help="Where the message waits for more signatures.")


@click.command("owners")
@click.option(
    "--owner", "owners", multiple=True, required=True, metavar="NAME=FILE.pub", help="An owner; repeat it."
)
@click.option("--threshold", type=click.IntRange(1), required=True, help="How many owners decide.")
@trust_option
@gateway_option
@keys_option
@_OUTPUT
def owners_command(
    owners: tuple[str, ...],
    *,
    threshold: int,
    trust: Path,
    gateway: str,
    keys: tuple[Path, ...],
    output: Path | None,
) -> None:
    """Replace the deployment's owners by those named: enough of the old and of the new ones sign."""
    body = owners_body([read_owner(text) for text in owners], threshold=threshold)
    _change("deployment/owners", body, trust=trust, gateway=gateway, keys=keys, output=output)


@click.command("witnesses")
@witnesses_option
@quorum_option
@trust_option
@gateway_option
@keys_option
@_OUTPUT
def witnesses_command(
    witnesses: tuple[str, ...],
    *,
    quorum: int | None,
    trust: Path,
    gateway: str,
    keys: tuple[Path, ...],
    output: Path | None,
) -> None:
    """Replace the witnesses by those named; without any, nothing protects the log from forks."""
    body = witnesses_body([read_witness(text) for text in witnesses], quorum=quorum)
    _change("deployment/witnesses", body, trust=trust, gateway=gateway, keys=keys, output=output)


@click.command("key-service")
@click.option("--policy", type=FILE, required=True, help="Which code may be the key service from now on.")
@trust_option
@gateway_option
@keys_option
@_OUTPUT
def key_service_command(
    policy: Path, *, trust: Path, gateway: str, keys: tuple[Path, ...], output: Path | None
) -> None:
    """Replace the key service's own policy: its code is upgraded, and the deployment gets new keys.

    The replica that is asked must satisfy the new policy. Where the new one accepts less than the old one,
    every epoch is retired at once.
    """
    body = key_service_body(read_policy(policy)[0])
    _change("deployment/key-service", body, trust=trust, gateway=gateway, keys=keys, output=output)


@click.command("acknowledge")
@click.argument("acknowledgement", type=FILE)
@click.option(
    "--replica", metavar="URL", required=True, help="The recovering replica's own address, up to before /v1."
)
@witnesses_option
@quorum_option
@click.option("--no-witnesses", is_flag=True, help="Go on without any: nothing protects from forks then.")
@trust_option
@gateway_option
@keys_option
def acknowledge_command(
    acknowledgement: Path,
    *,
    replica: str,
    witnesses: tuple[str, ...],
    quorum: int | None,
    no_witnesses: bool,
    trust: Path,
    gateway: str,
    keys: tuple[Path, ...],
) -> None:
    """Let a recovering replica serve: sign that its log is the newest, in the file ACKNOWLEDGEMENT.

    The first owner makes the file; the others sign it with the same command; whoever signs last sends it.
    With --witness the witnesses named take the place of those before, which are lost or know a log that is.
    Only do so when every other replica is gone and the witnesses cannot say: an older log that owners
    acknowledge brings back every policy and key that it holds.
    """
    client = KeyServiceClient(replica)
    deployment = connect(trust, gateway, client=client)
    envelope = (
        _read(acknowledgement)
        if acknowledgement.exists()
        else acknowledge(
            client.deployment(),
            deployment.authority,
            now=datetime.now(UTC),
            successors=_successors(witnesses, quorum, no_witnesses=no_witnesses),
        )
    )
    document = read_acknowledgement(envelope)
    stderr.print("[bold]You sign that this is the newest log of the deployment:[/]")
    rows = [
        ("deployment", document.deployment),
        ("log", f"{document.log_size} entries, root {document.log_root.hex()}"),
        ("replica's nonce", document.nonce.hex()),
        ("made", document.created_at.isoformat()),
        *_succession(document),
    ]
    stderr.print(facts(rows))
    for key in keys:
        signing = read_signing_key(key)
        if signing.public not in deployment.owner_keys:
            raise ConfigurationError(f"{key}: is none of the deployment owners'")
        envelope = envelope.with_signature(signing)
    signed = len(envelope.signers(deployment.owner_keys))
    if signed < deployment.authority.threshold:
        write_atomically(acknowledgement, envelope.to_json())
        missing = deployment.authority.threshold - signed
        click.echo(f"{acknowledgement}: signed; {missing} more owner(s) sign it with the same command")
        return
    reply = client.acknowledge(envelope)
    acknowledgement.unlink(missing_ok=True)
    click.echo(f"{replica}: is {reply.state}, with a log of {reply.log_size} entries")


def _change(
    resource: str, body: bytes, *, trust: Path, gateway: str, keys: tuple[Path, ...], output: Path | None
) -> None:
    deployment = connect(trust, gateway)
    path = output or Path(f"{resource.rpartition('/')[2]}.change.json")
    sign_and_send(deployment, draft(deployment, resource, body), keys=keys, output=path)


def _successors(
    witnesses: tuple[str, ...], quorum: int | None, *, no_witnesses: bool
) -> WitnessesDocument | None:
    if no_witnesses and witnesses:
        raise ConfigurationError("--no-witnesses: expected no --witness beside it")
    if not witnesses and not no_witnesses:
        return None
    body = witnesses_body([read_witness(text) for text in witnesses], quorum=quorum)
    return msgspec.json.decode(body, type=WitnessesDocument)


def _succession(document: Acknowledgement) -> list[tuple[str, str]]:
    """Return what an acknowledgement makes of the witnesses, as rows."""
    if document.successors is None:
        return [("witnesses", "stay as they are, and have to cosign it")]
    named = document.successors
    told = f"REPLACED without the word of those before: {named.witness_quorum} of {len(named.witnesses)}"
    return [("witnesses", told), *(("", witness) for witness in named.witnesses)]


def _read(path: Path) -> Envelope:
    return parse_envelope(read_limited(path, limit_bytes=ENVELOPE_LIMIT_BYTES, what="acknowledgement"))
