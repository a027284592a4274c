"""The balancer's loops: what the gateway and the nodes say goes in, weights come out, several times a second.

One event loop; two loops that do not wait for each other, so that an agent that does not answer delays no
weights. Nothing that a request depends on waits for this process: where it ends, the gateway keeps the last
weights.
"""

import asyncio
from collections.abc import Callable, Mapping

from s3ml.primitives.clock import Clock
from s3ml.primitives.errors import ConfigurationError, UnavailableError, UntrustedPeerError
from s3ml.scheduling.balancer.events import Event, EventLog
from s3ml.scheduling.balancer.fleet import Fleet
from s3ml.scheduling.balancer.learning import learned
from s3ml.scheduling.balancer.membership import Membership
from s3ml.scheduling.balancer.metrics import BalancerMetrics, Step
from s3ml.scheduling.balancer.ports import Agents, Gateway, Weighted
from s3ml.scheduling.balancer.settings import BalancerSettings, Steering
from s3ml.scheduling.balancer.status import BalancerStatus, Decided, node_status, service_status
from s3ml.scheduling.balancer.view import Policy
from s3ml.scheduling.balancer.weights import weights

Policies = Mapping[str, Callable[[], Policy]]


class BalancerService:
    """Follows the fleets of one gateway and steers it; used by one event loop.

    Args:
        policy: The name of the one to begin with.
        policies: Makes each, by name.
        membership: Reads who is in the fleets, at each step.
        gateway: Counts, and takes weights.
        agents: Tell of the nodes.
        clock: For the times of observations.
        events: Takes what happened.
        settings: How it runs.

    Attributes:
        metrics: What it counted.
        has_looked: Set once the gateway answered: from then on there is something to pick by.

    Raises:
        ConfigurationError: no policy has that name, or the membership cannot be read.
    """

    def __init__(
        self,
        *,
        policy: str,
        policies: Policies,
        membership: Callable[[], Membership],
        gateway: Gateway,
        agents: Agents,
        clock: Clock,
        events: EventLog,
        settings: BalancerSettings,
    ) -> None:
        self._policies = policies
        self._policy = self._made(policy)
        self._read_membership = membership
        self._gateway = gateway
        self._agents = agents
        self._clock = clock
        self._events = events
        self._settings = settings
        self._fleets: dict[str, Fleet] = {}
        self._decided: dict[str, Decided] = {}
        self._learned_at_s: dict[str, float] = {}
        self._lost: set[str] = set()
        self._is_gateway_lost = False
        self._rejected = ""
        self.metrics = BalancerMetrics(self.status)
        self.has_looked = asyncio.Event()
        self._membership = Membership(services={})
        self._take_over(membership())

    @property
    def policy(self) -> Policy:
        """The policy that decides now."""
        return self._policy

    @property
    def fleets(self) -> Mapping[str, Fleet]:
        """The fleet of each service."""
        return self._fleets

    def switch(self, policy: str) -> None:
        """Let another policy decide from the next step and the next pick on.

        Raises:
            ConfigurationError: no policy has that name.
        """
        self._policy = self._made(policy)
        self._events.emit(Event.POLICY_SWITCHED, policy=self._policy.name)

    def status(self) -> BalancerStatus:
        """Return how things stand, as the last steps saw them."""
        now_s = self._clock.monotonic_s()
        nodes = {member.node for members in self._membership.services.values() for member in members}
        readings = {
            node: reading
            for node in nodes
            for fleet in self._fleets.values()
            if (reading := fleet.node_reading(node)) is not None
        }
        return BalancerStatus(
            policy=self._policy.name,
            policies=tuple(self._policies),
            steering=str(self._settings.steering),
            is_gateway_lost=self._is_gateway_lost,
            services=tuple(
                service_status(service, fleet, self._decided.get(service))
                for service, fleet in self._fleets.items()
            ),
            nodes=tuple(node_status(node, readings.get(node), now_s) for node in sorted(nodes)),
        )

    async def run(self) -> None:
        """Step and read until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._every(self._settings.interval_s, self.step))
            group.create_task(self._every(self._settings.readings_interval_s, self.read_agents))

    async def step(self) -> None:
        """Look at the gateway once and renew the weights of each service, where they changed."""
        began_s = self._clock.monotonic_s()
        self._follow_membership()
        try:
            hosts = await self._gateway.hosts()
        except UnavailableError as error:
            self._note_gateway(str(error))
            self.metrics.count_step(Step.GATEWAY_LOST, self._clock.monotonic_s() - began_s)
            return
        self._note_gateway(None)
        is_news = False
        for service, fleet in self._fleets.items():
            fleet.observe_hosts(self._clock.monotonic_s(), hosts.get(service, ()))
            is_news |= await self._steer(service, fleet)
        self.has_looked.set()
        step = Step.WRITTEN if is_news else Step.UNCHANGED
        self.metrics.count_step(step, self._clock.monotonic_s() - began_s)

    async def read_agents(self) -> None:
        """Ask each node's agent once, all at the same time."""
        async with asyncio.TaskGroup() as group:
            for node, url in self._membership.agents.items():
                group.create_task(self._read_agent(node, url))

    async def _read_agent(self, node: str, url: str) -> None:
        try:
            report = await self._agents.read(url)
        except (UnavailableError, UntrustedPeerError) as error:
            self.metrics.count_agent_failure(node)
            if node not in self._lost:
                self._lost.add(node)
                self._events.emit(Event.AGENT_LOST, node=node, detail=str(error))
            return
        if node in self._lost:
            self._lost.discard(node)
            self._events.emit(Event.AGENT_FOUND, node=node)
        for fleet in self._fleets.values():
            fleet.observe_node(node, report.reading, report.servers)

    async def _steer(self, service: str, fleet: Fleet) -> bool:
        view = fleet.view(self._clock.monotonic_s())
        since_s = self._learned_at_s.get(service, view.now_s)
        self._policy = learned(self._policy, view, since_s=since_s)
        self._learned_at_s[service] = view.now_s
        shares = self._policy.shares(view)
        decided = Decided(view=view, shares=shares, weights=weights(view, shares))
        fleet.settle(shares.share)
        if self._settings.steering is Steering.WEIGHTS:
            self.metrics.count_reasons(service, shares.reasons)
        self._note_fallback(service, decided)
        self._decided[service] = decided
        return await self._gateway.set_weights(
            service,
            [
                Weighted(address=member.address, node=member.node, weight=decided.weights[member.name])
                for member in fleet.members
            ],
        )

    def _follow_membership(self) -> None:
        """Read who is in the fleets; keep the last good answer where there is none."""
        try:
            found = self._read_membership()
        except ConfigurationError as error:
            if self._rejected != str(error):
                self._rejected = str(error)
                self._events.emit(Event.MEMBERSHIP_REJECTED, detail=f"{error}: the old one holds")
            return
        self._rejected = ""
        if found != self._membership:
            self._take_over(found)
            self._events.emit(Event.MEMBERSHIP_CHANGED)

    def _take_over(self, membership: Membership) -> None:
        self._membership = membership
        is_picking = self._settings.steering is Steering.PICKER
        self._fleets = {
            service: self._fleets.get(service) or Fleet(is_picking=is_picking)
            for service in membership.services
        }
        for service, fleet in self._fleets.items():
            fleet.set_members(membership.services[service])
            fleet.forget_nodes(membership.agents)
        self._decided = {service: d for service, d in self._decided.items() if service in self._fleets}
        self._lost &= membership.agents.keys()
        self.metrics.forget(
            replicas={
                service: [member.name for member in members]
                for service, members in membership.services.items()
            },
            nodes=membership.agents,
        )

    def _note_gateway(self, trouble: str | None) -> None:
        if (trouble is not None) == self._is_gateway_lost:
            return
        self._is_gateway_lost = trouble is not None
        if trouble is None:
            self._events.emit(Event.GATEWAY_FOUND)
        else:
            self._events.emit(Event.GATEWAY_LOST, detail=trouble)

    def _note_fallback(self, service: str, decided: Decided) -> None:
        before = self._decided.get(service)
        if decided.is_fallback != (before is not None and before.is_fallback):
            event = Event.FALLING_BACK if decided.is_fallback else Event.STEERING_AGAIN
            self._events.emit(event, service=service)

    def _made(self, name: str) -> Policy:
        make = self._policies.get(name)
        if make is None:
            raise ConfigurationError(
                f"balancer: policy: expected one of {', '.join(self._policies)}, got {name[:80]!r}"
            )
        return make()

    async def _every(self, interval_s: float, act: Callable[[], object]) -> None:
        """Act at fixed times; times that passed while something took long are left out."""
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while True:
            await act()  # type: ignore[misc]
            due_s = max(due_s + interval_s, loop.time())
            await asyncio.sleep(due_s - loop.time())
