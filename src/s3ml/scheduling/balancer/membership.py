"""Who is in the fleets: one small JSON file that the operator's tooling writes and a balancer follows.

Addresses only; nothing in it is trusted, and what a replica may read is none of its business.
"""

import ipaddress
from collections.abc import Mapping
from pathlib import Path

import msgspec

from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.files import read_limited, write_atomically
from s3ml.primitives.names import check_name
from s3ml.primitives.units import MIB

LIMIT_BYTES = MIB
REPLICAS_LIMIT = 1024
"""Of each service; metrics have a label for each."""
_PORT_LIMIT = 65_535
_AGENT_SCHEME = "http://"


class Member(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One replica: its name, the node that it runs on, and ``ip:port``."""

    name: str
    node: str
    address: str


class Membership(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fleets of one gateway.

    Args:
        services: The replicas of each.
        agents: The URL of each node's agent, by node; a node without one has no readings.
    """

    services: Mapping[str, tuple[Member, ...]]
    agents: Mapping[str, str] = {}


def decode_membership(data: bytes) -> Membership:
    """Parse and check a membership file.

    Raises:
        ConfigurationError: it is no such document, a name, address or URL is none, or a name occurs twice.
    """
    try:
        found = msgspec.json.decode(data, type=Membership)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"membership: {error}") from error
    for service, members in found.services.items():
        check_name(service, what="membership: service")
        if len(members) > REPLICAS_LIMIT:
            raise ConfigurationError(
                f"membership: {service}: expected at most {REPLICAS_LIMIT} replicas, got {len(members)}"
            )
        for member in members:
            check_name(member.name, what="membership: replica")
            check_name(member.node, what="membership: node")
            _check_address(member.address)
        for what, count in (
            ("names", len({member.name for member in members})),
            ("addresses", len({member.address for member in members})),
        ):
            if count != len(members):
                raise ConfigurationError(f"membership: {service}: expected different {what}")
    for node, url in found.agents.items():
        check_name(node, what="membership: node")
        if not url.startswith(_AGENT_SCHEME):
            raise ConfigurationError(f"membership: agent of {node}: expected http://…, got {url[:80]!r}")
    return found


def read_membership(path: Path) -> Membership:
    """Read a membership file of at most 1 MiB.

    Raises:
        ConfigurationError: it is missing, unreadable, too large, or `decode_membership` refuses it.
    """
    return decode_membership(read_limited(path, limit_bytes=LIMIT_BYTES, what="membership"))


def write_membership(path: Path, membership: Membership) -> None:
    """Put a membership file in its place, whole.

    Raises:
        ConfigurationError: the folder cannot be written.
    """
    write_atomically(path, msgspec.json.encode(membership), is_durable=False)


def _check_address(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        is_valid = port.isascii() and port.isdigit() and 0 < int(port) <= _PORT_LIMIT
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ConfigurationError(f"membership: address: expected ip:port, got {address[:80]!r}")
