"""What a balancer knows of simulated servers: its own counts and timings, and the readings that came."""

from collections.abc import Mapping, Sequence

from s3ml.scheduling.balancer import Replica, View
from s3ml.scheduling.balancer.timing import CountedTiming, SampledTiming, Timing
from s3ml.simulator.agenda import Agenda
from s3ml.simulator.serving import Request, Server
from s3ml.tee_memory.reading import Reading

RENEWED_S = 0.02
"""How old a description may be in a view, if nothing happened: only the oldest request ages."""


class Watch:
    """Follows each request and keeps one view of the fleet.

    What a picker of requests knows of each is exact; where shares steer, the gateway's counters are sampled
    instead. Only replicas to which something happened are described anew, so that large fleets cost little.

    Args:
        agenda: Its time.
        servers: In the order of the view.
        is_picking: Whether each request is picked.
    """

    __slots__ = (
        "_agenda",
        "_answered",
        "_counted",
        "_is_picking",
        "_nodes",
        "_own",
        "_previous",
        "_replicas",
        "_sampled",
        "_servers",
        "_stale",
        "_swept_s",
        "_turn",
        "in_flight",
        "names",
    )

    def __init__(self, agenda: Agenda, servers: Sequence[Server], *, is_picking: bool) -> None:
        self._agenda = agenda
        self._servers = tuple(servers)
        self._is_picking = is_picking
        self.names = tuple(server.name for server in servers)
        self.in_flight = [0] * len(self._servers)
        self._answered = [0] * len(self._servers)
        self._counted = [CountedTiming() for _ in self._servers]
        self._sampled = [SampledTiming() for _ in self._servers]
        self._nodes: dict[str, Reading] = {}
        self._own: dict[str, Reading] = {}
        self._previous: Mapping[str, float] = {}
        self._turn = 0
        self._swept_s = 0.0
        self._replicas = [self._describe(place) for place in range(len(self._servers))]
        self._stale: set[int] = set()

    def sent(self, request: Request, place: int) -> None:
        """Count a request that goes to a server."""
        self.in_flight[place] += 1
        self._stale.add(place)
        if self._is_picking:
            self._counted[place].began(id(request), self._agenda.now_s)

    def answered(self, request: Request) -> None:
        """Count its answer."""
        place = request.server
        self.in_flight[place] -= 1
        self._answered[place] += 1
        self._stale.add(place)
        if self._is_picking:
            self._counted[place].ended(id(request), self._agenda.now_s, is_answered=True)

    def told(self, node: str, reading: Reading, own: Mapping[str, Reading]) -> None:
        """Take in readings of a node that came."""
        self._nodes = {**self._nodes, node: reading}
        self._own.update(own)
        self._stale.update(place for place, name in enumerate(self.names) if name in own)

    def sample(self) -> None:
        """Sample what the gateway counts, as where shares steer."""
        now_s = self._agenda.now_s
        for place, sampled in enumerate(self._sampled):
            sampled.sample(now_s, in_flight=self.in_flight[place], succeeded=self._answered[place], failed=0)
        self._stale.update(range(len(self._servers)))

    def settle(self, shares: Mapping[str, float]) -> None:
        """Remember what a step decided; the next view shows it."""
        self._previous = dict(shares)

    def view(self) -> View:
        """Return the fleet as it stands, and count the turn."""
        now_s = self._agenda.now_s
        if now_s - self._swept_s > RENEWED_S:
            self._swept_s = now_s
            self._stale.update(place for place, count in enumerate(self.in_flight) if count)
        for place in self._stale:
            self._replicas[place] = self._describe(place)
        self._stale.clear()
        turn, self._turn = self._turn, self._turn + 1
        return View(
            now_s=now_s,
            replicas=tuple(self._replicas),
            nodes=self._nodes,
            turn=turn,
            previous=self._previous,
        )

    def _describe(self, place: int) -> Replica:
        server = self._servers[place]
        timing: Timing = (
            self._counted[place].at(self._agenda.now_s)
            if self._is_picking
            else self._sampled[place].at(self._agenda.now_s)
        )
        return Replica(
            name=server.name,
            node=server.node.name,
            is_ready=True,
            in_flight=self.in_flight[place],
            latency_s=timing.latency_s,
            service_s=timing.service_s,
            rate_rps=timing.rate_rps,
            answered_at_s=timing.answered_at_s,
            oldest_s=timing.oldest_s,
            error_share=timing.error_share,
            own=self._own.get(server.name),
        )
