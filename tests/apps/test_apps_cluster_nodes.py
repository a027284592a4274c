"""The nodes of a local cluster: by name alone, or with an emulated EPC each, on this machine as root."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3ml.apps.cluster.nodes import Nodes
from s3ml.tee_memory.emulated import EmulatedNode, Host, find_lacks
from s3ml.tee_memory.reading import Kind
from tests.tee_memory.emulated_machine import MIB, bench

LACKS = find_lacks(Host(), is_root=os.geteuid() == 0)
# Enters the group that it is told, as the platform lets a server do, then uses so many MiB.
SERVER = """
import os, pathlib, sys
pathlib.Path(sys.argv[1], "cgroup.procs").write_text(str(os.getpid()))
memory = bytearray(os.urandom(1 << 20) * int(sys.argv[2]))
print("filled", flush=True)
sys.stdin.read()
"""


class TestNames:
    def test_without_an_epc_nothing_is_emulated(self) -> None:
        nodes = Nodes(2, epc_bytes=None)
        nodes.up()
        assert nodes.names == ("n1", "n2")
        assert nodes.emulated == {}
        assert nodes.memory_group("n1", "a-1") is None
        assert nodes.source("n1") == "simulated"
        nodes.down()


@pytest.mark.integration
@pytest.mark.timeout(900)
@pytest.mark.skipif(bool(LACKS), reason=f"an emulated EPC: this machine lacks {'; '.join(LACKS)}")
class TestEmulated:
    """Each node has an EPC of its own; what is over it pages, and the last to leave restores the machine."""

    def test_a_server_pages_in_its_node_alone(self) -> None:
        with bench() as lent:
            nodes = Nodes(2, epc_bytes=16 * MIB)
            lent.nodes += [EmulatedNode(name=f"up-{os.getpid()}-{name}") for name in nodes.names]
            nodes.up()
            group = nodes.memory_group("n2", "a-1")
            assert group is not None
            with server(group, size_mib=32):
                crowded, idle = (evicted(nodes, name) for name in ("n2", "n1"))
            assert nodes.source("n1") == f"emulated:{nodes.emulated['n1']}"
            assert crowded >= 15 * MIB
            assert idle == 0
            nodes.down()
            assert nodes.emulated == {}
            assert not group.exists()


@contextlib.contextmanager
def server(group: Path, *, size_mib: int) -> Iterator[None]:
    """Run a server that has filled its memory."""
    command = [sys.executable, "-I", "-S", "-c", SERVER, str(group), str(size_mib)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"filled\n"
        yield
        process.communicate()
    assert process.returncode == 0


def evicted(nodes: Nodes, name: str) -> int:
    """Return what of a node's memory is out."""
    with contextlib.closing(EmulatedNode(name=nodes.emulated[name]).source()) as source:
        assert source.kind is Kind.EMULATED
        found = source.count().evicted_bytes
    assert found is not None
    return found
