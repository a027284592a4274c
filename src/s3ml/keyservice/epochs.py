"""The life of a service's keys: which epoch begins when, when it is used, and when it ends.

An epoch belongs to a service and to the digest of its policy. It goes from pending to active to draining to
retired and never back; a service has at most one pending and one active epoch. A pending epoch waits for as
long as a lease lasts, so that every model server holds its keys before a client uses them. A draining one is
kept for as long as clients may still use what they were told, and their requests take.

Pure: decisions alone, no keys.

Source: docs/spec/log.md, section "Epochs".
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Literal

from s3ml.attestation import AppraisalPolicy, is_narrower_or_equal
from s3ml.keyservice.documents import EpochEntry, EpochStateEntry, ServiceTimes

BeginReason = Literal["created", "policy-changed", "scheduled", "requested", "restarted"]
MoveReason = Literal["scheduled", "drained", "lost"]
# The longest that a client waits for an answer to a sealed request.
REQUEST_S = 60
NOTHING_LOST: frozenset[str] = frozenset()


class EpochState(StrEnum):
    """Where an epoch stands in its life."""

    PENDING = "pending"
    ACTIVE = "active"
    DRAINING = "draining"
    RETIRED = "retired"


TRANSITIONS: Mapping[EpochState, frozenset[EpochState]] = MappingProxyType(
    {
        EpochState.PENDING: frozenset({EpochState.ACTIVE, EpochState.RETIRED}),
        EpochState.ACTIVE: frozenset({EpochState.DRAINING, EpochState.RETIRED}),
        EpochState.DRAINING: frozenset({EpochState.RETIRED}),
        EpochState.RETIRED: frozenset(),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """An epoch that is not retired.

    Args:
        service: The service's name.
        policy: Who may hold its private keys.
        policy_sha256: The digest of that policy.
        number: 1, 2, … for each service.
        state: Where it stands.
        since: When it came there.
        generation: Which generation key wraps its private keys.
        key_configs: The public halves, as ``application/ohttp-keys``.
        index: Its entry's place in the log.
        data: Its entry's bytes.
    """

    service: str
    policy: AppraisalPolicy
    policy_sha256: str
    number: int
    state: EpochState
    since: datetime
    generation: str
    key_configs: bytes
    index: int
    data: bytes

    def to(self, state: EpochState, *, at: datetime) -> "Epoch":
        """Return this epoch in another state.

        Raises:
            ValueError: its life does not lead there.
        """
        if state not in TRANSITIONS[self.state]:
            raise ValueError(f"epoch: expected a state after {self.state}, got {state}")
        return replace(self, state=state, since=at)


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochLine:
    """The epochs of one service.

    Args:
        last: The number of the newest epoch that ever was, 0 before the first.
        index: Where the newest epoch's entry stands in the log.
        living: The epochs that are not retired, in order.
    """

    last: int = 0
    index: int = -1
    living: tuple[Epoch, ...] = ()

    def at(self, state: EpochState) -> Epoch | None:
        """Return the newest epoch in `state`."""
        return next((epoch for epoch in reversed(self.living) if epoch.state is state), None)

    def number(self, number: int) -> Epoch | None:
        """Return the living epoch `number`."""
        return next((epoch for epoch in self.living if epoch.number == number), None)

    def begin(self, epoch: Epoch) -> "EpochLine":
        """Return the line with one more epoch."""
        return EpochLine(last=epoch.number, index=epoch.index, living=(*self.living, epoch))

    def move(self, number: int, state: EpochState, *, at: datetime) -> "EpochLine":
        """Return the line with one epoch in another state; the active one makes way for a new active one.

        Raises:
            ValueError: there is no such living epoch, or its life does not lead there.
        """
        if self.number(number) is None:
            raise ValueError(f"epoch {number}: expected one that is not retired")
        moved = []
        for epoch in self.living:
            if epoch.number == number:
                moved.append(epoch.to(state, at=at))
            elif state is EpochState.ACTIVE and epoch.state is EpochState.ACTIVE:
                moved.append(epoch.to(EpochState.DRAINING, at=at))
            else:
                moved.append(epoch)
        return replace(self, living=tuple(one for one in moved if one.state is not EpochState.RETIRED))


NO_EPOCHS = EpochLine()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a service whose policy holds wants of its epochs.

    Args:
        policy: Its policy.
        policy_sha256: The digest of that policy.
        times: Its owners' choice.
        requested_at: Where the newest request for a rotation stands in the log; -1 where there is none.
    """

    policy: AppraisalPolicy
    policy_sha256: str
    times: ServiceTimes
    requested_at: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """An epoch that is to begin."""

    service: str
    policy_sha256: str
    number: int
    state: Literal["pending", "active"]
    reason: BeginReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """An epoch that is to go on in its life."""

    service: str
    number: int
    state: Literal["active", "retired"]
    reason: MoveReason

    def entry(self) -> EpochStateEntry:
        """Return what the log says of it."""
        return EpochStateEntry(service=self.service, epoch=self.number, state=self.state, reason=self.reason)


