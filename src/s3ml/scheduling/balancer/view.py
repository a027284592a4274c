"""What a balancer sees of a fleet, and what it says: values that cross from observing to deciding.

All of it is the host's word. It decides where a sealed request goes, and nothing about who may read it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Protocol

from s3ml.tee_memory.reading import Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One model server as a balancer sees it.

    Args:
        name: Unique in its fleet.
        node: The host whose TEE memory it shares with others.
        is_ready: Whether it may be sent anything.
        in_flight: Requests that it was sent and has not answered.
        latency_s: What its newest answers took in the mean, waiting included; None before the first one.
        service_s: How long it worked for each of its newest answers: the time in which it had something in
            flight, over the answers of that time. Waiting behind others is not in it. None before the first.
        rate_rps: Answers in a second, newly; None if that is not known.
        answered_at_s: When its newest answer came, on the clock of the view; None before the first one.
        oldest_s: How long the oldest request in flight has waited; 0 if none is, or that is not known.
        error_share: The share of its newest answers, from 0 to 1, that were errors of the server.
        own: The paging that was attributed to it alone; None if that is not known.
    """

    name: str
    node: str
    is_ready: bool
    in_flight: int = 0
    latency_s: float | None = None
    service_s: float | None = None
    rate_rps: float | None = None
    answered_at_s: float | None = None
    oldest_s: float = 0.0
    error_share: float = 0.0
    own: Reading | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A fleet at one instant.

    Args:
        now_s: Monotonic, on the clock on which the readings were taken.
        replicas: Names are unique; the order is kept from one view to the next.
        nodes: The newest reading of each node; one may lack.
        turn: How many picks or steps there were before; counts on by one.
        previous: The shares of the step before, by replica; empty at the beginning.
    """

    now_s: float
    replicas: tuple[Replica, ...]
    nodes: Mapping[str, Reading] = field(default_factory=dict)
    turn: int = 0
    previous: Mapping[str, float] = field(default_factory=dict)

    @property
    def ready(self) -> tuple[Replica, ...]:
        """The replicas that may be sent something."""
        return tuple([replica for replica in self.replicas if replica.is_ready])


class Reason(StrEnum):
    """Why a replica was or was not chosen; a bounded set, for metrics."""

    CHOSEN = "chosen"
    """It came out best, or it was its turn."""
    EXPLORED = "explored"
    """It was tried so that what is known of it stays true."""
    FELL_BACK = "fell-back"
    """It was chosen without regard to its readings, which could not be relied on."""
    NOT_READY = "not-ready"
    NOT_DRAWN = "not-drawn"
    """It was not among those that were compared, or it was another's turn."""
    BUSIER = "busier"
    """More requests are in flight there."""
    SLOWER = "slower"
    """It would have answered later."""
    PAGING = "paging"
    """Its node pages more than its policy lets it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Where one request goes: a replica's name, or None if none is ready; and why for each replica."""

    replica: str | None
    reasons: Mapping[str, Reason]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """How requests are divided until the next step.

    Args:
        share: By ready replica; positive, 1 in sum; empty if none is ready.
        reasons: Of every replica: what made its share smaller than others', or CHOSEN.
    """

    share: Mapping[str, float]
    reasons: Mapping[str, Reason]


class Policy(Protocol):
    """Decides by a view alone: the same view and the same draws give the same answer."""

    @property
    def name(self) -> str:
        """The word by which people choose it."""
        ...

    def pick(self, view: View, draw: Random) -> Choice:
        """Choose where one request goes, among the ready replicas."""
        ...

    def shares(self, view: View) -> Shares:
        """Divide the requests that come until the next step."""
        ...
