"""`s3ml up`: a local cluster in the foreground, as its operator runs it."""

from pathlib import Path

import click

from s3ml.apps.cli.console import facts, print_json, stderr, stdout, warn_about
from s3ml.apps.cli.options import FILE, FOLDER, json_option, simulates_option
from s3ml.apps.cluster import ClusterFolder, ClusterOptions, Interruption, LocalCluster, Stopped
from s3ml.apps.cluster.options import NODES_LIMIT
from s3ml.attestation import Technology
from s3ml.attestation.simulated.collateral import TCB_STATES
from s3ml.attestation.simulated.quoter import DEFAULT_TCB_STATE
from s3ml.modelserver.settings import DEFAULT_MODEL_MEMORY_BYTES
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.files import read_limited
from s3ml.primitives.units import MIB
from s3ml.scheduling.balancer.policies import POLICIES
from s3ml.scheduling.balancer.settings import Steering
from s3ml.scheduling.model import MODEL_LIMIT_BYTES, parse_model

_HEAL_INTERVAL_S = 0.5
DEFAULT_REPLICAS = 3


@click.command("up")
@click.argument("services", nargs=-1)
@click.option(
    "--replicas",
    type=click.IntRange(1),
    help="Replicas of each service, spread over the nodes. [default: 3]",
)
@click.option(
    "--nodes",
    type=click.IntRange(1, NODES_LIMIT),
    default=1,
    show_default=True,
    help="Nodes to spread replicas over, each with an agent; all are this machine.",
)
@click.option("--replicas-per-node", type=click.IntRange(1), help="Instead of --replicas.")
@click.option(
    "--balancer",
    metavar="POLICY",
    help="Run a balancer with this policy: see s3ml balancer. [default: the gateway balances by itself]",
)
@click.option("--costs", type=FILE, help="What a model costs, for the balancer: see s3ml balancer run.")
@click.option(
    "--epc",
    "epc_mib",
    metavar="MIB",
    type=click.IntRange(4, 1 << 24),
    help="Give each node an EPC of so many MiB, EMULATED by a memory cgroup; as root.",
)
@click.option(
    "--steering",
    type=click.Choice([str(steering) for steering in Steering]),
    help="How the balancer steers the gateway: by weights, or by a pick for each request. [default: weights]",
)
@click.option(
    "--port", type=click.IntRange(1, 65535), help="The gateway's port. [default: 8080, or a free one]"
)
@click.option("--state", type=FOLDER, help="Keep the cluster's files here. [default: a temporary folder]")
@click.option(
    "--key-services",
    default=1,
    show_default=True,
    help="Replicas of the key service; several share the database that --database names.",
)
@click.option(
    "--database",
    metavar="URL",
    envvar="S3ML_UP_DATABASE",
    help="The key service's database, postgresql://… [default: a file; env: S3ML_UP_DATABASE]",
)
@click.option(
    "--witness", "witnesses", metavar="URL", multiple=True, help="Where a witness listens; repeat it."
)
@click.option(
    "--threads",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Batches that a replica computes at the same time.",
)
@click.option(
    "--model-memory",
    "model_memory_mib",
    metavar="MIB",
    type=click.IntRange(1),
    default=DEFAULT_MODEL_MEMORY_BYTES // MIB,
    show_default=True,
    help="What the models of a replica may hold of memory.",
)
@simulates_option
@click.option(
    "--tcb",
    type=click.Choice(list(TCB_STATES)),
    default=DEFAULT_TCB_STATE,
    show_default=True,
    help="What the simulated vendor says of the platform's trusted computing base.",
)
@json_option
def command(
    services: tuple[str, ...],
    *,
    replicas: int | None,
    nodes: int,
    replicas_per_node: int | None,
    balancer: str | None,
    costs: Path | None,
    epc_mib: int | None,
    steering: str | None,
    port: int | None,
    state: Path | None,
    threads: int,
    model_memory_mib: int,
    key_services: int,
    database: str | None,
    witnesses: tuple[str, ...],
    simulates: Technology,
    tcb: str,
    as_json: bool,
) -> None:
    """Run a local cluster for SERVICES (by default one named `default`) until interrupted.

    Platform, key service, replicas and gateway run as processes of their own on free ports of loopback, and
    all end with this command. Replicas wait, unready, until the owners and model owners gave them something
    to serve. What is printed are addresses; trust is the owners' to give.
    """
    options = ClusterOptions(
        services=services or ("default",),
        replicas=_replicas(replicas, nodes, replicas_per_node),
        nodes=nodes,
        balancer=balancer,
        steering=_steering(balancer, steering, costs),
        costs=costs,
        epc_bytes=None if epc_mib is None else epc_mib * MIB,
        port=port,
        inference_threads=threads,
        model_memory_bytes=model_memory_mib * MIB,
        simulates=simulates,
        tcb=tcb,
        key_services=key_services,
        database=database,
        witnesses=witnesses,
    )
    interruption = Interruption()
    folder = ClusterFolder.create(state)
    warn_about(is_simulated=True, is_fork_protected=bool(witnesses))
    try:
        with LocalCluster(
            options,
            folder,
            report=lambda line: stderr.print(f"[dim]{line}[/]"),
            held=interruption.held,
        ) as cluster:
            _print_endpoints(cluster, options, as_json=as_json)
            _watch(cluster, interruption)
    except Stopped:
        stderr.print("stopping")
    finally:
        folder.remove()
    stderr.print("stopped; nothing is left running")


