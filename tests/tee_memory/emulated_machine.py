"""This machine for tests of the emulated EPC: its settings, a lock on it, programs that use memory.

Other clones' tests, and other people's nodes, may be on the same machine: names are this process's own, and
what only the last node restores is compared only where nobody else's node is up.
"""

import contextlib
import fcntl
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from s3ml.tee_memory.emulated import EmulatedNode, Host, Registry
from s3ml.tee_memory.emulated.host import list_devices
from s3ml.tee_memory.emulated.swap import swap_devices

DEADLINE_S = 240.0
MIB = 1 << 20
PAGE_BYTES = 4096
HOST = Host()
_numbers = itertools.count(1)

# Fills so many MiB with what does not compress, says so, then on each line from its input goes through all of
# it so often, and says so again.
TOUCHER = """
import os, sys
size = int(sys.argv[1]) << 20
block = os.urandom(1 << 20)
memory = memoryview(bytearray(size))
for start in range(0, size, 1 << 20):
    memory[start:start + (1 << 20)] = block
    memory[start:start + 8] = start.to_bytes(8, "big")
print("filled", flush=True)
for line in sys.stdin:
    for _ in range(int(line)):
        for place in range(0, size, 4096):
            memory[place] = (memory[place] + 1) & 255
    print("touched", flush=True)
"""


@contextlib.contextmanager
def machine_alone() -> Iterator[None]:
    """Be the only test of this kind on the machine, for one test."""
    path = Path(tempfile.gettempdir()) / "s3ml-epc-tests.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def settings() -> dict[str, object]:
    """Return every setting of the machine that the emulation touches."""
    found: dict[str, object] = {
        "page-cluster": HOST.read("proc/sys/vm/page-cluster"),
        "swaps": swap_devices(HOST),
        "devices": list_devices(HOST),
        "group": node_named("any").group().path.parent.exists(),
    }
    for device in list_devices(HOST):
        for name in ("disksize", "comp_algorithm", "initstate"):
            found[f"zram{device} {name}"] = HOST.read(f"sys/block/zram{device}/{name}")
    return found


def original_settings() -> dict[str, object] | None:
    """Return the settings of the machine without any node, or None where somebody's node is up."""
    registry = Registry()
    with registry.locked():
        return settings() if registry.read() is None else None


def node_named(name: str) -> EmulatedNode:
    """Return a node in the machine's own registry."""
    return EmulatedNode(name=name)


@dataclass
class Toucher:
    """A program that uses memory, inside a node."""

    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, node: EmulatedNode, server: str | None, *, size_mib: int) -> "Toucher":
        """Start one; it fills its memory by itself."""
        folder = str(node.registry.folder)
        words = ["-I", "-B", "-m", "s3ml.tee_memory.emulated.entry", folder, node.name, server or ""]
        command = [sys.executable, *words, sys.executable, "-I", "-S", "-c", TOUCHER, str(size_mib)]
        return cls(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))

    def hear(self, word: bytes) -> None:
        """Wait until it says `word`."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == word

    def tell(self, rounds: int) -> None:
        """Have it go through its memory, without waiting for it."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{rounds}\n".encode())
        self.process.stdin.flush()

    def touch(self, rounds: int) -> None:
        """Have it go through its memory, and wait for it."""
        self.tell(rounds)
        self.hear(b"touched")

    def end(self) -> int:
        """Let it end, and return its status."""
        _, _ = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode

    def kill(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.communicate()


@dataclass
class Bench:
    """One test's nodes and programs; all are gone after it."""

    before: dict[str, object] | None
    nodes: list[EmulatedNode] = field(default_factory=list)
    touchers: list[Toucher] = field(default_factory=list)

    def node(self, size_mib: int | None = None) -> EmulatedNode:
        """Return a node with a name of its own, brought up where a size is given."""
        node = node_named(f"test-{os.getpid()}-{next(_numbers)}")
        self.nodes.append(node)
        return node if size_mib is None else node.up(size_bytes=size_mib * MIB)

    def toucher(self, node: EmulatedNode, server: str | None, *, size_mib: int) -> Toucher:
        """Start a program in a node."""
        toucher = Toucher.start(node, server, size_mib=size_mib)
        self.touchers.append(toucher)
        return toucher

    def check_restored(self) -> None:
        """Check that the machine is as it was; where others' nodes are up, that ours are gone."""
        registry = Registry()
        with registry.locked():
            state = registry.read()
            if state is None and self.before is not None:
                assert settings() == self.before
            names = {} if state is None else state.nodes
            assert not [node.name for node in self.nodes if node.name in names or node.group().is_there]


@contextlib.contextmanager
def bench() -> Iterator[Bench]:
    """Lend the machine to one test, and clean up whatever it did."""
    with machine_alone():
        lent = Bench(before=original_settings())
        try:
            yield lent
        finally:
            for toucher in lent.touchers:
                toucher.kill()
            for node in lent.nodes:
                node.down(grace_s=0.0)
        lent.check_restored()


def wait_until(fact: str, holds: object) -> None:
    """Wait for something that another process does."""
    assert callable(holds)
    end = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < end, f"not in time: {fact}"
        time.sleep(0.02)
