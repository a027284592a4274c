"""One service's fleet as a balancer knows it: observations go in, views come out; no input or output here.

What is observed: Envoy's counters of each replica, readings of each node and of each server on it, and, where
requests are picked one by one, their beginnings and ends. All of it is the host's word.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from s3ml.scheduling.balancer.membership import Member
from s3ml.scheduling.balancer.timing import WINDOW_S, CountedTiming, SampledTiming
from s3ml.scheduling.balancer.view import Replica, View
from s3ml.tee_memory.reading import Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What the gateway counted of one replica.

    Args:
        address: ``ip:port``.
        is_ready: Whether the gateway sends it requests.
        in_flight: Requests that it has not answered.
        succeeded: How many it answered since it is known.
        failed: How many it answered with an error of its own, or lost.
    """

    address: str
    is_ready: bool
    in_flight: int
    succeeded: int
    failed: int


@dataclass(slots=True)
class _Tracked:
    """A member with all that was observed of it."""

    member: Member
    sampled: SampledTiming
    counted: CountedTiming
    is_ready: bool = False
    in_flight: int = 0


class Fleet:
    """Tracks one service; used by one event loop.

    Args:
        is_picking: Whether all requests are picked one by one: then what the picker counted is taken, which
            is newer and exact, instead of what the gateway's samples say.
        window_s: Over how long latencies and errors are taken.
    """

    def __init__(self, *, is_picking: bool = False, window_s: float = WINDOW_S) -> None:
        self._is_picking = is_picking
        self._window_s = window_s
        self._tracked: dict[str, _Tracked] = {}
        self._by_address: dict[str, _Tracked] = {}
        self._nodes: dict[str, Reading] = {}
        self._own: dict[str, Reading] = {}
        self._turn = 0
        self._previous: Mapping[str, float] = {}

    @property
    def members(self) -> tuple[Member, ...]:
        """Who is in the fleet, in the order in which they were named."""
        return tuple(tracked.member for tracked in self._tracked.values())

    def set_members(self, members: Iterable[Member]) -> None:
        """Take over who is in the fleet; what is known of those who stay is kept."""
        self._tracked = {member.name: self._kept(member) or self._new(member) for member in members}
        self._by_address = {tracked.member.address: tracked for tracked in self._tracked.values()}

    def observe_hosts(self, now_s: float, hosts: Iterable[Host]) -> None:
        """Take in what the gateway counted; a member that it does not name is not ready."""
        seen = {host.address: host for host in hosts}
        for address, tracked in self._by_address.items():
            host = seen.get(address)
            if host is None:
                tracked.is_ready = False
                continue
            tracked.is_ready = host.is_ready
            tracked.in_flight = host.in_flight
            tracked.sampled.sample(
                now_s, in_flight=host.in_flight, succeeded=host.succeeded, failed=host.failed
            )

    def observe_node(self, node: str, reading: Reading, servers: Mapping[str, Reading]) -> None:
        """Take in a node's newest reading, and those of its servers by name.

        A reading that stops being renewed is kept: its age says how much it is worth.
        """
        self._nodes[node] = reading
        self._own.update(servers)

    def forget_nodes(self, keep: Iterable[str]) -> None:
        """Drop the readings of nodes that are not in `keep`."""
        kept = set(keep)
        self._nodes = {node: reading for node, reading in self._nodes.items() if node in kept}
        self._own = {name: reading for name, reading in self._own.items() if name in self._tracked}

    def began(self, name: str, key: int, now_s: float) -> None:
        """Count a request that was picked for a replica; `key` names it until its end."""
        if (tracked := self._tracked.get(name)) is not None:
            tracked.counted.began(key, now_s)

    def ended(self, name: str, key: int, now_s: float, *, is_answered: bool, is_error: bool = False) -> None:
        """Count the end of one: see `CountedTiming.ended`."""
        if (tracked := self._tracked.get(name)) is not None:
            tracked.counted.ended(key, now_s, is_answered=is_answered, is_error=is_error)

    def name_at(self, address: str) -> str | None:
        """Return the name of the replica at an address, if there is one."""
        tracked = self._by_address.get(address)
        return None if tracked is None else tracked.member.name

    def address_of(self, name: str) -> str | None:
        """Return where a replica is, if there is one of that name."""
        tracked = self._tracked.get(name)
        return None if tracked is None else tracked.member.address

    def node_reading(self, node: str) -> Reading | None:
        """Return a node's newest reading, if there is one."""
        return self._nodes.get(node)

    def settle(self, shares: Mapping[str, float]) -> None:
        """Remember what a step decided; the next view shows it."""
        self._previous = dict(shares)

    def view(self, now_s: float, *, among: frozenset[str] | None = None) -> View:
        """Return the fleet as it stands, and count the turn.

        Args:
            now_s: Monotonic, on the clock of the observations.
            among: The only addresses that may be chosen; None for all. Others are shown as not ready.
        """
        turn, self._turn = self._turn, self._turn + 1
        return View(
            now_s=now_s,
            replicas=tuple(self._replica(tracked, now_s, among) for tracked in self._tracked.values()),
            nodes=self._nodes,
            turn=turn,
            previous=self._previous,
        )

    def _replica(self, tracked: _Tracked, now_s: float, among: frozenset[str] | None) -> Replica:
        member = tracked.member
        timing = tracked.counted.at(now_s) if self._is_picking else tracked.sampled.at(now_s)
        return Replica(
            name=member.name,
            node=member.node,
            is_ready=tracked.is_ready and (among is None or member.address in among),
            in_flight=tracked.counted.in_flight if self._is_picking else tracked.in_flight,
            latency_s=timing.latency_s,
            service_s=timing.service_s,
            rate_rps=timing.rate_rps,
            answered_at_s=timing.answered_at_s,
            oldest_s=timing.oldest_s,
            error_share=timing.error_share,
            own=self._own.get(member.name),
        )

    def _kept(self, member: Member) -> _Tracked | None:
        """Return what is known of a member, unless it moved and so is another."""
        tracked = self._tracked.get(member.name)
        return tracked if tracked is not None and tracked.member == member else None

    def _new(self, member: Member) -> _Tracked:
        return _Tracked(
            member=member,
            sampled=SampledTiming(self._window_s),
            counted=CountedTiming(self._window_s),
        )
