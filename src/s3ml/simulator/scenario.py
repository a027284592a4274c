"""What is simulated: a fleet, its load, who disturbs it, and how readings come."""

from dataclasses import dataclass, field

from s3ml.primitives.errors import ConfigurationError
from s3ml.simulator.antagonists import Episode
from s3ml.simulator.arrivals import Arrivals
from s3ml.simulator.serving import Work
from s3ml.simulator.signals import Signals
from s3ml.simulator.steering import Steering

PAGE_S = 12e-6
"""One page in and another out on a node's path: about 83,000 a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize:
    """A node's TEE memory changes its size, as where others are given of it.

    Args:
        node: The node's place.
        at_s: When.
        capacity_pages: The size from then on.
    """

    node: int
    at_s: float
    capacity_pages: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The nodes and what runs there.

    Args:
        nodes: How many; at least 1.
        replicas_per_node: At least 1.
        cores: Of each machine.
        is_one_machine: Whether all nodes share the cores of one machine, as emulated nodes do.
        capacity_pages: TEE memory of each node.
        work: What a request asks of a replica.
        slots: Requests that a replica works on at once.
        page_s: What a page takes on a node's path.
    """

    nodes: int
    replicas_per_node: int
    cores: float
    capacity_pages: float
    work: Work
    is_one_machine: bool = False
    slots: int = 1
    page_s: float = PAGE_S

    def __post_init__(self) -> None:
        """Refuse an empty fleet."""
        if min(self.nodes, self.replicas_per_node, self.slots) < 1:
            raise ConfigurationError(
                f"fleet: expected at least one node, replica and slot, got {self.nodes}, "
                f"{self.replicas_per_node} and {self.slots}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One run but for its policy and seed.

    Args:
        fleet: The nodes and replicas.
        arrivals: The load.
        duration_s: For how long requests are sent; all of them are answered in the end.
        warmup_s: Requests sent before this are answered and not measured.
        episodes: Who disturbs which node, when.
        resizes: How TEE memory changes.
        signals: How readings reach the balancer.
        steering: What the policy decides.
        watched_s: Over how long each row of what was seen on a node is taken; 0 sees nothing.
    """

    fleet: Fleet
    arrivals: Arrivals
    duration_s: float
    warmup_s: float = 0.0
    episodes: tuple[Episode, ...] = ()
    resizes: tuple[Resize, ...] = ()
    signals: Signals = field(default_factory=Signals)
    steering: Steering = Steering.PICKS
    watched_s: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what names nodes that there are not, or measures nothing."""
        places = {one.node for one in self.episodes} | {one.node for one in self.resizes}
        places |= set(self.signals.liars)
        if any(not 0 <= place < self.fleet.nodes for place in places):
            raise ConfigurationError(
                f"scenario: expected places of nodes from 0 to {self.fleet.nodes - 1}, got {sorted(places)}"
            )
        if not 0 <= self.warmup_s < self.duration_s or self.watched_s < 0:
            raise ConfigurationError(
                f"scenario: expected a warm-up shorter than the run, got {self.warmup_s} s "
                f"of {self.duration_s} s"
            )