Step = Begin | Move


def due(
    lines: Mapping[str, EpochLine],
    wanted: Mapping[str, Wanted],
    *,
    now: datetime,
    lost: Container[str] = NOTHING_LOST,
) -> tuple[Step, ...]:
    """Return what is to happen now, in order.

    1. An epoch whose generation key is lost is retired.
    2. A draining epoch is retired once no client can use it any more.
    3. Where there is no active epoch, the pending one becomes active, or a new one begins at once.
    4. A pending epoch becomes active once every lease that lacks its keys has ended.
    5. A pending epoch begins one lease before the active one has been in use for `epoch_s`, or on request.

    Args:
        lines: The epochs of each service.
        wanted: What each service whose policy holds wants.
        now: Aware UTC.
        lost: Generations whose key nobody holds any more.
    """
    steps: list[Step] = []
    for service, want in wanted.items():
        steps += _due(service, lines.get(service, NO_EPOCHS), want, now=now, lost=lost)
    return tuple(steps)


def _due(service: str, line: EpochLine, want: Wanted, *, now: datetime, lost: Container[str]) -> list[Step]:
    steps: list[Step] = []
    gone = [epoch for epoch in line.living if epoch.generation in lost]
    steps += [_retire(epoch, "lost") for epoch in gone]  # (1)
    kept = replace(line, living=tuple(epoch for epoch in line.living if epoch not in gone))
    drained_after = timedelta(seconds=want.times.bundle_s + REQUEST_S)
    steps += [  # (2)
        _retire(epoch, "drained")
        for epoch in kept.living
        if epoch.state is EpochState.DRAINING and now - epoch.since >= drained_after
    ]
    active, pending = kept.at(EpochState.ACTIVE), kept.at(EpochState.PENDING)
    is_requested = want.requested_at > line.index
    if active is None:  # (3)
        if pending is not None:
            return [*steps, _activate(pending)]
        reason: BeginReason = "policy-changed"
        if line.last == 0:
            reason = "created"
        elif gone:
            reason = "restarted"
        elif is_requested:
            reason = "requested"
        return [*steps, _begin(service, want, line.last + 1, "active", reason)]
    if pending is not None:  # (4)
        is_held_by_all = now - pending.since >= timedelta(seconds=want.times.lease_s)
        return [*steps, _activate(pending)] if is_held_by_all else steps
    age = timedelta(seconds=max(want.times.epoch_s - want.times.lease_s, 0))
    if is_requested or now - active.since >= age:  # (5)
        why: BeginReason = "requested" if is_requested else "scheduled"
        steps.append(_begin(service, want, line.last + 1, "pending", why))
    return steps


def lapse(
    lines: Mapping[str, EpochLine], wanted: Mapping[str, Wanted], *, at: datetime
) -> dict[str, EpochLine]:
    """Return the lines after policies changed: what may no longer be held is retired at once.

    An epoch of an older policy drains where the new one accepts everything that the old one accepted: its
    keys still go only to what satisfies the old one. Otherwise, and where nothing holds, it is retired.
    """
    return {service: _lapse(line, wanted.get(service), at=at) for service, line in lines.items()}


def discard(line: EpochLine) -> EpochLine:
    """Return the line with every epoch retired."""
    return replace(line, living=())


def _lapse(line: EpochLine, want: Wanted | None, *, at: datetime) -> EpochLine:
    kept = []
    for epoch in line.living:
        if want is not None and epoch.policy_sha256 == want.policy_sha256:
            kept.append(epoch)
        elif want is None or not is_narrower_or_equal(epoch.policy, want.policy):
            continue
        elif epoch.state is EpochState.ACTIVE:
            kept.append(epoch.to(EpochState.DRAINING, at=at))
        elif epoch.state is EpochState.DRAINING:
            kept.append(epoch)
    return replace(line, living=tuple(kept))


def follows(entry: EpochEntry, line: EpochLine, want: Wanted | None) -> bool:
    """Tell whether an epoch's entry is one that may come next."""
    return (
        want is not None
        and entry.epoch == line.last + 1
        and entry.policy_sha256 == want.policy_sha256
        and line.at(EpochState.PENDING) is None
        and (line.at(EpochState.ACTIVE) is None) == (entry.state == "active")
    )


def key_ids(number: int) -> tuple[int, int]:
    """Return the key ids of epoch `number`: of the hybrid, and of X25519.

    They come back after 128 epochs of a service, long after every bundle that named them has expired.
    """
    first = 2 * (number % 128)
    return first, first + 1


def _begin(
    service: str, want: Wanted, number: int, state: Literal["pending", "active"], reason: BeginReason
) -> Begin:
    return Begin(service=service, policy_sha256=want.policy_sha256, number=number, state=state, reason=reason)


def _activate(epoch: Epoch) -> Move:
    return Move(service=epoch.service, number=epoch.number, state="active", reason="scheduled")


def _retire(epoch: Epoch, reason: MoveReason) -> Move:
    return Move(service=epoch.service, number=epoch.number, state="retired", reason=reason)
