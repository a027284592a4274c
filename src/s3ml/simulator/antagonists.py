"""Who disturbs a simulated node: what sweeps its TEE memory, what uses its cores; they come, go and move."""

from dataclasses import dataclass

from s3ml.primitives.errors import ConfigurationError
from s3ml.simulator.agenda import Agenda
from s3ml.simulator.machine import Machine, Node

_TOUCHES_PER_S = 50
_LEAST_PAUSE_S = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """One antagonist on one node for a time; one that moves is several of them.

    Args:
        node: The node's place in the fleet.
        begins_s: From when on.
        ends_s: Until when.
        pages: Size of the set that it sweeps; 0 for none.
        sweeps_per_s: How often it touches the whole set in a second, where paging lets it.
        cores: Cores that it asks for.
    """

    node: int
    begins_s: float
    ends_s: float
    pages: float = 0.0
    sweeps_per_s: float = 2.0
    cores: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what never happens or uses less than nothing."""
        if (
            not 0 <= self.begins_s < self.ends_s
            or min(self.pages, self.sweeps_per_s, self.cores, self.node) < 0
        ):
            raise ConfigurationError(
                f"episode: expected a beginning before its end and no negative figure, got {self}"
            )


class Antagonist:
    """Lives through one episode.

    Args:
        name: Unique among the sets of its node.
        episode: What it does.
        agenda: Its time.
        machine: Whose cores it uses.
        node: Whose TEE memory it uses.
    """

    __slots__ = ("_agenda", "_episode", "_machine", "_name", "_node", "_touched_s")

    def __init__(self, *, name: str, episode: Episode, agenda: Agenda, machine: Machine, node: Node) -> None:
        self._name = name
        self._episode = episode
        self._agenda = agenda
        self._machine = machine
        self._node = node
        self._touched_s = 0.0
        agenda.plan(episode.begins_s, self._begin)
        agenda.plan(episode.ends_s, self._end)

    def _begin(self, _: object) -> None:
        if self._episode.cores:
            self._machine.hog(self._episode.cores)
        if self._episode.pages:
            self._node.memory.add(self._name, self._episode.pages)
            self._touch(None)

    def _end(self, _: object) -> None:
        if self._episode.cores:
            self._machine.hog(-self._episode.cores)
        if self._episode.pages:
            self._node.memory.remove(self._name)

    def _touch(self, _: object) -> None:
        """Touch a piece of the set; the next follows at the pace of the sweeps, or once this one is there."""
        if self._agenda.now_s >= self._episode.ends_s:
            return
        self._touched_s = self._agenda.now_s
        missing = self._node.memory.touch(self._name, min(1.0, self._episode.sweeps_per_s / _TOUCHES_PER_S))
        if missing > 0:
            self._machine.page(self._node, missing, self._rest, None)
        else:
            self._rest(None)

    def _rest(self, _: object) -> None:
        next_s = max(self._touched_s + 1 / _TOUCHES_PER_S, self._agenda.now_s + _LEAST_PAUSE_S)
        self._agenda.plan(next_s, self._touch)
