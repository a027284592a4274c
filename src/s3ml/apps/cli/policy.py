"""`s3ml policy`: what code a service's replicas may run."""

from dataclasses import asdict
from pathlib import Path

import click
from rich.markup import escape

from s3ml.apps.cli.connection import connect
from s3ml.apps.cli.console import print_json, warn_about_simulation
from s3ml.apps.cli.options import (
    FILE,
    allow_simulated_option,
    gateway_option,
    json_option,
    keys_option,
    simulates_option,
    simulation_root_option,
    trust_option,
)
from s3ml.apps.cli.policy_view import print_diff, print_explanation, print_findings
from s3ml.apps.cli.signing import draft, read_message, sign_and_send
from s3ml.apps.cli.withdrawal import delete_policy_command
from s3ml.apps.governance.policies import (
    Role,
    policy_document,
    read_policy,
    read_root,
)
from s3ml.attestation import AppraisalPolicy, Technology, parse_policy
from s3ml.attestation.policy.diff import diff_policies
from s3ml.attestation.policy.explain import explain_policy
from s3ml.attestation.policy.lint import RULES, Severity, lint_policy
from s3ml.attestation.policy.schema import encode_policy_schema
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.files import write_atomically
from s3ml.primitives.names import check_name

EXIT_FOUND = 1


@click.group("policy")
def command() -> None:
    """Owners: write, check, compare, sign and delete policies."""


command.add_command(delete_policy_command)


@command.command("new")
@click.argument("role", type=click.Choice(["key-service", "model-server"]))
@allow_simulated_option
@simulation_root_option
@simulates_option
@click.option("-o", "--output", type=FILE, required=True)
def new_command(
    role: Role,
    *,
    allow_simulated: bool,
    simulation_root: Path | None,
    simulates: Technology,
    output: Path,
) -> None:
    """Write a policy that accepts the installed code of ROLE and nothing else, for owners to sign."""
    if not allow_simulated or simulation_root is None:
        raise ConfigurationError(
            "policy: the installed code can be measured for the simulated platform only: "
            "give --allow-simulated and --simulation-root FILE"
        )
    write_atomically(output, policy_document(role, root=read_root(simulation_root), simulates=simulates))
    click.echo(f"{output}: written")


@command.command("lint")
@click.argument("file", type=FILE)
@json_option
def lint_command(file: Path, *, as_json: bool) -> None:
    """Check the policy in FILE against the rules that auditors would apply.

    Each finding has the number of its rule, a severity (error, warning, note) and a remedy. Exit status 0
    without errors, 1 with errors, 2 when the file is no policy.
    """
    _, policy = read_policy(file)
    findings = lint_policy(policy)
    if as_json:
        print_json({"rules": len(RULES), "findings": [asdict(finding) for finding in findings]})
    else:
        print_findings(findings, file=file)
    if any(finding.severity is Severity.ERROR for finding in findings):
        raise click.exceptions.Exit(EXIT_FOUND)


@command.command("explain")
@click.argument("file", type=FILE)
@json_option
def explain_command(file: Path, *, as_json: bool) -> None:
    """Say in plain words what the policy in FILE accepts; what it leaves open is in capitals."""
    _, policy = read_policy(file)
    if as_json:
        alternatives = [asdict(one) for one in explain_policy(policy)]
        print_json({"is_simulated": policy.is_simulated, "alternatives": alternatives})
        return
    _warn(policy)
    print_explanation(explain_policy(policy))


@command.command("diff")
@click.argument("old", type=FILE)
@click.argument("new", type=FILE)
@json_option
def diff_command(old: Path, new: Path, *, as_json: bool) -> None:
    """Show what replacing the policy in OLD by that in NEW widens and narrows.

    The verdict is computed: identical, narrower, wider, both (some of each), or incomparable (nothing in
    common).

    Exit status, like that of diff(1): 0 when NEW accepts nothing that OLD does not (identical or narrower),
    1 when it does, 2 when a file is no policy.
    """
    _, before = read_policy(old)
    _, after = read_policy(new)
    diff = diff_policies(before, after)
    if as_json:
        print_json(asdict(diff))
    else:
        _warn(after)
        print_diff(diff)
    if diff.verdict.is_wider:
        raise click.exceptions.Exit(EXIT_FOUND)


@command.command("schema")
def schema_command() -> None:
    """Print the JSON Schema (draft 2020-12) of policies, for editors and other tools."""
    click.echo(encode_policy_schema().decode(), nl=False)


@command.command("sign")
@click.argument("file", type=FILE)
@click.option("--name", help="What to call the policy. [default: the file's name without its ending]")
@trust_option
@gateway_option
@keys_option
@click.option("-o", "--output", type=FILE, help="Where the message waits for more signatures.")
def sign_command(
    file: Path, *, name: str | None, trust: Path, gateway: str, keys: tuple[Path, ...], output: Path | None
) -> None:
    """Sign the policy in FILE, or the message in FILE that another owner signed before.

    Shows in plain words what the policy accepts, and every error that lint finds, before it signs. Once
    enough owners signed, the change is sent to the key service.
    """
    message = read_message(file)
    if message is None:
        body, _ = read_policy(file)
        name = check_name(name or file.stem, what="policy name")
        deployment = connect(trust, gateway)
        message = draft(deployment, f"policies/{name}", body)
        output = output or file.with_name(f"{name}.policy.json")
    else:
        deployment = connect(trust, gateway)
        output = output or file
    sign_and_send(
        deployment,
        message,
        keys=keys,
        output=output,
        remarks=_remarks(message.body),
    )


def _remarks(body: bytes) -> list[str]:
    """Return every error that lint finds in a policy."""
    errors = [one for one in lint_policy(parse_policy(body)) if one.severity is Severity.ERROR]
    return [
        f"[bold white on red] {one.rule} [/] alternative {one.alternative}: {escape(one.message)}"
        for one in errors
    ]


def _warn(policy: AppraisalPolicy) -> None:
    if policy.is_simulated:
        warn_about_simulation("this policy accepts a platform that protects nothing.")
