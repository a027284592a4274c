"""What balances a local cluster: an agent for each node, one balancer, and the file that names replicas.

Nodes are names here: all are this machine. Agents read a SIMULATED TEE memory, or an EMULATED one.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from s3ml.apps.cluster.children import Child
from s3ml.apps.cluster.layout import ClusterFolder
from s3ml.apps.cluster.nodes import Nodes
from s3ml.apps.cluster.options import ClusterOptions
from s3ml.apps.cluster.process import LOOPBACK, Replica, free_ports
from s3ml.scheduling.balancer.membership import Member, Membership, write_membership
from s3ml.scheduling.balancer.settings import Steering

AGENT_INTERVAL = "250ms"


class Balancing:
    """The agents and the balancer of one cluster.

    Args:
        options: What the operator chose.
        folder: Where the cluster's files lie.
        nodes: Where the replicas are.
        held: Puts signals off while a child of this process is started.
    """

    def __init__(
        self,
        options: ClusterOptions,
        folder: ClusterFolder,
        nodes: Nodes,
        held: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._options = options
        self._nodes = nodes
        self._folder = folder
        self._held = held
        self._agents: dict[str, Child] = {}
        self._urls: dict[str, str] = {}
        self._balancer: Child | None = None
        self._services: dict[str, tuple[Member, ...]] = {}
        self.picker: str | None = None

    @property
    def urls(self) -> Mapping[str, str]:
        """Where each node's agent answers."""
        return self._urls

    @property
    def control(self) -> Path | None:
        """The balancer's Unix socket, if there is one."""
        return self._folder.balancer_control if self._options.balancer is not None else None

    @property
    def pids(self) -> Mapping[str, int | None]:
        """The process ids of the children by their names, for measurements."""
        children = self._children()
        return {name: child.pid for name, child in children.items()}

    def prepare(self) -> None:
        """Choose the ports that others must know before anything starts."""
        if not self._options.has_agents:
            return
        nodes = self._nodes.names
        *ports, picker = free_ports(len(nodes) + 1)
        self._urls = {node: f"http://{LOOPBACK}:{port}" for node, port in zip(nodes, ports, strict=True)}
        if self._options.balancer is not None and self._options.steering is Steering.PICKER:
            self.picker = f"{LOOPBACK}:{picker}"
        self._folder.balancer.mkdir(mode=0o700, parents=True, exist_ok=True)

    def start(self) -> None:
        """Start the agents and the balancer; neither is waited for."""
        for node, url in self._urls.items():
            self._agents[node] = Child(self._agent_words(node, url), self._folder.logs / f"agent-{node}.log")
        self._write()
        if self._options.balancer is not None:
            self._balancer = Child(self._balancer_words(), self._folder.logs / "balancer.log")
        for child in self._children().values():
            with self._held():
                child.start()

    def tell(self, service: str, replicas: Iterable[Replica]) -> None:
        """Say which replicas serve `service`."""
        self._services[service] = tuple(
            Member(name=replica.name, node=replica.node, address=replica.address) for replica in replicas
        )
        self._write()

    def heal(self) -> Iterable[str]:
        """Start again what ended by itself; return one line about each."""
        for name, child in self._children().items():
            if child.has_ended:
                with self._held():
                    child.start()
                yield f"{name} ended by itself; started another: see {child.log}"

    def stop(self) -> None:
        """Stop everything, all at the same time."""
        children = self._children().values()
        for child in children:
            child.ask_to_stop()
        for child in children:
            child.stop()

    def _children(self) -> dict[str, Child]:
        balancer = {} if self._balancer is None else {"balancer": self._balancer}
        return balancer | {f"agent of {node}": agent for node, agent in self._agents.items()}

    def _write(self) -> None:
        if self._options.has_agents:
            path = self._folder.balancer_membership
            write_membership(path, Membership(services=self._services, agents=self._urls))

    def _agent_words(self, node: str, url: str) -> list[str]:
        address = url.removeprefix("http://")
        words = ["node-agent", "--node", node, "--listen", address, "--interval", AGENT_INTERVAL]
        return [*words, "--source", self._nodes.source(node), "--json"]

    def _balancer_words(self) -> list[str]:
        words = ["balancer", "run", "--policy", self._options.balancer or ""]
        words += ["--gateway-folder", str(self._folder.gateway)]
        words += ["--membership", str(self._folder.balancer_membership)]
        words += ["--control", str(self._folder.balancer_control)]
        if self._options.costs is not None:
            words += ["--costs", str(self._options.costs.absolute())]
        return words if self.picker is None else [*words, "--picker", self.picker]
