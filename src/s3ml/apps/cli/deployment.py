"""`s3ml deployment`: how owners begin a deployment."""

from datetime import UTC, datetime
from pathlib import Path

import click

from s3ml.apps.cli.amendments import (
    acknowledge_command,
    key_service_command,
    owners_command,
    witnesses_command,
)
from s3ml.apps.cli.console import facts, stderr, stdout, warn_about
from s3ml.apps.cli.options import (
    FILE,
    allow_simulated_option,
    gateway_option,
    keys_option,
    quorum_option,
    read_owner,
    read_witness,
    simulates_option,
    simulation_root_option,
    witnesses_option,
)
from s3ml.apps.governance.deployments import (
    begin,
    missing_signatures,
    propose,
    read_proposal,
    sign_proposal,
    trust_from,
)
from s3ml.apps.governance.keys import read_signing_key
from s3ml.apps.governance.policies import policy_document, read_policy, read_root
from s3ml.attestation import AppraisalPolicy, Technology, parse_policy
from s3ml.attestation.policy.explain import explain_in_lines
from s3ml.client.trust import Trust
from s3ml.keyservice.client import KeyServiceClient
from s3ml.keyservice.documents import Proposal
from s3ml.primitives.envelope import ENVELOPE_LIMIT_BYTES, Envelope, parse_envelope
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.files import read_limited, write_atomically

KEY_SERVICE_PATH = "/keyservice"


@click.group("deployment")
def command() -> None:
    """Owners: propose, sign and begin a deployment, and change what governs it."""


for amendment in (owners_command, witnesses_command, key_service_command, acknowledge_command):
    command.add_command(amendment)


@command.command("propose")
@click.option(
    "--owner", "owners", multiple=True, required=True, metavar="NAME=FILE.pub", help="An owner; repeat it."
)
@click.option("--threshold", type=click.IntRange(1), required=True, help="How many owners decide.")
@click.option("--policy", type=FILE, help="The key service's policy. [default: accept the installed code]")
@witnesses_option
@quorum_option
@allow_simulated_option
@simulation_root_option
@simulates_option
@click.option("-o", "--output", type=FILE, default=Path("proposal.json"), show_default=True)
def propose_command(
    owners: tuple[str, ...],
    *,
    threshold: int,
    policy: Path | None,
    witnesses: tuple[str, ...],
    quorum: int | None,
    allow_simulated: bool,
    simulation_root: Path | None,
    simulates: Technology,
    output: Path,
) -> None:
    """Write a proposal for the owners to sign."""
    document = _key_service_policy(
        policy, simulation_root, allow_simulated=allow_simulated, simulates=simulates
    )
    envelope = propose(
        [read_owner(text) for text in owners],
        threshold=threshold,
        key_service_policy=document,
        allow_simulated=allow_simulated,
        witnesses=[read_witness(text) for text in witnesses],
        witness_quorum=quorum,
    )
    write_atomically(output, envelope.to_json())
    _show(envelope)
    click.echo(
        f"{output}: written; {threshold} of {len(owners)} owners sign it: s3ml deployment sign {output}"
    )


@command.command("sign")
@click.argument("proposal", type=FILE)
@keys_option
def sign_command(proposal: Path, *, keys: tuple[Path, ...]) -> None:
    """Show what PROPOSAL says, and add signatures to it."""
    envelope = _read(proposal)
    _show(envelope)
    for key in keys:
        envelope = sign_proposal(envelope, read_signing_key(key))
    write_atomically(proposal, envelope.to_json())
    missing = missing_signatures(envelope)
    click.echo(f"{proposal}: signed; " + (f"{missing} more needed" if missing else "enough owners signed"))


@command.command("init")
@click.argument("proposal", type=FILE)
@gateway_option
@allow_simulated_option
@click.option(
    "--accept",
    "accepted",
    multiple=True,
    metavar="SERVICE=POLICY",
    help="Hold clients of SERVICE to POLICY. [default: they follow what the owners sign]",
)
@click.option(
    "--follow-key-service",
    is_flag=True,
    help="Let clients accept upgrades of the key service that owners sign. [default: they stay pinned]",
)
@click.option("-o", "--output", type=FILE, default=Path("trust.toml"), show_default=True)
@click.option("--force", is_flag=True, help="Replace an existing trust file.")
def init_command(
    proposal: Path,
    *,
    gateway: str,
    allow_simulated: bool,
    accepted: tuple[str, ...],
    follow_key_service: bool,
    output: Path,
    force: bool,
) -> None:
    """Begin the deployment of PROPOSAL, verify the evidence, and write the trust file for clients."""
    if output.exists() and not force:
        raise ConfigurationError(f"{output}: exists already; choose another with -o, or use --force")
    service_policies = dict(_accepted(text) for text in accepted)
    client = KeyServiceClient(gateway.rstrip("/") + KEY_SERVICE_PATH)
    genesis = begin(client, _read(proposal), allow_simulated=allow_simulated, now=datetime.now(UTC))
    trust = trust_from(genesis, service_policies=service_policies, follow_key_service=follow_key_service)
    trust.write(output)
    _show_trust(trust, genesis.proposal)
    click.echo(f"{output}: written; give it to clients and model owners out of band")


def _accepted(text: str) -> tuple[str, AppraisalPolicy]:
    service, separator, path = text.partition("=")
    if not separator or not path:
        raise ConfigurationError(f"--accept: expected SERVICE=POLICY, got {text[:80]!r}")
    return service, read_policy(Path(path))[1]


def _key_service_policy(
    policy: Path | None, simulation_root: Path | None, *, allow_simulated: bool, simulates: Technology
) -> bytes:
    if policy is not None:
        return read_policy(policy)[0]
    if simulation_root is None or not allow_simulated:
        raise ConfigurationError(
            "key-service policy: give --policy FILE, or --allow-simulated with --simulation-root FILE"
        )
    return policy_document("key-service", root=read_root(simulation_root), simulates=simulates)


def _read(path: Path) -> Envelope:
    return parse_envelope(read_limited(path, limit_bytes=ENVELOPE_LIMIT_BYTES, what="proposal"))


def _show(envelope: Envelope) -> None:
    proposal = read_proposal(envelope)
    stderr.print("[bold]This proposes a deployment:[/]")
    rows = [("decide", f"{proposal.threshold} of {len(proposal.owners)} owners")]
    rows += [(f"owner {owner.name}", owner.key) for owner in proposal.owners]
    rows += [("key service", line) for line in explain_in_lines(parse_policy(proposal.key_service_policy))]
    rows += _witness_rows(proposal)
    stderr.print(facts(rows))
    warn_about(is_simulated=proposal.allow_simulated, is_fork_protected=proposal.witness_quorum > 0)


def _witness_rows(proposal: Proposal) -> list[tuple[str, str]]:
    if not proposal.witnesses:
        return [("witnesses", "none")]
    told = f"{proposal.witness_quorum} of {len(proposal.witnesses)} commit the log"
    return [("witnesses", told), *(("", witness) for witness in proposal.witnesses)]


def _show_trust(trust: Trust, proposal: Proposal) -> None:
    names = ", ".join(owner.name for owner in proposal.owners)
    rows = [
        ("deployment", trust.deployment),
        ("governed by", f"{proposal.threshold} of {len(proposal.owners)}: {names}"),
        ("evidence", "verified: the key service's code and platform satisfy the owners' policy"),
        ("services", ", ".join(trust.services) or "clients follow what the owners sign"),
    ]
    stdout.print(facts(rows))
    warn_about(is_simulated=trust.allow_simulated, is_fork_protected=proposal.witness_quorum > 0)
