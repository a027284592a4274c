"""The life of a service's keys: which epoch begins when, and which ends.

An epoch belongs to a service and to the digest of its policy. It goes from pending to active to draining to
retired and never back. One replica keeps one epoch active at a time: it begins active, and it is retired at
once when the policy of its service changes, or when the process that held its keys has ended.

Pure: decisions alone, no keys.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Literal

Reason = Literal["created", "policy-changed", "restarted"]


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
    """The newest epoch of a service.

    Args:
        service: The service's name.
        policy_sha256: The digest of the policy that its keys belong to.
        number: 1, 2, … for each service.
        state: Where it stands.
        key_configs: The public halves, as ``application/ohttp-keys``.
        index: Its entry's place in the log.
        data: Its entry's bytes.
    """

    service: str
    policy_sha256: str
    number: int
    state: EpochState
    key_configs: bytes
    index: int
    data: bytes

    def to(self, state: EpochState) -> "Epoch":
        """Return this epoch in another state.

        Raises:
            ValueError: its life does not lead there.
        """
        if state not in TRANSITIONS[self.state]:
            raise ValueError(f"epoch: expected a state after {self.state}, got {state}")
        return replace(self, state=state)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """An epoch that is to begin, and the one that it retires."""

    service: str
    policy_sha256: str
    number: int
    reason: Reason
    retires: int | None


def beginnings(holding: Mapping[str, str], epochs: Mapping[str, Epoch]) -> tuple[Beginning, ...]:
    """Return the epochs that are to begin so that every service has one for the policy that it is under.

    Args:
        holding: The digest of its policy for each service whose policy holds.
        epochs: The newest epoch of each service.
    """
    found = []
    for service, digest in holding.items():
        last = epochs.get(service)
        if last is None:
            found.append(_begin(service, digest, None, "created"))
        elif last.state is not EpochState.ACTIVE or last.policy_sha256 != digest:
            found.append(_begin(service, digest, last, "policy-changed"))
    return tuple(found)


def restarts(holding: Mapping[str, str], epochs: Mapping[str, Epoch]) -> tuple[Beginning, ...]:
    """Return the epochs that are to begin because the process that held the private keys has ended."""
    return tuple(
        _begin(service, digest, epochs.get(service), "restarted") for service, digest in holding.items()
    )


def lapsed(holding: Mapping[str, str], epochs: Mapping[str, Epoch]) -> tuple[Epoch, ...]:
    """Return the active epochs whose policy no longer holds."""
    return tuple(
        epoch
        for service, epoch in epochs.items()
        if epoch.state is EpochState.ACTIVE and holding.get(service) != epoch.policy_sha256
    )


def key_ids(number: int) -> tuple[int, int]:
    """Return the key ids of epoch `number`: of the hybrid, and of X25519.

    They come back after 128 epochs of a service, long after every bundle that named them has expired.
    """
    first = 2 * (number % 128)
    return first, first + 1


def _begin(service: str, digest: str, last: Epoch | None, reason: Reason) -> Beginning:
    number = 1 if last is None else last.number + 1
    return Beginning(
        service=service,
        policy_sha256=digest,
        number=number,
        reason=reason,
        retires=None if last is None else last.number,
    )
