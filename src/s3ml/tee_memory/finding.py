"""Which source a machine has: by its word, or the first that can be read."""

from dataclasses import dataclass
from enum import StrEnum

from s3ml.primitives.clock import Clock
from s3ml.primitives.errors import ConfigurationError
from s3ml.tee_memory.reading import Source
from s3ml.tee_memory.sampler import Servers
from s3ml.tee_memory.simulated import SimulatedServers, SimulatedSource, demonstration


class Word(StrEnum):
    """What `--source` may say; `emulated` is followed by a colon and a name."""

    SIMULATED = "simulated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What is to be read.

    Args:
        source: A `Word`.
    """

    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was found.

    Args:
        source: The node's; whoever asked closes it.
        servers: To whom its paging can be attributed.
    """

    source: Source
    servers: Servers


def find(wishes: Wishes, clock: Clock) -> Found:
    """Open the source of a machine.

    Args:
        wishes: What is to be read.
        clock: Its counts are taken on.

    Raises:
        ConfigurationError: no source is called so.
    """
    if wishes.source == Word.SIMULATED:
        servers = SimulatedServers({"demonstration": demonstration}, clock)
        return Found(source=SimulatedSource(demonstration, clock), servers=servers)
    raise ConfigurationError(f"--source: expected simulated, got {wishes.source[:80]!r}")
