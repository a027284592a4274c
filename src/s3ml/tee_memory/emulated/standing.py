"""Where the emulated nodes of a machine stand: for people, and as JSON for scripts."""

import contextlib
from enum import StrEnum
from typing import Literal

import msgspec

from s3ml.primitives.errors import S3MLError
from s3ml.tee_memory.emulated.holder import is_alive
from s3ml.tee_memory.emulated.host import Host, find_lacks
from s3ml.tee_memory.emulated.node import EmulatedNode
from s3ml.tee_memory.emulated.source import EmulatedSource
from s3ml.tee_memory.emulated.state import Registry, State


class Health(StrEnum):
    """What state a node is in."""

    UP = "up"
    """It works."""
    UNRELIEVED = "unrelieved"
    """Its holder is gone: who finds no room in it waits for ever."""
    HALF_DONE = "half-done"
    """A command that brought it up or down was killed."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What a node or one of its servers has in the EPC and out of it, and what came back so far."""

    resident_bytes: int
    evicted_bytes: int
    page_ins: int


class ServerStanding(msgspec.Struct, frozen=True, kw_only=True):
    """A server of a node; its usage is None once it is gone."""

    name: str
    usage: Usage | None


class NodeStanding(msgspec.Struct, frozen=True, kw_only=True):
    """A node.

    Attributes:
        holder_pid: The process that relieves it.
        processes: What runs in it.
    """

    name: str
    health: Health
    size_bytes: int
    holder_pid: int | None
    processes: tuple[int, ...]
    usage: Usage | None
    servers: tuple[ServerStanding, ...]


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """All of it.

    Attributes:
        is_emulated: Always: no figure of it is one of SGX hardware.
        is_restored: Whether no setting of the machine is changed.
        lacks: What this machine lacks for a node, in a few words each.
        swap_device: What the nodes page to.
    """

    is_emulated: Literal[True] = True
    is_restored: bool
    lacks: tuple[str, ...]
    swap_device: str | None
    nodes: tuple[NodeStanding, ...]


def look(registry: Registry, host: Host) -> Standing:
    """Return where the nodes of this machine stand.

    Raises:
        ConfigurationError: the state cannot be read.
        UnavailableError: the kernel does not tell which run of it this is.
    """
    state = registry.read()
    lacks = find_lacks(host, is_root=True)
    if state is None or state.boot_id != host.boot_id:
        return Standing(is_restored=True, lacks=lacks, swap_device=None, nodes=())
    device = state.swap.device
    return Standing(
        is_restored=False,
        lacks=lacks,
        swap_device=None if device is None else f"/dev/zram{device}",
        nodes=tuple(
            _node(state, EmulatedNode(name=name, registry=registry, host=host))
            for name in sorted(state.nodes)
        ),
    )


def _node(state: State, node: EmulatedNode) -> NodeStanding:
    known = state.nodes[node.name]
    group = node.group()
    if known.holder is None or not group.is_there:
        health = Health.HALF_DONE
    else:
        health = Health.UP if is_alive(known.holder) else Health.UNRELIEVED
    usage = None
    servers: tuple[ServerStanding, ...] = ()
    with contextlib.suppress(S3MLError):
        usage = _usage(node.source())
        servers = tuple(_server(node, name) for name in node.servers())
    return NodeStanding(
        name=node.name,
        health=health,
        size_bytes=known.size_bytes,
        holder_pid=None if known.holder is None else known.holder.pid,
        processes=group.members(),
        usage=usage,
        servers=servers,
    )


def _server(node: EmulatedNode, name: str) -> ServerStanding:
    usage = None
    with contextlib.suppress(S3MLError):
        usage = _usage(node.server_source(name))
    return ServerStanding(name=name, usage=usage)


def _usage(source: EmulatedSource) -> Usage:
    with contextlib.closing(source):
        counts = source.count()
    return Usage(
        resident_bytes=counts.resident_bytes or 0,
        evicted_bytes=counts.evicted_bytes or 0,
        page_ins=counts.page_ins or 0,
    )
