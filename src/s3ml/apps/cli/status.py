"""`s3ml status`: where a deployment and its key service stand, as their operator reports it."""

from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec

from s3ml.apps.balancing.control import read_status
from s3ml.apps.cli.balancer_view import describe
from s3ml.apps.cli.connection import key_service_at
from s3ml.apps.cli.console import facts, print_json, stdout, warn_about
from s3ml.apps.cli.options import FILE, gateway_option, json_option
from s3ml.keyservice.client import KeyServiceClient
from s3ml.keyservice.documents import ResourceReply, ResourcesReply, ServiceDocument, StatusReply

_ID_DIGITS = 12


@click.command("status")
@gateway_option
@click.option(
    "--replica",
    "replicas",
    metavar="URL",
    multiple=True,
    help="Ask this replica of the key service itself, up to before /v1; repeat it. [default: the gateway]",
)
@click.option(
    "--balancer",
    type=FILE,
    envvar="S3ML_BALANCER",
    help="Show the balancer behind this Unix socket as well. [env: S3ML_BALANCER]",
)
@json_option
def command(*, gateway: str, replicas: tuple[str, ...], balancer: Path | None, as_json: bool) -> None:
    """Show the deployment and its key service: unverified, as they report it.

    Owners, witnesses, epochs, who is present and which resources hold come from the log; each replica that is
    asked says where it stands and, if it does not serve, why.
    """
    clients = [KeyServiceClient(url) for url in replicas] or [key_service_at(gateway)]
    found = [client.status() for client in clients]
    newest = max(found, key=lambda one: one.deployment.log_size)
    client = clients[found.index(newest)]
    resources = client.resources() if newest.deployment.deployment else ResourcesReply(resources=())
    balancing = None if balancer is None else read_status(balancer)
    if as_json:
        document = _document(gateway, newest, found, resources)
        print_json(document if balancing is None else document | {"balancer": balancing})
        return
    deployment = newest.deployment
    warn_about(is_simulated=deployment.is_simulated, is_fork_protected=deployment.is_fork_protected)
    balancers = [] if balancing is None else [("balancer", describe(balancing))]
    stdout.print(facts([("gateway", gateway), *_deployment(newest), *_replicas(found), *balancers]))
    if deployment.deployment is None:
        stdout.print("The owners have not begun a deployment yet: s3ml deployment propose | sign | init")
        return
    stdout.print(facts([*_log(newest), *(_resource(one) for one in resources.resources)]))


def _document(
    gateway: str, newest: StatusReply, found: list[StatusReply], resources: ResourcesReply
) -> dict[str, object]:
    deployment = newest.deployment
    return {
        "gateway": gateway,
        "state": deployment.state,
        "deployment": deployment.deployment,
        "log_size": deployment.log_size,
        "is_simulated": deployment.is_simulated,
        "is_fork_protected": deployment.is_fork_protected,
        "resources": {one.resource: one.resource_version for one in resources.resources},
        "owners": newest.owners,
        "threshold": newest.threshold,
        "quorum": newest.quorum,
        "witnesses": msgspec.to_builtins(newest.witnesses),
        "presence": msgspec.to_builtins(newest.presence),
        "epochs": msgspec.to_builtins(newest.epochs),
        "recovery": {"threshold": newest.recovery_threshold, "holders": newest.recovery_holders},
        "keys_number": newest.keys_number,
        "audit": {"committed": newest.audit_records, "waiting": newest.audit_waiting},
        "replicas": [
            {
                "replica": one.deployment.replica,
                "state": one.deployment.state,
                "log_size": one.deployment.log_size,
                "trouble": one.deployment.trouble,
            }
            for one in found
        ],
    }


def _deployment(status: StatusReply) -> list[tuple[str, str]]:
    deployment = status.deployment
    rows: list[tuple[str, str]] = [("state", deployment.state)]
    if deployment.deployment is not None:
        rows += [
            ("deployment", deployment.deployment),
            ("governed by", f"{status.threshold} of {len(status.owners)}: {', '.join(status.owners)}"),
            ("keys", f"number {status.keys_number}"),
        ]
    return rows


def _replicas(found: list[StatusReply]) -> list[tuple[str, str]]:
    rows = []
    for status in found:
        one = status.deployment
        line = f"{one.state}, {one.log_size} entries"
        rows.append(
            (f"replica {one.replica[:_ID_DIGITS]}", f"{line}: {one.trouble}" if one.trouble else line)
        )
    return rows


def _log(status: StatusReply) -> list[tuple[str, str]]:
    now = datetime.now(UTC)
    rows = [("log", f"{status.deployment.log_size} entries")]
    for witness in status.witnesses:
        at = witness.cosigned_at
        told = "has NOT cosigned the newest head" if at is None else f"cosigned {_ago(now, at)}"
        rows.append((f"witness {witness.name}", told))
    rows += [
        (f"present {one.replica[:_ID_DIGITS]}", f"seen {_ago(now, one.seen_at)}") for one in status.presence
    ]
    for epoch in status.epochs:
        held = "" if epoch.is_held else "; this replica LACKS its generation key"
        rows.append(
            (f"epoch {epoch.epoch} of {epoch.service}", f"{epoch.state}, {_ago(now, epoch.since)}{held}")
        )
    holders = ", ".join(status.recovery_holders)
    told = f"{status.recovery_threshold} of {len(status.recovery_holders)}: {holders}"
    rows.append(("recovery", told if holders else "nobody holds shares: s3ml recovery sign"))
    rows.append(("audit", f"{status.audit_records} records committed, {status.audit_waiting} waiting"))
    return rows


def _resource(found: ResourceReply) -> tuple[str, str]:
    detail = f"version {found.resource_version}, entry {found.log_index}"
    if found.resource.startswith("services/"):
        document = msgspec.json.decode(found.body, type=ServiceDocument)
        detail += f", {len(document.models)} model version(s) under policy {document.policy}"
    return found.resource, detail


def _ago(now: datetime, at: datetime) -> str:
    seconds = max(0, int((now - at).total_seconds()))
    return f"{seconds} s ago" if seconds < 600 else f"at {at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"  # noqa: PLR2004
