"""A simulated model server: a queue, and one request at a time from there.

A request touches the whole hot set: what is missing of it is brought back first, then it computes.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from s3ml.primitives.errors import ConfigurationError
from s3ml.simulator.machine import Machine, Node


class Request:
    """One request on its way; times are the simulation's."""

    __slots__ = ("answered_s", "pages", "sent_s", "server")

    def __init__(self, sent_s: float) -> None:
        self.sent_s = sent_s
        self.answered_s = 0.0
        self.pages = 0.0
        self.server = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one request asks of a server.

    Args:
        compute_s: Of one core, in the mean, with every page resident; positive.
        cv: The standard deviation of it over its mean: 0 is always the same, 1 exponential, others Gamma.
        hot_pages: What a request touches, in pages; 0 touches nothing.
    """

    compute_s: float
    cv: float = 0.0
    hot_pages: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what no server does."""
        if not self.compute_s > 0 or self.cv < 0 or self.hot_pages < 0:
            raise ConfigurationError(
                f"work: expected positive compute time, and no negative figure, got {self}"
            )

    def draw_s(self, draw: Random) -> float:
        """Return the compute time of one request."""
        if self.cv == 0:
            return self.compute_s
        if self.cv == 1:
            return draw.expovariate(1 / self.compute_s)
        shape = 1 / self.cv**2
        return draw.gammavariate(shape, self.compute_s / shape)


class Server:
    """One replica.

    Args:
        number: Its place in the fleet.
        name: Unique in the fleet.
        machine: Whose cores it uses.
        node: Whose TEE memory it lies in.
        work: What a request asks of it.
        slots: How many requests it works on at once; the others wait.
        draw: For compute times.
        answered: Called with each request once it is answered.
    """

    __slots__ = (
        "_answered",
        "_draw",
        "_running",
        "_slots",
        "_waiting",
        "_work",
        "machine",
        "name",
        "node",
        "number",
        "page_ins",
    )

    def __init__(
        self,
        *,
        number: int,
        name: str,
        machine: Machine,
        node: Node,
        work: Work,
        slots: int,
        draw: Random,
        answered: Callable[[Request], None],
    ) -> None:
        self.number = number
        self.name = name
        self.machine = machine
        self.node = node
        self.page_ins = 0.0
        self._work = work
        self._slots = slots
        self._draw = draw
        self._answered = answered
        self._waiting: deque[Request] = deque()
        self._running = 0
        node.memory.add(name, work.hot_pages, is_loaded=True)

    @property
    def in_flight(self) -> int:
        """Requests that it was sent and has not answered."""
        return self._running + len(self._waiting)

    @property
    def hot_pages(self) -> float:
        """The pages that a request touches."""
        return self._work.hot_pages

    def take(self, request: Request) -> None:
        """Begin a request, or let it wait."""
        request.server = self.number
        if self._running < self._slots:
            self._begin(request)
        else:
            self._waiting.append(request)

    def _begin(self, request: Request) -> None:
        self._running += 1
        missing = self.node.memory.touch(self.name)
        if missing > 0:
            request.pages = missing
            self.page_ins += missing
            self.machine.page(self.node, missing, self._compute, request)
        else:
            self._compute(request)

    def _compute(self, request: Request) -> None:
        self.machine.compute(self.node, self._work.draw_s(self._draw), self._done, request)

    def _done(self, request: Request) -> None:
        self._running -= 1
        self._answered(request)
        if self._waiting:
            self._begin(self._waiting.popleft())
