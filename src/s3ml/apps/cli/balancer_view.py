"""A balancer's status as tables: replicas with what they get and why, nodes with what they read."""

from rich.console import Console
from rich.table import Table

from s3ml.apps.cli.console import facts, stderr, stdout
from s3ml.primitives.units import MIB
from s3ml.scheduling.balancer.status import BalancerStatus, NodeStatus, ReplicaStatus, ServiceStatus
from s3ml.tee_memory.reading import Kind

_UNKNOWN = "-"
_PADDING = (0, 2, 0, 0)
_LEAST_WIDTH = 120
_LINES = {
    Kind.SIMULATED: "[bold white on red] SIMULATED [/] readings come from a model; nothing is measured.",
    Kind.EMULATED: "[bold white on red] EMULATED [/] readings are of ordinary memory that is made to page.",
}


def print_status(status: BalancerStatus) -> None:
    """Print all of it."""
    kinds = {node.kind for node in status.nodes}
    for kind, line in _LINES.items():
        if kind in kinds:
            stderr.print(line)
    rows = [("policy", status.policy), ("steering", status.steering)]
    if status.is_gateway_lost:
        rows.append(("gateway", "does not answer: it keeps the last weights"))
    stdout.print(facts(rows))
    # Tables that fit beat tables that are cut, also where no terminal says its width.
    wide = Console(highlight=False, width=max(stdout.width, _LEAST_WIDTH))
    paging = {node.node: node for node in status.nodes}
    for service in status.services:
        wide.print(_replicas(service, paging))
        if service.is_fallback:
            stdout.print(f"service {service.service} falls back: its readings cannot be relied on")
    if status.nodes:
        wide.print(_nodes(status.nodes))


def describe(status: BalancerStatus) -> str:
    """Return one line for other commands' tables."""
    replicas = [replica for service in status.services for replica in service.replicas]
    ready = sum(replica.is_ready for replica in replicas)
    line = f"{status.policy} by {status.steering}, {ready} of {len(replicas)} replicas ready"
    fallen = [service.service for service in status.services if service.is_fallback]
    return f"{line}; falls back for {', '.join(fallen)}" if fallen else line


def _replicas(service: ServiceStatus, nodes: dict[str, NodeStatus]) -> Table:
    table = Table(
        "replica",
        "node",
        "ready",
        "in flight",
        "latency ms",
        "page-ins/s",
        "share",
        "weight",
        "why",
        box=None,
        padding=_PADDING,
        title=f"service {service.service}",
        title_justify="left",
    )
    for replica in service.replicas:
        table.add_row(*_row(replica, nodes.get(replica.node)))
    return table


def _row(replica: ReplicaStatus, node: NodeStatus | None) -> tuple[str, ...]:
    return (
        replica.name,
        replica.node,
        "yes" if replica.is_ready else "no",
        str(replica.in_flight),
        _number(replica.latency_ms, 1),
        _number(None if node is None else node.page_ins_per_s, 0),
        f"{100 * replica.share:.0f} %",
        str(replica.weight),
        str(replica.reason),
    )


def _nodes(nodes: tuple[NodeStatus, ...]) -> Table:
    table = Table(
        "node",
        "reads",
        "age s",
        "capacity MiB",
        "evicted MiB",
        "page-ins/s",
        "pressure",
        box=None,
        padding=_PADDING,
        title="nodes",
        title_justify="left",
    )
    for node in nodes:
        reads = "nothing: no agent answers" if node.kind is None else f"{node.kind}: {node.source}"
        table.add_row(
            node.node,
            reads,
            _number(node.age_s, 1),
            _mib(node.capacity_bytes),
            _mib(node.evicted_bytes),
            _number(node.page_ins_per_s, 0),
            _number(node.pressure, 2),
        )
    return table


def _number(value: float | None, digits: int) -> str:
    return _UNKNOWN if value is None else f"{value:.{digits}f}"


def _mib(value: int | None) -> str:
    return _UNKNOWN if value is None else f"{value / MIB:.0f}"
