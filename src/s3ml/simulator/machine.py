"""A simulated machine: cores that its nodes share, and each node's one path for pages.

Both are shared equally among what uses them at the moment (processor sharing), in virtual time: progress is
what each user has received so far, and a job ends once progress passed what it asks for. So an event costs
the logarithm of the jobs, and nothing runs between events.
"""

import heapq
import math
from collections.abc import Callable, Sequence
from typing import Any

from s3ml.primitives.errors import ConfigurationError
from s3ml.simulator.agenda import Agenda
from s3ml.simulator.memory import Memory

_Done = Callable[[Any], None]
_NEARLY_S = 1e-10
_NEARLY_PAGES = 1e-5


class Jobs:
    """What shares one resource equally."""

    __slots__ = ("_number", "progress", "waiting")

    def __init__(self) -> None:
        self.progress = 0.0
        self.waiting: list[tuple[float, int, _Done, Any]] = []
        self._number = 0

    def add(self, amount: float, done: _Done, argument: Any) -> None:
        """Add a job that asks for `amount`; `done` is called with `argument` at its end."""
        self._number += 1
        heapq.heappush(self.waiting, (self.progress + amount, self._number, done, argument))

    def take(self, nearly: float) -> list[tuple[_Done, Any]]:
        """Remove and return what has ended; `nearly` is what rounding may leave."""
        ended = []
        limit = self.progress + nearly
        while self.waiting and self.waiting[0][0] <= limit:
            _, _, done, argument = heapq.heappop(self.waiting)
            ended.append((done, argument))
        return ended


class Node:
    """A host's TEE memory and the path on which its pages come and go, one after the other.

    Args:
        name: Unique in its fleet.
        capacity: Pages.
        page_s: What a page takes on the path, to bring it back and to evict another for it; positive.
    """

    __slots__ = ("busy_s", "computing", "memory", "name", "path", "rate_per_s", "stalled_s")

    def __init__(self, name: str, *, capacity: float, page_s: float) -> None:
        if not page_s > 0:
            raise ConfigurationError(f"node {name}: expected a page to take more than 0 s, got {page_s}")
        self.name = name
        self.memory = Memory(capacity)
        self.path = Jobs()
        self.rate_per_s = 1 / page_s
        self.computing = 0
        self.busy_s = 0.0
        self.stalled_s = 0.0


class Machine:
    """Cores that compute jobs, busy paths and hogs share; each of these can use one core at most.

    Where cores are fewer than that, everything on the machine slows down alike.

    Args:
        agenda: Its time.
        cores: May be a fraction; positive.
        nodes: The nodes whose work it does: usually one; several where one machine plays many.
    """

    __slots__ = ("_agenda", "_at_s", "_compute", "_is_settling", "_plan", "_speed", "cores", "hogs", "nodes")

    def __init__(self, agenda: Agenda, *, cores: float, nodes: Sequence[Node]) -> None:
        if not cores > 0:
            raise ConfigurationError(f"machine: expected more than 0 cores, got {cores}")
        self._agenda = agenda
        self._at_s = 0.0
        self._compute = Jobs()
        self._is_settling = False
        self._plan = 0
        self._speed = 1.0
        self.cores = cores
        self.hogs = 0.0
        self.nodes = tuple(nodes)

    def compute(self, node: Node, work_s: float, done: _Done, argument: Any) -> None:
        """Compute for `work_s` seconds of one core, then call `done`."""
        self.advance()
        node.computing += 1
        self._compute.add(work_s, _computed, (node, done, argument))
        self._settle()

    def page(self, node: Node, pages: float, done: _Done, argument: Any) -> None:
        """Bring pages back on the node's path, then call `done`."""
        self.advance()
        node.path.add(pages, done, argument)
        self._settle()

    def hog(self, cores: float) -> None:
        """Let somebody else use so many cores more, or fewer where negative."""
        self.advance()
        self.hogs = max(0.0, self.hogs + cores)
        self._settle()

    def advance(self) -> None:
        """Bring progress and counts up to now."""
        passed_s = self._agenda.now_s - self._at_s
        if passed_s <= 0:
            return
        self._at_s = self._agenda.now_s
        done_s = passed_s * self._speed
        self._compute.progress += done_s
        for node in self.nodes:
            using = node.computing
            jobs = len(node.path.waiting)
            if jobs:
                node.path.progress += done_s * node.rate_per_s / jobs
                node.stalled_s += passed_s
                using += 1
            if using:
                node.busy_s += done_s * using

    def _settle(self) -> None:
        """Plan the next end of a job, by how many share what now."""
        if self._is_settling:
            return
        compute = self._compute
        users = len(compute.waiting) + self.hogs
        for node in self.nodes:
            if node.path.waiting:
                users += 1
        self._speed = speed = 1.0 if users <= self.cores else self.cores / users
        next_s = (compute.waiting[0][0] - compute.progress) / speed if compute.waiting else math.inf
        for node in self.nodes:
            path = node.path
            if path.waiting:
                left = (path.waiting[0][0] - path.progress) * len(path.waiting)
                next_s = min(next_s, left / (node.rate_per_s * speed))
        self._plan += 1
        if next_s < math.inf:
            self._agenda.plan(self._agenda.now_s + max(0.0, next_s), self._wake, self._plan)

    def _wake(self, plan: int) -> None:
        if plan != self._plan:
            return
        self.advance()
        ended = self._compute.take(_NEARLY_S)
        for node in self.nodes:
            if node.path.waiting:
                ended += node.path.take(_NEARLY_PAGES)
        self._is_settling = True
        for done, argument in ended:
            done(argument)
        self._is_settling = False
        self._settle()


def _computed(job: tuple[Node, _Done, Any]) -> None:
    node, done, argument = job
    node.computing -= 1
    done(argument)
