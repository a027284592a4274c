"""What a balancer says happened: one JSON line an event, with fields from an allow-list.

Names, addresses of nodes and reasons only; nothing of a request ever comes near it.
"""

from collections.abc import Callable
from enum import StrEnum

from s3ml.primitives.clock import Clock
from s3ml.primitives.events import EventWriter

FIELDS = frozenset({"detail", "listen", "node", "policy", "service", "steering"})


class Event(StrEnum):
    """What happened; a bounded set."""

    STARTED = "started"
    STOPPING = "stopping"
    POLICY_SWITCHED = "policy-switched"
    MEMBERSHIP_CHANGED = "membership-changed"
    MEMBERSHIP_REJECTED = "membership-rejected"
    GATEWAY_LOST = "gateway-lost"
    GATEWAY_FOUND = "gateway-found"
    AGENT_LOST = "agent-lost"
    AGENT_FOUND = "agent-found"
    FALLING_BACK = "falling-back"
    STEERING_AGAIN = "steering-again"


class EventLog:
    """Writes events as lines.

    Args:
        write: Takes one line with its line feed.
        clock: For their time.
    """

    def __init__(self, write: Callable[[str], object], clock: Clock) -> None:
        self._writer = EventWriter(write, clock, fields=FIELDS)

    def emit(self, event: Event, **fields: str) -> None:
        """Write an event; texts are cut to 500 characters.

        Raises:
            ValueError: a field is not on the list.
        """
        self._writer.write(event, fields)
