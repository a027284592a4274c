"""How requests find a simulated server: each picked by the policy, or by shares that a gateway keeps to.

The gateway is Envoy's `least_request`. Where all weights are equal it compares the requests in flight of two
hosts drawn at random; where they differ it takes turns, each host as often as its weight over its requests
in flight and one says, by the earliest deadline.

Source: Envoy's documentation of its load balancers, "Weighted least request".
"""

import heapq
from collections.abc import Mapping, Sequence
from enum import StrEnum
from random import Random

from s3ml.scheduling.balancer import Policy
from s3ml.scheduling.balancer.weights import weights
from s3ml.simulator.agenda import Agenda
from s3ml.simulator.watching import Watch

STEP_S = 0.25


class Steering(StrEnum):
    """What a policy decides."""

    PICKS = "picks"
    """Where each request goes."""
    SHARES = "shares"
    """How requests are divided, four times a second; the gateway does the rest."""


class Picks:
    """Asks the policy about each request."""

    __slots__ = ("_draw", "_places", "_policy", "_watch")

    def __init__(self, policy: Policy, watch: Watch, draw: Random) -> None:
        self._policy = policy
        self._watch = watch
        self._draw = draw
        self._places = {name: place for place, name in enumerate(watch.names)}

    def place(self) -> int:
        """Return the place of the server that gets the next request."""
        chosen = self._policy.pick(self._watch.view(), self._draw).replica
        if chosen is None:
            raise AssertionError("all simulated servers are ready, and none was chosen")
        return self._places[chosen]


class SharedOut:
    """Asks the policy for shares again and again, and plays Envoy between."""

    __slots__ = ("_agenda", "_gateway", "_policy", "_watch")

    def __init__(self, policy: Policy, watch: Watch, draw: Random, agenda: Agenda) -> None:
        self._policy = policy
        self._watch = watch
        self._agenda = agenda
        self._gateway = LeastRequest(watch.in_flight, draw)
        agenda.plan(0.0, self._step)

    def place(self) -> int:
        """Return the place of the server that gets the next request."""
        return self._gateway.place()

    def _step(self, _: object) -> None:
        self._agenda.plan(self._agenda.now_s + STEP_S, self._step)
        self._watch.sample()
        view = self._watch.view()
        shares = self._policy.shares(view)
        self._watch.settle(shares.share)
        self._gateway.weigh(list(_in_order(self._watch.names, weights(view, shares))))


def _in_order(names: Sequence[str], found: Mapping[str, int]) -> Sequence[int]:
    return [found[name] for name in names]


class LeastRequest:
    """Envoy's weighted least request over hosts by their places.

    Args:
        in_flight: Of each host; kept up to date by its owner.
        draw: For the two that are compared, and for where a schedule begins.
    """

    __slots__ = ("_draw", "_due", "_in_flight", "_now", "_number", "_weights")

    def __init__(self, in_flight: Sequence[int], draw: Random) -> None:
        self._in_flight = in_flight
        self._draw = draw
        self._weights: list[int] = [1] * len(in_flight)
        self._due: list[tuple[float, int, int]] = []
        self._number = 0
        self._now = 0.0

    def weigh(self, weights: list[int]) -> None:
        """Take new weights; where any differs from before, the schedule begins anew at a random point."""
        if weights == self._weights:
            return
        self._weights = weights
        self._due.clear()
        self._now = 0.0
        if len(set(weights)) == 1:
            return
        for place in range(len(weights)):
            self._put(place)
        for _ in range(self._draw.randrange(2 * len(weights))):
            self._next()

    def place(self) -> int:
        """Return the next host's place."""
        if self._due:
            return self._next()
        count = len(self._in_flight)
        if count == 1:
            return 0
        one = self._draw.randrange(count)
        other = self._draw.randrange(count)
        return one if self._in_flight[one] <= self._in_flight[other] else other

    def _next(self) -> int:
        self._now, _, place = heapq.heappop(self._due)
        self._put(place)
        return place

    def _put(self, place: int) -> None:
        self._number += 1
        interval = (self._in_flight[place] + 1) / self._weights[place]
        heapq.heappush(self._due, (self._now + interval, self._number, place))
