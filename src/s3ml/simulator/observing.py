"""What an all-knowing observer sees on simulated nodes: one row for each node and span of time."""

from collections.abc import Sequence
from dataclasses import dataclass

from s3ml.simulator.agenda import Agenda
from s3ml.simulator.machine import Machine, Node
from s3ml.simulator.serving import Request, Server


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One node over one span of time.

    Args:
        node: Its place.
        ends_s: The end of the span.
        latencies_s: Of what the node answered in it.
        page_ins_per_s: Pages brought back in a second, for whomever.
        busy_cores: Cores that computed or paged for it, in the mean.
        in_flight: Requests in flight on it, at the end of the span.
        evicted_pages: What would be in its memory if there were room, at the end.
        headroom: Capacity over what would be in it.
    """

    node: int
    ends_s: float
    latencies_s: tuple[float, ...]
    page_ins_per_s: float
    busy_cores: float
    in_flight: int
    evicted_pages: float
    headroom: float


class Observer:
    """Looks at every node again and again; with a span of 0 it never does.

    Args:
        agenda: Its time.
        nodes: All nodes.
        servers: All servers.
        machines: Of each node.
        span_s: Of each row.
    """

    __slots__ = (
        "_agenda",
        "_answers",
        "_before",
        "_machines",
        "_node_of",
        "_nodes",
        "_servers",
        "_span_s",
        "seen",
    )

    def __init__(
        self,
        agenda: Agenda,
        nodes: Sequence[Node],
        servers: Sequence[Server],
        machines: Sequence[Machine],
        span_s: float,
    ) -> None:
        self._agenda = agenda
        self._nodes = nodes
        self._servers = servers
        self._machines = machines
        self._span_s = span_s
        places = {node.name: place for place, node in enumerate(nodes)}
        self._node_of = [places[server.node.name] for server in servers]
        self._answers: list[list[float]] = [[] for _ in nodes]
        self._before = [(0.0, 0.0) for _ in nodes]
        self.seen: list[Seen] = []
        if span_s:
            agenda.plan(span_s, self._look)

    def answered(self, request: Request) -> None:
        """Count an answer."""
        if self._span_s:
            self._answers[self._node_of[request.server]].append(request.answered_s - request.sent_s)

    def _look(self, _: object) -> None:
        self._agenda.plan(self._agenda.now_s + self._span_s, self._look)
        for place, node in enumerate(self._nodes):
            self._machines[place].advance()
            page_ins, busy_s = self._before[place]
            memory = node.memory
            self._before[place] = (memory.page_ins, node.busy_s)
            self.seen.append(
                Seen(
                    node=place,
                    ends_s=self._agenda.now_s,
                    latencies_s=tuple(self._answers[place]),
                    page_ins_per_s=(memory.page_ins - page_ins) / self._span_s,
                    busy_cores=(node.busy_s - busy_s) / self._span_s,
                    in_flight=sum(one.in_flight for one in self._servers if one.node is node),
                    evicted_pages=memory.evicted,
                    headroom=memory.capacity / max(1.0, memory.resident + memory.evicted),
                )
            )
            self._answers[place] = []
