"""Which TEE memory a machine has: as its operator says, or the first that is there.

An emulated or a simulated one is never found by itself: it has to be asked for.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from s3ml.primitives.clock import Clock
from s3ml.primitives.errors import ConfigurationError, UnavailableError
from s3ml.tee_memory.cgroups import CgroupServers
from s3ml.tee_memory.cvm import GroupSource, open_cvm
from s3ml.tee_memory.emulated import EmulatedNode, Host
from s3ml.tee_memory.reading import Source
from s3ml.tee_memory.reopening import ReopeningSource
from s3ml.tee_memory.sampler import NoServers, Servers
from s3ml.tee_memory.sgx import PodSource, open_sgx
from s3ml.tee_memory.simulated import SimulatedServers, SimulatedSource, demonstration

_EMULATED = "emulated:"
_TOKEN_BYTES = 4


class Word(StrEnum):
    """What `--source` may say, beside `emulated:NAME`."""

    AUTO = "auto"
    SGX = "sgx"
    CVM = "cvm"
    SIMULATED = "simulated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What is to be read.

    Args:
        source: A `Word`, or ``emulated:`` and the name of a node of this machine.
        root: Where the machine's files begin; elsewhere in a container that has them mounted.
        named: The groups of servers, by the servers' names.
        parents: Folders of which every child is the group of a server.
    """

    source: str = Word.AUTO
    root: Path = Path("/")
    named: Mapping[str, Path] = field(default_factory=dict)
    parents: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was found.

    Args:
        source: The node's; whoever asked closes it.
        servers: To whom its paging can be attributed.
        warning: What cannot be counted, and why.
    """

    source: Source
    servers: Servers = field(default_factory=NoServers)
    warning: str | None = None


class EmulatedServers:
    """The servers of an emulated node.

    Args:
        node: EMULATED.
    """

    def __init__(self, node: EmulatedNode) -> None:
        self._node = node

    def names(self) -> tuple[str, ...]:
        """Return those that were entered."""
        return self._node.servers()

    def source(self, name: str) -> Source:
        """Return what counts one of them."""
        return self._node.server_source(name)


def find(wishes: Wishes, clock: Clock, *, token: Callable[[], str] | None = None) -> Found:
    """Open the TEE memory of a machine.

    Args:
        wishes: What is to be read.
        clock: The counts are taken on it.
        token: Gives names for what is set up in the kernel; random ones by default.

    Raises:
        ConfigurationError: no source is called so, groups were named for one that knows its servers itself,
            or an emulated node is not up.
        UnavailableError: the machine has no such memory; the message says what was looked for.
    """
    name_anew = token or _random_token
    if wishes.source == Word.SGX:
        return _find_sgx(wishes, clock, name_anew)
    if wishes.source == Word.CVM:
        return _find_cvm(wishes, clock)
    if wishes.source == Word.AUTO:
        return _find_first(wishes, clock, name_anew)
    if wishes.named or wishes.parents:
        raise ConfigurationError(f"--server: expected with --source sgx or cvm, got {wishes.source[:80]!r}")
    if wishes.source == Word.SIMULATED:
        servers = SimulatedServers({"demonstration": demonstration}, clock)
        return Found(source=SimulatedSource(demonstration, clock), servers=servers)
    if wishes.source.startswith(_EMULATED):
        node = EmulatedNode(
            name=wishes.source.removeprefix(_EMULATED),
            host=Host(root=wishes.root),
            monotonic_s=clock.monotonic_s,
        )
        return Found(source=ReopeningSource(node.source(), node.source), servers=EmulatedServers(node))
    words = ", ".join(Word)
    raise ConfigurationError(f"--source: expected {words} or emulated:NAME, got {wishes.source[:80]!r}")


def _find_first(wishes: Wishes, clock: Clock, token: Callable[[], str]) -> Found:
    """Return the first memory that is there."""
    lacks = []
    try:
        return _find_sgx(wishes, clock, token)
    except UnavailableError as error:
        lacks.append(str(error))
    try:
        return _find_cvm(wishes, clock)
    except UnavailableError as error:
        lacks.append(str(error))
    raise UnavailableError(
        f"no TEE memory to read here: {'; '.join(lacks)}; --source emulated:NAME or simulated need none"
    )


def _find_sgx(wishes: Wishes, clock: Clock, token: Callable[[], str]) -> Found:
    source, warning = open_sgx(wishes.root, clock, token)
    return Found(
        source=ReopeningSource(source, lambda: open_sgx(wishes.root, clock, token)[0]),
        servers=CgroupServers(
            wishes.named, wishes.parents, lambda name, folder: PodSource(name, folder, clock)
        ),
        warning=warning,
    )


def _find_cvm(wishes: Wishes, clock: Clock) -> Found:
    return Found(
        source=open_cvm(wishes.root, clock),
        servers=CgroupServers(
            wishes.named, wishes.parents, lambda name, folder: GroupSource(name, folder, clock)
        ),
    )


def _random_token() -> str:
    return secrets.token_hex(_TOKEN_BYTES)
