"""One run: a scenario, a policy and a seed give the same outcome each time.

Each source of chance draws from a generator of its own, seeded by the run's seed and its name, so that all
policies see the same arrivals and losses.
"""

from dataclasses import dataclass
from random import Random

from s3ml.scheduling.balancer import Policy
from s3ml.simulator.agenda import Agenda
from s3ml.simulator.antagonists import Antagonist
from s3ml.simulator.machine import Machine, Node
from s3ml.simulator.observing import Observer, Seen
from s3ml.simulator.scenario import Resize, Scenario
from s3ml.simulator.serving import Request, Server
from s3ml.simulator.signals import Peers, Sampler
from s3ml.simulator.steering import Picks, SharedOut, Steering
from s3ml.simulator.watching import Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a run.

    Args:
        requests: Each measured request, in the order of sending.
        servers: Names, by place.
        nodes: The place of each server's node, by the server's place.
        page_ins: Pages that the servers brought back for measured requests.
        ended_s: When the last request was answered.
        seen: What was seen on nodes, if that was asked for.
    """

    requests: tuple[Request, ...]
    servers: tuple[str, ...]
    nodes: tuple[int, ...]
    page_ins: float
    ended_s: float
    seen: tuple[Seen, ...]

    @property
    def latencies_s(self) -> list[float]:
        """How long each took, from its intended send."""
        return [request.answered_s - request.sent_s for request in self.requests]


def simulate(scenario: Scenario, policy: Policy, *, seed: int) -> Outcome:
    """Run a scenario under a policy to the last answer.

    Args:
        scenario: What is simulated.
        policy: Decides where requests go.
        seed: Any whole number; the same gives the same outcome.
    """
    return _Run(scenario, policy, seed).outcome()


class _Run:
    """The parts of one run, wired."""

    def __init__(self, scenario: Scenario, policy: Policy, seed: int) -> None:
        self._scenario = scenario
        self._seed = seed
        self._agenda = agenda = Agenda()
        fleet = scenario.fleet
        self._nodes = [
            Node(f"node-{place}", capacity=fleet.capacity_pages, page_s=fleet.page_s)
            for place in range(fleet.nodes)
        ]
        if fleet.is_one_machine:
            self._machines = [Machine(agenda, cores=fleet.cores, nodes=self._nodes)] * fleet.nodes
        else:
            self._machines = [Machine(agenda, cores=fleet.cores, nodes=[node]) for node in self._nodes]
        self._servers = [self._server(place) for place in range(fleet.nodes * fleet.replicas_per_node)]
        is_picking = scenario.steering is Steering.PICKS
        self._watch = Watch(agenda, self._servers, is_picking=is_picking)
        draw = self._random("steering")
        self._steering = (
            Picks(policy, self._watch, draw) if is_picking else SharedOut(policy, self._watch, draw, agenda)
        )
        self._requests: list[Request] = []
        self._open = 0
        self._arrivals = scenario.arrivals.times(self._random("arrivals"), scenario.duration_s)
        self._are_all_sent = False
        self._observer = Observer(agenda, self._nodes, self._servers, self._machines, scenario.watched_s)
        self._disturb()

    def outcome(self) -> Outcome:
        """Run to the end."""
        self._await_next()
        self._agenda.run(lambda: self._are_all_sent and not self._open)
        measured = tuple(one for one in self._requests if one.sent_s >= self._scenario.warmup_s)
        per_node = self._scenario.fleet.replicas_per_node
        return Outcome(
            requests=measured,
            servers=self._watch.names,
            nodes=tuple(place // per_node for place in range(len(self._servers))),
            page_ins=sum(one.pages for one in measured),
            ended_s=self._agenda.now_s,
            seen=tuple(self._observer.seen),
        )

    def _random(self, what: str) -> Random:
        return Random(f"{self._seed} {what}")  # noqa: S311 - a run that can be had again

    def _server(self, place: int) -> Server:
        fleet = self._scenario.fleet
        node, number = divmod(place, fleet.replicas_per_node)
        return Server(
            number=place,
            name=f"node-{node}-replica-{number}",
            machine=self._machines[node],
            node=self._nodes[node],
            work=fleet.work,
            slots=fleet.slots,
            draw=self._random(f"work of {place}"),
            answered=self._answered,
        )

    def _disturb(self) -> None:
        scenario, agenda = self._scenario, self._agenda
        for number, episode in enumerate(scenario.episodes):
            Antagonist(
                name=f"antagonist-{number}",
                episode=episode,
                agenda=agenda,
                machine=self._machines[episode.node],
                node=self._nodes[episode.node],
            )
        for resize in scenario.resizes:
            agenda.plan(resize.at_s, self._resize, resize)
        peers: Peers = {}
        for place, node in enumerate(self._nodes):
            Sampler(
                place=place,
                agenda=agenda,
                machine=self._machines[place],
                node=node,
                servers=[server for server in self._servers if server.node is node],
                signals=scenario.signals,
                peers=peers,
                draw=self._random(f"signals of {place}"),
                told=self._watch.told,
            )

    def _resize(self, resize: Resize) -> None:
        self._nodes[resize.node].memory.resize(resize.capacity_pages)

    def _await_next(self) -> None:
        due_s = next(self._arrivals, None)
        if due_s is None:
            self._are_all_sent = True
        else:
            self._agenda.plan(due_s, self._send, due_s)

    def _send(self, due_s: float) -> None:
        request = Request(due_s)
        self._requests.append(request)
        self._open += 1
        place = self._steering.place()
        self._watch.sent(request, place)
        self._servers[place].take(request)
        self._await_next()

    def _answered(self, request: Request) -> None:
        request.answered_s = self._agenda.now_s
        self._open -= 1
        self._watch.answered(request)
        self._observer.answered(request)
