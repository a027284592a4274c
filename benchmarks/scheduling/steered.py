"""The product's balancer before a fleet of emulated nodes: node agents, a relay that can spoil what they say.

Every policy decides for each request, over Envoy's external processing: only so are all seven what they are
called. Where the balancer is asked to steer by weights, Envoy draws by them and by requests in flight.
"""

import sys
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.request import urlopen

import msgspec

from benchmarks.scheduling.balancer_process import Plan
from benchmarks.scheduling.children import Child, wait_until
from benchmarks.scheduling.emulated_nodes import START_S, Site
from benchmarks.scheduling.signal_relay import Fault
from benchmarks.seal_server import SERVICE
from s3ml.apps.balancing.control import read_status, switch_policy
from s3ml.apps.cluster.process import free_port
from s3ml.primitives.errors import UnavailableError
from s3ml.scheduling.balancer.control import METRICS_PATH
from s3ml.scheduling.balancer.membership import Member, Membership, write_membership
from s3ml.scheduling.balancer.metrics import Pick
from s3ml.scheduling.balancer.status import BalancerStatus
from s3ml.scheduling.model import Model

_PICKS = "s3ml_balancer_picks_total"
_AGENT_INTERVAL = "250ms"


class Steered:
    """A balancer with all that it listens to; a context manager.

    Args:
        site: Whose gateway it steers.
        model: What its policies know of the model.
    """

    def __init__(self, site: Site, model: Model) -> None:
        self._site = site
        self._model = model
        self._stack = ExitStack()
        self._control = site.folder / "balancer.sock"
        self._port = free_port()

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

    @property
    def pids(self) -> list[int]:
        """The balancer's process, and then those of the agents."""
        return [self._balancer.pid, *(agent.pid for agent in self._agents)]

    def choose(self, policy: str) -> None:
        """Let another policy decide from now on."""
        switch_policy(self._control, policy)

    def status(self) -> BalancerStatus:
        """Return how things stand."""
        return read_status(self._control)

    def picked(self) -> int:
        """Return how many requests were sent where the policy said, so far."""
        with urlopen(f"http://127.0.0.1:{self._port}{METRICS_PATH}", timeout=START_S) as reply:
            return picks_of(reply.read().decode())

    def spoil(self, fault: Fault) -> None:
        """Let this happen to readings from now on."""
        self._relay.say(msgspec.json.encode(fault).decode())
        self._relay.hear(deadline_s=START_S)

    def _start(self) -> None:
        folder, site = self._site.folder, self._site
        self._agents = [self._agent(node.name, node.epc.name) for node in site.nodes]
        urls = [agent.hear_document(deadline_s=START_S)["url"] for agent in self._agents]
        names = [node.name for node in site.nodes]
        self._relay = self._stack.enter_context(
            Child(
                "relay",
                ["-m", "benchmarks.scheduling.signal_relay"],
                log=folder / "relay.log",
                processor=site.ruler,
            )
        )
        self._relay.say(msgspec.json.encode(dict(zip(names, urls, strict=True))).decode())
        port = self._relay.hear_document(deadline_s=START_S)["port"]
        membership = folder / "membership.json"
        write_membership(
            membership,
            Membership(
                services={SERVICE: tuple(self._members())},
                agents={name: f"http://127.0.0.1:{port}/{name}" for name in names},
            ),
        )
        plan = Plan(
            gateway=str(folder / "gateway"),
            membership=str(membership),
            control=str(self._control),
            listen=self._port,
            picker=site.picker_port,
            policy="round-robin",
            model=self._model,
        )
        self._balancer = self._stack.enter_context(
            Child(
                "balancer",
                ["-m", "benchmarks.scheduling.balancer_process"],
                log=folder / "balancer.log",
                processor=site.ruler,
            )
        )
        self._balancer.say(msgspec.json.encode(plan).decode())
        wait_until(self._is_answering, deadline_s=START_S, what="the balancer")

    def _is_answering(self) -> bool:
        try:
            return all(node.age_s is not None for node in self.status().nodes)
        except UnavailableError:
            return False

    def _members(self) -> Iterable[Member]:
        for node in self._site.nodes:
            for replica in node.replicas:
                yield Member(name=replica.name, node=node.name, address=replica.address)

    def _agent(self, node: str, epc: str) -> Child:
        command = [
            str(Path(sys.executable).parent / "s3ml"),
            "node-agent",
            "--source",
            f"emulated:{epc}",
            "--node",
            node,
            "--listen",
            "127.0.0.1:0",
            "--interval",
            _AGENT_INTERVAL,
            "--json",
        ]
        return self._stack.enter_context(
            Child(
                f"{node}-agent",
                command,
                log=self._site.folder / f"{node}-agent.log",
                processor=self._site.ruler,
            )
        )


def picks_of(metrics: str) -> int:
    """Return the picks of a balancer that chose a replica, by its metrics; pure."""
    wanted = f'{_PICKS}{{outcome="{Pick.CHOSEN}"}} '
    lines = [line for line in metrics.splitlines() if line.startswith(wanted)]
    return int(float(lines[0].removeprefix(wanted))) if lines else 0
