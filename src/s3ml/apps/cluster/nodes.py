"""The nodes of a local cluster: names, and where it is asked for an EPC each, EMULATED by memory groups.

All of them are this machine. An emulated EPC needs root; what it changed of the machine is restored when the
cluster stops, or by `s3ml epc-emulate down` where the cluster was killed.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from s3ml.tee_memory.emulated import EmulatedNode


def node_names(count: int) -> tuple[str, ...]:
    """Return the names of that many nodes."""
    return tuple(f"n{number + 1}" for number in range(count))


class Nodes:
    """The nodes of one cluster.

    Args:
        count: How many.
        epc_bytes: The EPC of each, EMULATED; None for none.
    """

    def __init__(self, count: int, *, epc_bytes: int | None) -> None:
        self.names = node_names(count)
        self._epc_bytes = epc_bytes
        self._emulated: dict[str, EmulatedNode] = {}

    @property
    def emulated(self) -> Mapping[str, str]:
        """What `s3ml epc-emulate` calls each node; empty where none has an EPC."""
        return {name: node.name for name, node in self._emulated.items()}

    def up(self) -> None:
        """Bring the emulated nodes up, if there are any.

        Raises:
            ConfigurationError: not root, or a size that is none.
            UnavailableError: this machine lacks what it takes.
        """
        if self._epc_bytes is None:
            return
        for name in self.names:
            # Another cluster of this machine has nodes of its own.
            node = EmulatedNode(name=f"up-{os.getpid()}-{name}")
            self._emulated[name] = node
            node.up(size_bytes=self._epc_bytes)

    def memory_group(self, node: str, server: str) -> Path | None:
        """Return the group that a server on a node enters, made for it; None without an emulated EPC.

        Raises:
            ConfigurationError: the node is not up.
            UnavailableError: the kernel refuses.
        """
        emulated = self._emulated.get(node)
        if emulated is None:
            return None
        group = emulated.existing_group().server(server)
        group.create()
        return group.path

    def source(self, node: str) -> str:
        """Return what an agent of a node is to read."""
        emulated = self._emulated.get(node)
        return "simulated" if emulated is None else f"emulated:{emulated.name}"

    def down(self) -> None:
        """Bring the emulated nodes down, once nothing runs in them.

        Raises:
            UnavailableError: a setting of the machine could not be restored.
        """
        while self._emulated:
            _, node = self._emulated.popitem()
            node.down()
