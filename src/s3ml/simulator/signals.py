"""What a balancer hears of simulated nodes: readings that come late, get lost, are noisy, or lie."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from random import Random

from s3ml.primitives.errors import ConfigurationError
from s3ml.simulator.agenda import Agenda
from s3ml.simulator.machine import Machine, Node
from s3ml.simulator.serving import Server
from s3ml.tee_memory.reading import PAGE_BYTES, Counts, Kind, Reading, compare

SAMPLE_PERIOD_S = 0.25
"""As often as shares are renewed at the least."""
_HUGE_PAGES_PER_S = 1e6


class Forgery(StrEnum):
    """How a host lies about its paging."""

    NONE = "none"
    ZERO = "zero"
    """Nothing pages, and all fits."""
    HUGE = "huge"
    """A million pages a second: absurd, but a number."""
    INFINITE = "infinite"
    SWAPPED = "swapped"
    """Each liar shows the reading of the next liar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """How readings come from the nodes.

    Args:
        period_s: Between samples of a node; positive.
        delay_s: From the sample to the balancer.
        loss: The share of readings, from 0 to 1, that never come.
        noise: The standard deviation of rates, relative, log-normal.
        forgery: What the liars do.
        liars: The places of the nodes that lie.
        lies_from_s: When they begin.
    """

    period_s: float = SAMPLE_PERIOD_S
    delay_s: float = 0.0
    loss: float = 0.0
    noise: float = 0.0
    forgery: Forgery = Forgery.NONE
    liars: tuple[int, ...] = ()
    lies_from_s: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what no signal does."""
        if (
            not self.period_s > 0
            or min(self.delay_s, self.noise, self.lies_from_s) < 0
            or not 0 <= self.loss <= 1
        ):
            raise ConfigurationError(
                f"signals: expected a positive period, no negative figure, loss to 1, got {self}"
            )


@dataclass(frozen=True, slots=True)
class _Counted:
    """A count that was taken already, as a source."""

    name: str
    counts: Counts
    kind: Kind = Kind.SIMULATED

    def count(self) -> Counts:
        return self.counts

    def close(self) -> None:
        """Nothing was set up."""


Peers = dict[int, tuple[Reading, Mapping[str, Reading]]]
Told = Callable[[str, Reading, Mapping[str, Reading]], None]


class Sampler:
    """Samples one node again and again, and tells the balancer what it is to hear.

    Args:
        place: The node's place in the fleet.
        machine: Brings the counts up to now.
        node: What is sampled.
        servers: Those on the node.
        signals: How readings come.
        peers: All nodes' newest true readings; each sampler renews its own.
        draw: For losses and noise.
        told: Called with the node's name, its reading, and its servers' readings, when they come.
    """

    __slots__ = (
        "_agenda",
        "_before",
        "_draw",
        "_machine",
        "_node",
        "_peers",
        "_place",
        "_servers",
        "_signals",
        "_told",
    )

    def __init__(
        self,
        *,
        place: int,
        agenda: Agenda,
        machine: Machine,
        node: Node,
        servers: Sequence[Server],
        signals: Signals,
        peers: Peers,
        draw: Random,
        told: Told,
    ) -> None:
        self._place = place
        self._agenda = agenda
        self._machine = machine
        self._node = node
        self._servers = tuple(servers)
        self._signals = signals
        self._peers = peers
        self._draw = draw
        self._told = told
        self._before: dict[str, Counts] = {}
        agenda.plan(0.0, self._sample)

    def _sample(self, _: object) -> None:
        signals = self._signals
        self._agenda.plan(self._agenda.now_s + signals.period_s, self._sample)
        self._machine.advance()
        reading = self._read(self._node.name, node_counts(self._node, self._agenda.now_s))
        own = {
            server.name: self._read(server.name, server_counts(server, self._agenda.now_s))
            for server in self._servers
        }
        self._peers[self._place] = (reading, own)
        if signals.loss and self._draw.random() < signals.loss:
            return
        if signals.forgery is not Forgery.NONE and self._place in signals.liars:
            if self._agenda.now_s >= signals.lies_from_s:
                reading, own = self._lie(reading, own)
        elif signals.noise:
            reading = self._blurred(reading)
            own = {name: self._blurred(one) for name, one in own.items()}
        self._agenda.plan(self._agenda.now_s + signals.delay_s, self._tell, (reading, own))

    def _tell(self, readings: tuple[Reading, Mapping[str, Reading]]) -> None:
        self._told(self._node.name, *readings)

    def _read(self, name: str, counts: Counts) -> Reading:
        reading = compare(_Counted(name, counts), self._before.get(name), counts)
        self._before[name] = counts
        return reading

    def _blurred(self, reading: Reading) -> Reading:
        factor = math.exp(self._draw.gauss(0.0, self._signals.noise))
        return replace(
            reading,
            page_ins_per_s=None if reading.page_ins_per_s is None else reading.page_ins_per_s * factor,
            page_outs_per_s=None if reading.page_outs_per_s is None else reading.page_outs_per_s * factor,
        )

    def _lie(self, reading: Reading, own: Mapping[str, Reading]) -> tuple[Reading, dict[str, Reading]]:
        forgery, liars = self._signals.forgery, self._signals.liars
        if forgery is not Forgery.SWAPPED:
            return forged(reading, forgery), {name: forged(one, forgery) for name, one in own.items()}
        other = liars[(liars.index(self._place) + 1) % len(liars)]
        shown, others = self._peers.get(other, (reading, own))
        return shown, dict(zip(own, others.values(), strict=False)) or dict(own)


def forged(reading: Reading, forgery: Forgery) -> Reading:
    """Return a reading as a lying host shows it; pure.

    Args:
        reading: The true one.
        forgery: All but SWAPPED, which needs another's reading.
    """
    if forgery is Forgery.ZERO:
        resident = None if reading.capacity_bytes is None else reading.capacity_bytes // 2
        return replace(
            reading,
            resident_bytes=resident,
            evicted_bytes=0,
            page_ins_per_s=0.0,
            page_outs_per_s=0.0,
            pressure=0.0,
        )
    if forgery in {Forgery.HUGE, Forgery.INFINITE}:
        rate = math.inf if forgery is Forgery.INFINITE else _HUGE_PAGES_PER_S
        return replace(reading, page_ins_per_s=rate, page_outs_per_s=rate, pressure=1.0)
    return reading


def node_counts(node: Node, now_s: float) -> Counts:
    """Return what a node counted up to now; its machine must have been brought up to now."""
    memory = node.memory
    return Counts(
        taken_at_s=now_s,
        capacity_bytes=round(memory.capacity * PAGE_BYTES),
        resident_bytes=round(memory.resident * PAGE_BYTES),
        evicted_bytes=round(memory.evicted * PAGE_BYTES),
        page_ins=round(memory.page_ins),
        page_outs=round(memory.page_outs),
        stalled_s=node.stalled_s,
    )


def server_counts(server: Server, now_s: float) -> Counts:
    """Return what was counted for one server: its own pages alone."""
    memory = server.node.memory
    resident = memory.resident_of(server.name)
    return Counts(
        taken_at_s=now_s,
        capacity_bytes=round(memory.capacity * PAGE_BYTES),
        resident_bytes=round(resident * PAGE_BYTES),
        evicted_bytes=round((server.hot_pages - resident) * PAGE_BYTES),
        page_ins=round(server.page_ins),
    )
