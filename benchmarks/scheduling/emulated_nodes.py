"""A fleet on emulated nodes: real model servers in emulated EPCs beside antagonists, behind real Envoy.

EMULATED: nodes are memory cgroups with a hard limit over compressed memory, and shares of this machine's
processors; no SGX hardware. Libraries and the model file are read by a replica outside first, so that their
pages belong to no node, as the shared part of an enclave's start does not count here.
"""

import base64
import json
import os
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.scheduling import ranker
from benchmarks.scheduling.children import Child, wait_until
from benchmarks.scheduling.processor_share import ProcessorShare
from benchmarks.scheduling.replica import config_of
from benchmarks.seal_server import SERVICE
from s3ml.apps.cluster.process import readiness
from s3ml.gateway import EnvoyGateway, GatewayConfig
from s3ml.gateway.endpoints import Endpoint
from s3ml.primitives.units import MIB
from s3ml.tee_memory.emulated import EmulatedNode, EmulatedSource, Registry
from s3ml.wire.hpke import X25519_AES128, PrivateKey
from s3ml.wire.ohttp import encode_key_configs

START_S = 120.0
_READY_PATH = "/v2/health/ready"
# Before those that are measured: the load and Envoy are the ruler.
_PREFERRED = -10


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How large a fleet is.

    Args:
        nodes: How many nodes.
        replicas: How many model servers each has.
        cores: How many processors' worth of time each node has.
        epc_bytes: The EPC of each.
        antagonist_bytes: What each antagonist sweeps; 0 for nodes without one.
        layers: Of the model: 4 MiB each.
    """

    nodes: int = 3
    replicas: int = 2
    cores: float = 0.5
    epc_bytes: int = 128 * MIB
    antagonist_bytes: int = 48 * MIB
    layers: int = ranker.LAYERS


@dataclass(slots=True, kw_only=True)
class Replica:
    """A model server and where it is."""

    name: str
    child: Child
    address: str


@dataclass(slots=True, kw_only=True)
class Node:
    """One emulated node with what runs in it."""

    name: str
    epc: EmulatedNode
    processor: ProcessorShare
    source: EmulatedSource
    replicas: list[Replica] = field(default_factory=list)
    antagonist: Child | None = None
    _sources: list[EmulatedSource] = field(default_factory=list)

    def server_page_ins(self) -> int:
        """Return the pages that its model servers brought back since some beginning."""
        if not self._sources:
            self._sources = [self.epc.server_source(replica.name) for replica in self.replicas]
        return sum(source.count().page_ins or 0 for source in self._sources)

    def close(self) -> None:
        """Close what it reads."""
        for source in (self.source, *self._sources):
            source.close()

    def disturb(self, share: float | None) -> None:
        """Let the antagonist sweep for that share of a processor, or rest."""
        if self.antagonist is not None:
            self.antagonist.say("off" if share is None else f"on {share:g}")
            self.antagonist.hear(deadline_s=START_S)


class Site:
    """The fleet; a context manager that leaves nothing behind.

    Args:
        shape: How large.
        registry: Where the state of emulated nodes lies.
        log: Called with a line about each step.
    """

    def __init__(self, shape: Shape, *, registry: Registry | None = None, quiet: bool = False) -> None:
        self.shape = shape
        self._registry = registry or Registry()
        self._quiet = quiet
        self._stack = ExitStack()
        self._private_key = PrivateKey.generate(X25519_AES128.kem)
        self._prefix = f"bench-{os.getpid()}"
        self.nodes: list[Node] = []

    @property
    def key_configs(self) -> str:
        """What clients seal to, in base64."""
        return base64.b64encode(encode_key_configs([config_of(self._private_key)])).decode()

    @property
    def url(self) -> str:
        """Where sealed requests go."""
        return f"{self.gateway.url}/services/{SERVICE}/ohttp"

    @property
    def replicas(self) -> list[Replica]:
        """All model servers, node by node."""
        return [replica for node in self.nodes for replica in node.replicas]

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def start_load(self) -> Child:
        """Start the process that makes the load, told where to."""
        load = self._stack.enter_context(
            Child(
                "load",
                ["-m", "benchmarks.scheduling.load"],
                log=self.folder / "load.log",
                preferred=_PREFERRED,
            )
        )
        load.say(json.dumps({"url": self.url, "key_configs": self.key_configs}))
        return load

    def _start(self) -> None:
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="s3ml-emulated-")))
        self._model = ranker.write(self.folder, self.shape.layers)
        self._say("a replica outside, whose pages are nobody's")
        self._replica("keeper", enter=None)
        for number in range(self.shape.nodes):
            self._say(f"node {number}")
            self.nodes.append(self._node(f"n{number}"))
        config = GatewayConfig(folder=self.folder / "gateway", services=(SERVICE,))
        self.gateway = self._stack.enter_context(EnvoyGateway(config))
        os.setpriority(os.PRIO_PROCESS, self.gateway.pid or 0, _PREFERRED)
        self.gateway.set_replicas(
            SERVICE,
            [
                Endpoint(address=replica.address, node=node.name)
                for node in self.nodes
                for replica in node.replicas
            ],
        )
        wait_until(self._all_healthy, deadline_s=START_S, what="replicas behind the gateway")

    def _all_healthy(self) -> bool:
        return sum(up.is_healthy for up in self.gateway.replicas(SERVICE)) == len(self.replicas)

    def _node(self, name: str) -> Node:
        epc = EmulatedNode(name=f"{self._prefix}-{name}", registry=self._registry)
        processor = self._stack.enter_context(ProcessorShare(f"s3ml-{epc.name}", self.shape.cores))
        # Room enough to start in; the size of the run comes last.
        self._stack.callback(epc.down, grace_s=1.0)
        epc.up(size_bytes=1024 * MIB)
        node = Node(name=name, epc=epc, processor=processor, source=epc.source())
        self._stack.callback(node.close)
        for place in range(self.shape.replicas):
            own = f"{name}-r{place}"
            node.replicas.append(self._replica(own, enter=(epc, own, processor)))
        if self.shape.antagonist_bytes:
            node.antagonist = self._antagonist(node)
        epc.resize(self.shape.epc_bytes)
        return node

    def _replica(self, name: str, *, enter: tuple[EmulatedNode, str, ProcessorShare] | None) -> Replica:
        command = ["-m", "benchmarks.scheduling.replica", "--model", str(self._model), "--replica", name]
        child = self._stack.enter_context(
            Child(name, command, log=self.folder / f"{name}.log", enter=_entering(enter))
        )
        child.say(self._private_key.to_bytes().hex())
        port = child.hear_document(deadline_s=START_S)["port"]
        wait_until(lambda: readiness(port, _READY_PATH).is_ready, deadline_s=START_S, what=name)
        return Replica(name=name, child=child, address=f"127.0.0.1:{port}")

    def _antagonist(self, node: Node) -> Child:
        name = f"{node.name}-antagonist"
        command = ["-m", "benchmarks.scheduling.antagonist", "--bytes", str(self.shape.antagonist_bytes)]
        child = self._stack.enter_context(
            Child(
                name,
                command,
                log=self.folder / f"{name}.log",
                enter=_entering((node.epc, "antagonist", node.processor)),
            )
        )
        child.hear(deadline_s=START_S)
        return child

    def _say(self, line: str) -> None:
        if not self._quiet:
            print(f"emulated: {time.strftime('%H:%M:%S')} {line}", flush=True)


def _entering(where: tuple[EmulatedNode, str, ProcessorShare] | None) -> Any:
    if where is None:
        return None
    epc, server, processor = where

    def enter() -> None:
        processor.enter()
        epc.enter(server)

    return enter