def _replicas(replicas: int | None, nodes: int, replicas_per_node: int | None) -> int:
    if replicas_per_node is None:
        return max(nodes, DEFAULT_REPLICAS) if replicas is None else replicas
    if replicas is not None:
        raise ConfigurationError("up: expected --replicas or --replicas-per-node, got both")
    return nodes * replicas_per_node


def _steering(balancer: str | None, steering: str | None, costs: Path | None) -> Steering:
    """Check what cannot work before anything starts."""
    if balancer is None:
        if steering is not None:
            raise ConfigurationError("up: --steering says how a balancer steers: expected --balancer as well")
        if costs is not None:
            raise ConfigurationError(
                "up: --costs is what a balancer predicts by: expected --balancer as well"
            )
        return Steering.WEIGHTS
    if balancer not in POLICIES:
        raise ConfigurationError(
            f"up: --balancer: expected one of {', '.join(POLICIES)}, got {balancer[:80]!r}"
        )
    if costs is not None:
        parse_model(read_limited(costs, limit_bytes=MODEL_LIMIT_BYTES, what="model costs"))
    return Steering(steering or Steering.WEIGHTS)


def _print_endpoints(cluster: LocalCluster, options: ClusterOptions, *, as_json: bool) -> None:
    endpoints = cluster.endpoints
    if as_json:
        print_json(
            {
                "gateway": endpoints.gateway,
                "simulation_root": str(endpoints.simulation_root),
                "store": str(endpoints.store),
                "services": options.services,
                "replicas": [replica.address for replica in cluster.replicas],
                "key_services": [replica.address for replica in cluster.key_services],
                "nodes": dict(cluster.balancing.urls),
                "balancer": None if cluster.balancing.control is None else str(cluster.balancing.control),
                "emulated_nodes": dict(cluster.nodes.emulated),
                "is_simulated": True,
                "is_fork_protected": bool(options.witnesses),
            }
        )
        return
    rows = [
        ("gateway", endpoints.gateway),
        ("services", ", ".join(options.services)),
        ("replicas", ", ".join(f"{replica.name} ({replica.address})" for replica in cluster.replicas)),
        ("key service", ", ".join(replica.address for replica in cluster.key_services)),
        *_balancing(cluster, options),
        ("simulation root", str(endpoints.simulation_root)),
        ("bundle store", str(endpoints.store)),
    ]
    stdout.print(facts(rows))
    stdout.print("Addresses, not trust: that is the owners' to give. Ctrl-C stops everything.")


def _balancing(cluster: LocalCluster, options: ClusterOptions) -> list[tuple[str, str]]:
    """Say where the agents and the balancer answer, and what the agents read that is no TEE's."""
    agents = ", ".join(f"{node} ({url})" for node, url in cluster.balancing.urls.items())
    emulated = ", ".join(cluster.nodes.emulated.values())
    kind = f"EMULATED EPC of {emulated}" if emulated else "SIMULATED readings"
    rows = [("node agents", f"{agents}: {kind}")] if agents else []
    if cluster.balancing.control is not None:
        rows.append(("balancer", f"{options.balancer} by {options.steering}: {cluster.balancing.control}"))
    return rows


def _watch(cluster: LocalCluster, interruption: Interruption) -> None:
    """Heal, and say what changed about each replica, until told to stop."""
    told: dict[str, str] = {}
    while not interruption.asked.wait(_HEAL_INTERVAL_S):
        for line in cluster.heal():
            stderr.print(line, style="yellow", markup=False)
        for replica in cluster.replicas:
            state = cluster.readiness(replica)
            line = "is ready" if state.is_ready else f"is not ready: {state.detail}"
            if told.get(replica.name) != line:
                told[replica.name] = line
                style = "green" if state.is_ready else "yellow"
                stderr.print(f"replica {replica.name} {line}", style=style, markup=False)
