"""`s3ml status`: where a deployment stands, as its operator reports it."""

import click
import msgspec

from s3ml.apps.cli.connection import key_service_at
from s3ml.apps.cli.console import facts, print_json, stdout, warn_about
from s3ml.apps.cli.options import gateway_option, json_option
from s3ml.keyservice.documents import DeploymentReply, ResourcesReply, ServiceDocument


@click.command("status")
@gateway_option
@json_option
def command(*, gateway: str, as_json: bool) -> None:
    """Show the deployment behind the gateway: unverified, as the key service reports it."""
    client = key_service_at(gateway)
    reply = client.deployment()
    resources = client.resources() if reply.state == "serving" else ResourcesReply(resources=())
    if as_json:
        print_json(
            {
                "gateway": gateway,
                "state": reply.state,
                "deployment": reply.deployment,
                "log_size": _log_size(reply),
                "is_simulated": reply.is_simulated,
                "is_fork_protected": reply.is_fork_protected,
                "resources": {found.resource: found.resource_version for found in resources.resources},
            }
        )
        return
    warn_about(is_simulated=reply.is_simulated, is_fork_protected=reply.is_fork_protected)
    rows = [("gateway", gateway), ("state", reply.state)]
    if reply.deployment is not None:
        rows.append(("deployment", reply.deployment))
        rows.append(("log", f"{_log_size(reply)} entries"))
    for found in resources.resources:
        detail = f"version {found.resource_version}, entry {found.log_index}"
        if found.resource.startswith("services/"):
            document = msgspec.json.decode(found.body, type=ServiceDocument)
            detail += f", {len(document.models)} model version(s) under policy {document.policy}"
        rows.append((found.resource, detail))
    stdout.print(facts(rows))
    if reply.state == "uninitialised":
        stdout.print("The owners have not begun a deployment yet: s3ml deployment propose | sign | init")


def _log_size(reply: DeploymentReply) -> int:
    """Return the size that the checkpoint states in its second line, 0 where there is none."""
    lines = (reply.checkpoint or "").splitlines()
    return int(lines[1]) if len(lines) > 1 and lines[1].isascii() and lines[1].isdigit() else 0
