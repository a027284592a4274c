"""What a balancer needs of the world: a gateway that counts and takes weights, and the nodes' agents.

Protocols; applications bring what is behind them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from s3ml.scheduling.balancer.fleet import Host
from s3ml.tee_memory.reading import Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReport:
    """What a node's agent says, on the consumer's own clock.

    Args:
        reading: Of the whole node.
        servers: What could be attributed, by the replica's name.
    """

    reading: Reading
    servers: Mapping[str, Reading]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighted:
    """One replica as the gateway is told of it: ``ip:port``, its node, its weight."""

    address: str
    node: str
    weight: int


class Gateway(Protocol):
    """The data plane, as far as a balancer goes."""

    async def hosts(self) -> Mapping[str, Iterable[Host]]:
        """Return what was counted of the replicas of each service; within a fraction of a second.

        Raises:
            UnavailableError: it does not answer.
        """
        ...

    async def set_weights(self, service: str, replicas: Iterable[Weighted]) -> bool:
        """Say who serves `service` and with what weight; return whether that was any news.

        Raises:
            ConfigurationError: the gateway's folder cannot be written, or it has no such service.
        """
        ...


class Agents(Protocol):
    """The nodes' agents."""

    async def read(self, url: str) -> NodeReport:
        """Ask the agent at `url`; within a fraction of a second.

        Raises:
            UnavailableError: it does not answer, or has no reading.
            UntrustedPeerError: it answered with something else.
        """
        ...
