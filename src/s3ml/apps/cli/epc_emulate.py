"""`s3ml epc-emulate`: nodes whose EPC is EMULATED by a memory cgroup: contention and paging without SGX."""

import os
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from s3ml.apps.cli.console import print_json, stderr, stdout
from s3ml.apps.cli.options import FOLDER, json_option
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.units import MIB
from s3ml.tee_memory.emulated import EmulatedNode, Host, Registry
from s3ml.tee_memory.emulated.entry import execute_inside
from s3ml.tee_memory.emulated.standing import Health, NodeStanding, Standing, Usage, look
from s3ml.tee_memory.emulated.state import STATE_FOLDER

EMULATED_LINE = "a memory cgroup plays the EPC: contention and paging, no encryption, no SGX hardware."
_COLUMNS = (
    "node",
    "server",
    "state",
    "size\nMiB",
    "resident\nMiB",
    "evicted\nMiB",
    "pages\nback",
    "processes",
)
_LARGEST_MIB = 1 << 24
_WIDTH = 240

_node_argument = click.argument("name", metavar="NODE")
_size_option = click.option(
    "--size",
    "size_mib",
    metavar="MIB",
    type=click.IntRange(4, _LARGEST_MIB),
    required=True,
    help="The size of its EPC in MiB.",
)
_state_option = click.option(
    "--state",
    "folder",
    type=FOLDER,
    default=STATE_FOLDER,
    show_default=True,
    help="Where it is written down what has to be restored; one folder for all nodes of a machine.",
)


@click.group("epc-emulate")
def command() -> None:
    """Play nodes with a small EPC on this machine: EMULATED, as root.

    What runs in a node shares a memory of hard size, and pages to compressed memory, at about the cost of an
    SGX page. Nothing is encrypted, and no figure of it is one of SGX hardware.
    """


@command.command("up")
@_node_argument
@_size_option
@_state_option
def up(name: str, *, size_mib: int, folder: Path) -> None:
    """Bring NODE up, with an EPC of so many MiB.

    The first node changes settings of this machine (swap to zram, vm.page-cluster); the last `down` restores
    them. A node whose holder was killed is healed, and keeps what runs in it.
    """
    node = _node(name, folder)
    node.up(size_bytes=size_mib * MIB)
    _warn()
    click.echo(f"{name}: up, {size_mib} MiB; s3ml epc-emulate run {name} --server SERVER -- COMMAND")


@command.command("run")
@_node_argument
@click.option(
    "--server", metavar="SERVER", help="What its paging is attributed to. [default: the node alone]"
)
@_state_option
@click.argument("words", metavar="COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
def run(name: str, *, server: str | None, folder: Path, words: tuple[str, ...]) -> None:
    """Run COMMAND in NODE.

    The command takes this process's place once it is inside: its exit status and its signals are this
    process's. It uses small pages alone, as an enclave does.
    """
    node = _node(name, folder)
    node.existing_group()
    _warn()
    execute_inside(node, server, words)


@command.command("resize")
@_node_argument
@_size_option
@_state_option
def resize(name: str, *, size_mib: int, folder: Path) -> None:
    """Give NODE an EPC of another size, while it is used."""
    _node(name, folder).resize(size_mib * MIB)
    click.echo(f"{name}: {size_mib} MiB; EMULATED")


@command.command("status")
@_state_option
@json_option
def status(*, folder: Path, as_json: bool) -> None:
    """Show the nodes of this machine, and what this machine lacks for one."""
    _check_root()
    standing = look(Registry(folder=folder), Host())
    if as_json:
        print_json(standing)
        return
    _warn()
    if not standing.nodes:
        stdout.print(_empty_line(standing))
        return
    # Names are as long as they are: a terminal may wrap them, nothing cuts them.
    Console(highlight=False, width=_WIDTH).print(_table(standing))
    for node in standing.nodes:
        if node.health is not Health.UP:
            stdout.print(_heal_line(node))


@command.command("down")
@_node_argument
@_state_option
def down(name: str, *, folder: Path) -> None:
    """Bring NODE down: what runs in it ends, and the last node restores every setting.

    It completes what a killed command left. A node that is not up is no error.
    """
    node = _node(name, folder)
    was_there = node.down()
    left = look(node.registry, node.host)
    if not was_there:
        click.echo(f"{name}: was not up")
    elif left.is_restored:
        click.echo(f"{name}: down; every setting is as it was")
    else:
        names = ", ".join(one.name for one in left.nodes)
        click.echo(f"{name}: down; the settings stay for {names}")


def _node(name: str, folder: Path) -> EmulatedNode:
    node = EmulatedNode(name=name, registry=Registry(folder=folder))
    _check_root()
    return node


def _check_root() -> None:
    if os.geteuid() != 0:
        raise ConfigurationError("epc-emulate: expected to run as root: it changes settings of this machine")


def _warn() -> None:
    stderr.print(f"[bold black on yellow] EMULATED [/] {EMULATED_LINE}")


def _empty_line(standing: Standing) -> str:
    if not standing.is_restored:
        return (
            "no node is up; a killed command left settings changed: s3ml epc-emulate down NODE restores them"
        )
    lacks = "; ".join(standing.lacks)
    return f"no node is up; this machine lacks {lacks}" if lacks else "no node is up"


def _heal_line(node: NodeStanding) -> str:
    why = "its holder is gone" if node.health is Health.UNRELIEVED else "a command was killed half way"
    size_mib = node.size_bytes // MIB
    return (
        f"{node.name}: {why}: s3ml epc-emulate up {node.name} --size {size_mib}, "
        f"or s3ml epc-emulate down {node.name}"
    )


def _table(standing: Standing) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold cyan")
    for name in _COLUMNS:
        is_word = name in ("node", "server", "state")
        table.add_column(name, justify="left" if is_word else "right", no_wrap=True)
    for node in standing.nodes:
        size_mib = f"{node.size_bytes / MIB:.0f}"
        table.add_row(
            node.name, "", str(node.health), size_mib, *_cells(node.usage), str(len(node.processes))
        )
        for server in node.servers:
            table.add_row("", server.name, "", "", *_cells(server.usage), "")
    return table


def _cells(usage: Usage | None) -> tuple[str, str, str]:
    if usage is None:
        return ("-", "-", "-")
    return (
        f"{usage.resident_bytes / MIB:.1f}",
        f"{usage.evicted_bytes / MIB:.1f}",
        f"{usage.page_ins:,}",
    )
