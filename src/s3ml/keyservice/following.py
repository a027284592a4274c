"""Follow the owners' chain from genesis: what governs a deployment, as its log proves it entry by entry.

As in TUF, each link is signed by those whom the links before it name. What is proven is that owners signed
every link; that no newer link is kept back is for the log's head and its witnesses to show.

Pure.

Source: docs/spec/trust-bundle.md, section "Authority"; TUF specification, section 5.3.
"""

from collections.abc import Sequence

from s3ml.keyservice.authority import KIND, Authority
from s3ml.keyservice.control import open_control
from s3ml.keyservice.documents import ControlEntry, KeysEntry, LogEntry, RestartEntry
from s3ml.keyservice.genesis import Genesis
from s3ml.keyservice.log import parse_entry
from s3ml.primitives.errors import UntrustedPeerError


def follow(genesis: Genesis, entries: Sequence[bytes], *, before: int | None = None) -> Authority:
    """Return what governs after `entries`.

    1. Each is an entry of the deployment, and they are in the order of the log.
    2. A change is signed by enough of the owners before it, and by enough of those whom it names.
    3. Witnesses change by the owners' acknowledgement too, which enough of them signed.
    4. New keys follow a change of the key service's policy at once, and nothing else does.

    Args:
        genesis: Where the chain begins.
        entries: From an untrusted peer; their place in the log is not proven here.
        before: Follow entries below this index alone.

    Raises:
        ConfigurationError: an entry is malformed.
        ConflictError: a link is missing, or stands twice.
        UntrustedPeerError: another rule fails.
    """
    authority, last = Authority.of(genesis), 0
    for data in entries:
        entry = parse_entry(data)
        if entry.deployment != genesis.deployment or entry.index <= last:  # (1)
            raise UntrustedPeerError("owners' chain: expected entries of the deployment, in the log's order")
        if before is not None and entry.index >= before:
            break
        if authority.awaits_keys and entry.index != last + 1:  # (4)
            raise UntrustedPeerError("owners' chain: expected the new keys behind the change of policy")
        authority, last = _link(authority, entry, data), entry.index
    if authority.awaits_keys:
        raise UntrustedPeerError("owners' chain: expected the new keys behind the change of policy, got none")
    return authority


def _link(authority: Authority, entry: LogEntry, data: bytes) -> Authority:
    body = entry.body
    if isinstance(body, KeysEntry):
        changed = authority.renew(body)
    elif isinstance(body, RestartEntry) and body.acknowledgement is not None and not authority.awaits_keys:
        _, changed = authority.acknowledge(body.acknowledgement, nonce=body.random, log_size=entry.index)
    elif isinstance(body, ControlEntry) and not authority.awaits_keys:
        statement = open_control(body.statement, body.body, authority)  # (2)
        if statement.resource.partition("/")[0] != KIND or statement.method != "PUT":
            raise UntrustedPeerError(f"owners' chain: {statement.resource}: is no part of the deployment")
        changed = authority.change(statement, body.statement, body.body)
    else:
        raise UntrustedPeerError("owners' chain: expected changes of the deployment and its keys alone")
    return changed.linked(entry.index, data)
