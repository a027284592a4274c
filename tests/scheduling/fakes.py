"""A gateway, agents and a policy that tests set, behind the balancer's ports."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from random import Random

from s3ml.primitives.errors import ConfigurationError, UnavailableError
from s3ml.scheduling.balancer.events import EventLog
from s3ml.scheduling.balancer.fleet import Host
from s3ml.scheduling.balancer.membership import Member, Membership
from s3ml.scheduling.balancer.ports import NodeReport, Weighted
from s3ml.scheduling.balancer.service import BalancerService
from s3ml.scheduling.balancer.settings import BalancerSettings, Steering
from s3ml.scheduling.balancer.view import Choice, Reason, Shares, View
from s3ml.tee_memory.reading import Confidence, Kind, Reading
from tests.clocks import FakeClock

A = Member(name="a", node="n1", address="127.0.0.1:1")
B = Member(name="b", node="n2", address="127.0.0.1:2")
DRAW = Random(1)  # noqa: S311 - nothing secret is drawn
AGENTS = {"n1": "http://127.0.0.1:11", "n2": "http://127.0.0.1:12"}


def host(member: Member, *, is_ready: bool = True, in_flight: int = 0) -> Host:
    return Host(address=member.address, is_ready=is_ready, in_flight=in_flight, succeeded=0, failed=0)


def reading(taken_at_s: float) -> Reading:
    return Reading(
        kind=Kind.SIMULATED,
        source="test",
        taken_at_s=taken_at_s,
        span_s=1.0,
        capacity_bytes=100,
        resident_bytes=90,
        evicted_bytes=10,
        page_ins_per_s=5.0,
        page_outs_per_s=6.0,
        pressure=None,
        confidence=Confidence.COUNTED,
    )


@dataclass
class FakeGateway:
    """Says what it was given, and keeps what it was told."""

    found: dict[str, list[Host]] = field(default_factory=dict)
    told: dict[str, list[Weighted]] = field(default_factory=dict)
    writes: int = 0
    is_down: bool = False

    async def hosts(self) -> Mapping[str, Iterable[Host]]:
        if self.is_down:
            raise UnavailableError("gateway: is down")
        return self.found

    async def set_weights(self, service: str, replicas: Iterable[Weighted]) -> bool:
        replicas = list(replicas)
        if self.told.get(service) == replicas:
            return False
        self.told[service] = replicas
        self.writes += 1
        return True


@dataclass
class FakeAgents:
    """Answers by URL, or raises what it was given."""

    answers: dict[str, NodeReport | Exception] = field(default_factory=dict)
    hangs: bool = False

    async def read(self, url: str) -> NodeReport:
        if self.hangs:
            await asyncio.Event().wait()
        answer = self.answers.get(url, UnavailableError("node agent: no answer"))
        if isinstance(answer, Exception):
            raise answer
        return answer


@dataclass
class First:
    """Gives nine tenths to the first that is ready; falls back where no node has a reading."""

    name: str = "first"

    def pick(self, view: View, draw: Random) -> Choice:
        ready = view.ready
        reasons = {replica.name: Reason.NOT_DRAWN for replica in view.replicas}
        if not ready:
            return Choice(replica=None, reasons=dict.fromkeys(reasons, Reason.NOT_READY))
        return Choice(replica=ready[0].name, reasons=reasons | {ready[0].name: Reason.CHOSEN})

    def shares(self, view: View) -> Shares:
        count = len(view.ready)
        share = {replica.name: 0.1 / max(1, count - 1) for replica in view.ready}
        if share:
            share[view.ready[0].name] = 0.9 if count > 1 else 1.0
        reason = Reason.CHOSEN if view.nodes else Reason.FELL_BACK
        return Shares(share=share, reasons={replica.name: reason for replica in view.replicas})


@dataclass
class Last(First):
    """The same with the last."""

    name: str = "last"

    def pick(self, view: View, draw: Random) -> Choice:
        ready = view.ready
        return Choice(replica=ready[-1].name if ready else None, reasons={})


@dataclass
class World:
    """A balancer among fakes."""

    gateway: FakeGateway
    agents: FakeAgents
    clock: FakeClock
    lines: list[str]
    membership: list[Membership | ConfigurationError]
    balancer: BalancerService

    def has_said(self, event: str) -> int:
        """How often an event was told."""
        return sum(f'"event": "{event}"' in line for line in self.lines)


def make_world(
    *, members: tuple[Member, ...] = (A, B), policy: str = "first", steering: Steering = Steering.WEIGHTS
) -> World:
    """Return a balancer that has not looked yet."""
    clock = FakeClock()
    lines: list[str] = []
    there: list[Membership | ConfigurationError] = [Membership(services={"t": members}, agents=AGENTS)]
    gateway, agents = FakeGateway(found={"t": [host(member) for member in members]}), FakeAgents()

    def membership() -> Membership:
        if isinstance(there[0], ConfigurationError):
            raise there[0]
        return there[0]

    balancer = BalancerService(
        policy=policy,
        policies={"first": First, "last": Last},
        membership=membership,
        gateway=gateway,
        agents=agents,
        clock=clock,
        events=EventLog(lines.append, clock),
        settings=BalancerSettings(steering=steering),
    )
    return World(
        gateway=gateway, agents=agents, clock=clock, lines=lines, membership=there, balancer=balancer
    )
