"""Picks: where one request goes, by the policy that decides now, and what became of it; no I/O."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from s3ml.primitives.clock import Clock
from s3ml.scheduling.balancer.fleet import Fleet
from s3ml.scheduling.balancer.metrics import Pick
from s3ml.scheduling.balancer.service import BalancerService
from s3ml.scheduling.picker.messages import Answered, Question, destination

_SERVER_ERROR = 500
_ADDRESSES_REMEMBERED = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Picked:
    """A request that is on its way.

    Args:
        key: Names it.
        fleet: Of its service.
        replica: Where it was sent.
        began_at_s: Monotonic.
        answer: What the gateway is told.
    """

    key: int
    fleet: Fleet
    replica: str
    began_at_s: float
    answer: bytes


class Picker:
    """Decides for each request, with what the balancer knows of its service's fleet.

    Args:
        balancer: Knows the fleets, and which policy decides.
        service_of: Reads the service out of a request's path; None if it names none. Where there is one
            service only, all requests are for it.
        draw: For policies that draw.
        clock: That of the balancer.
    """

    def __init__(
        self,
        balancer: BalancerService,
        *,
        service_of: Callable[[str], str | None],
        draw: Random,
        clock: Clock,
    ) -> None:
        self._balancer = balancer
        self._service_of = service_of
        self._draw = draw
        self._clock = clock
        self._keys = itertools.count()
        self._destination = lru_cache(_ADDRESSES_REMEMBERED)(lambda address: destination([address]))

    def pick(self, question: Question) -> Picked | None:
        """Choose where a request goes; None if nothing that may be is ready, or no service is meant."""
        began_at_s = self._clock.monotonic_s()
        picked = self._pick(question, began_at_s)
        outcome = Pick.NONE_READY if picked is None else Pick.CHOSEN
        self._balancer.metrics.count_pick(outcome, self._clock.monotonic_s() - began_at_s)
        return picked

    def answered(self, picked: Picked, answered: Answered) -> None:
        """Take in that a request was answered, by whichever replica it was."""
        now_s, fleet = self._clock.monotonic_s(), picked.fleet
        is_error = answered.status >= _SERVER_ERROR
        served = fleet.name_at(answered.served_by) if answered.served_by else picked.replica
        if served == picked.replica:
            fleet.ended(picked.replica, picked.key, now_s, is_answered=True, is_error=is_error)
            return
        fleet.ended(picked.replica, picked.key, now_s, is_answered=False)
        if served is not None:  # The gateway tried another after the one that was picked.
            fleet.began(served, picked.key, picked.began_at_s)
            fleet.ended(served, picked.key, now_s, is_answered=True, is_error=is_error)

    def given_up(self, picked: Picked) -> None:
        """Take in that a request ended without an answer: its caller went, or the gateway did."""
        now_s = self._clock.monotonic_s()
        picked.fleet.ended(picked.replica, picked.key, now_s, is_answered=False)

    def refused(self) -> None:
        """Take in that a gateway sent something that is no question."""
        self._balancer.metrics.count_pick(Pick.REFUSED, 0.0)

    def _pick(self, question: Question, now_s: float) -> Picked | None:
        fleets = self._balancer.fleets
        service = next(iter(fleets)) if len(fleets) == 1 else self._service_of(question.path)
        fleet = fleets.get(service or "")
        if fleet is None:
            return None
        choice = self._balancer.policy.pick(fleet.view(now_s, among=question.among), self._draw)
        self._balancer.metrics.count_reasons(service or "", choice.reasons)
        address = None if choice.replica is None else fleet.address_of(choice.replica)
        if choice.replica is None or address is None:
            return None
        key = next(self._keys)
        fleet.began(choice.replica, key, now_s)
        return Picked(
            key=key,
            fleet=fleet,
            replica=choice.replica,
            began_at_s=now_s,
            answer=self._destination(address),
        )
