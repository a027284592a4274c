"""Log entries in plain words: a table from kinds of entries, and of resources, to words.

A kind that is not in the table is shown whole, as JSON: nothing is ever left out because nobody wrote words
for it. Everything shown comes from a log that may not have been checked; only printable text leaves here.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC
from typing import Any

import msgspec

from s3ml.apps.governance.changes import describe_service
from s3ml.apps.governance.recovery import describe_terms
from s3ml.apps.governance.secrets import describe_secret, read_secret_document
from s3ml.attestation import parse_policy
from s3ml.attestation.policy.explain import explain_in_lines
from s3ml.keyservice.documents import (
    Acknowledgement,
    ControlEntry,
    ControlStatement,
    EpochEntry,
    EpochStateEntry,
    GenesisEntry,
    JoinEntry,
    KeysEntry,
    KeyServiceDocument,
    LogEntry,
    Owner,
    OwnersDocument,
    PresenceEntry,
    Proposal,
    ReleasesEntry,
    RestartEntry,
    RotationDocument,
    ServiceDocument,
    WitnessesDocument,
)
from s3ml.primitives.encoding import sha256
from s3ml.primitives.envelope import Envelope
from s3ml.primitives.errors import S3MLError

_LINE_LIMIT = 2000
_ID_DIGITS = 12
_UNREADABLE = (S3MLError, msgspec.DecodeError, UnicodeDecodeError)


def headline(entry: LogEntry) -> str:
    """Return one line: place, time and kind of an entry."""
    at = entry.time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"{entry.index:>5}  {at}  {kind_of(entry)}"


def kind_of(entry: LogEntry) -> str:
    """Return the kind of an entry, as the log names it."""
    return str(entry.body.__struct_config__.tag)


def describe(entry: LogEntry) -> list[str]:
    """Say in plain words what an entry says, a line each; what cannot be put into words is shown as JSON."""
    try:
        lines = _WORDS[type(entry.body)](entry.body) if type(entry.body) in _WORDS else _whole(entry.body)
    except _UNREADABLE:
        lines = _whole(entry.body)
    return [printable(line) for line in lines]


def describe_body(resource: str, body: bytes) -> list[str]:
    """Say in plain words what the body of ``PUT resource`` says; without words for it, show it raw."""
    kind = resource if resource in _RESOURCES else resource.partition("/")[0]
    try:
        words = _RESOURCES[kind](body) if kind in _RESOURCES else _raw(body)
    except _UNREADABLE:
        words = _raw(body)
    return [printable(line) for line in words]


def printable(text: str) -> str:
    """Return `text` without anything that a terminal would act on, at most 2,000 characters."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return shown if len(shown) <= _LINE_LIMIT else f"{shown[:_LINE_LIMIT]}… ({len(shown)} characters)"


def _whole(value: Any) -> list[str]:
    return [json.dumps(msgspec.to_builtins(value), ensure_ascii=True, sort_keys=True)]


def _genesis(body: GenesisEntry) -> list[str]:
    proposal = msgspec.json.decode(body.proposal.payload, type=Proposal)
    return [
        "A deployment begins.",
        *_owners(proposal.owners, proposal.threshold),
        *_witnesses(proposal.witnesses, proposal.witness_quorum),
        *_key_service(proposal.key_service_policy),
        "A SIMULATED platform is allowed."
        if proposal.allow_simulated
        else "No simulated platform is allowed.",
        f"Checkpoints are signed by {body.keys.checkpoint}.",
        f"Statements are signed by {body.keys.statement}.",
    ]


def _control(body: ControlEntry) -> list[str]:
    statement = msgspec.json.decode(body.statement.payload, type=ControlStatement)
    resource, signers = statement.resource, _signers(body.statement)
    made = f"made {statement.created_at.astimezone(UTC).isoformat()}, signed by {signers}"
    if statement.method != "PUT":
        return [f"{statement.method} {resource}, version {statement.resource_version}; {made}."]
    return [
        f"{resource} changes to version {statement.resource_version}; {made}.",
        *describe_body(resource, body.body),
    ]


def _epoch(body: EpochEntry) -> list[str]:
    return [
        f"Service {body.service}: epoch {body.epoch} begins {body.state} ({body.reason}).",
        f"It is under policy {body.policy_sha256}.",
        f"Its private keys are wrapped under generation {_short(body.generation)}.",
        f"Its public keys have SHA-256 {sha256(body.key_configs).hex()}.",
    ]


def _epoch_state(body: EpochStateEntry) -> list[str]:
    return [f"Service {body.service}: epoch {body.epoch} becomes {body.state} ({body.reason})."]


def _keys(body: KeysEntry) -> list[str]:
    return [
        f"The deployment has its keys number {body.number}.",
        f"They were made under the key service's policy {body.policy_sha256}.",
        f"Checkpoints are signed by {body.keys.checkpoint} from here on.",
        f"Statements are signed by {body.keys.statement} from here on.",
    ]


def _join(body: JoinEntry) -> list[str]:
    return [
        f"Replica {_short(body.replica)} joined: replica {_short(body.source)} gave it the secrets.",
        f"Its evidence proved {body.tee}, measurement {body.measurement}.",
    ]


def _restart(body: RestartEntry) -> list[str]:
    if body.acknowledgement is None:
        how = "the witnesses show that it has the newest log"
    else:
        how = f"the owners' word: acknowledged by {_signers(body.acknowledgement)}"
    lines = [f"Replica {_short(body.replica)} serves again after a restart: {how}."]
    if body.acknowledgement is not None:
        named = _successors(body.acknowledgement)
        if named is not None:
            lines += ["The witnesses are REPLACED, without the word of those before."]
            lines += _witnesses(named.witnesses, named.witness_quorum)
    return lines


def _successors(envelope: Envelope) -> WitnessesDocument | None:
    try:
        return msgspec.json.decode(envelope.payload, type=Acknowledgement).successors
    except _UNREADABLE:
        return None


def _presence(body: PresenceEntry) -> list[str]:
    held = len(body.generations)
    return [f"Replica {_short(body.replica)} sees the newest log and holds {held} generation keys."]


def _releases(body: ReleasesEntry) -> list[str]:
    last = body.first + body.count - 1
    return [f"Releases {body.first} to {last} of the audit stream, with digest {body.sha256}."]


def _owners(owners: Sequence[Owner], threshold: int) -> list[str]:
    return [
        f"{threshold} of {len(owners)} owners decide:",
        *(f"  {owner.name}  {owner.key}" for owner in owners),
    ]


def _witnesses(witnesses: Sequence[str], quorum: int) -> list[str]:
    if not quorum:
        return ["No witnesses: NOT FORK-PROTECTED."]
    return [f"{quorum} of {len(witnesses)} witnesses cosign every head:", *(f"  {one}" for one in witnesses)]


def _key_service(policy: bytes) -> list[str]:
    return ["The key service satisfies:", *(f"  {line}" for line in explain_in_lines(parse_policy(policy)))]


def _signers(envelope: Envelope) -> str:
    ids = ", ".join(_short(one.keyid) for one in envelope.signatures)
    return f"{len(envelope.signatures)} keys ({ids})" if ids else "nobody"


def _short(digest: str) -> str:
    return f"{digest[:_ID_DIGITS]}…"


def _raw(body: bytes) -> list[str]:
    return [f"Body: {body.decode('utf-8', errors='backslashreplace')}"]


def _owners_change(body: bytes) -> list[str]:
    document = msgspec.json.decode(body, type=OwnersDocument)
    return _owners(document.owners, document.threshold)


def _witnesses_change(body: bytes) -> list[str]:
    document = msgspec.json.decode(body, type=WitnessesDocument)
    return _witnesses(document.witnesses, document.witness_quorum)


def _key_service_change(body: bytes) -> list[str]:
    return _key_service(msgspec.json.decode(body, type=KeyServiceDocument).policy)


def _rotation(body: bytes) -> list[str]:
    document = msgspec.json.decode(body, type=RotationDocument)
    old = "are retired at once" if document.retire == "discard" else "drain"
    return [f"Service {document.service} gets new keys; its old ones {old}."]


def _policy(body: bytes) -> list[str]:
    return explain_in_lines(parse_policy(body))


def _secret(body: bytes) -> list[str]:
    return describe_secret(read_secret_document(body))


def _service(body: bytes) -> list[str]:
    return describe_service(msgspec.json.decode(body, type=ServiceDocument))


_WORDS: Mapping[type, Callable[[Any], list[str]]] = {
    GenesisEntry: _genesis,
    ControlEntry: _control,
    EpochEntry: _epoch,
    EpochStateEntry: _epoch_state,
    KeysEntry: _keys,
    JoinEntry: _join,
    RestartEntry: _restart,
    PresenceEntry: _presence,
    ReleasesEntry: _releases,
}


# By the whole name of a resource where it is one of a kind, else by what stands before the slash.
_RESOURCES: Mapping[str, Callable[[bytes], list[str]]] = {
    "policies": _policy,
    "services": _service,
    "rotations": _rotation,
    "secrets": _secret,
    "deployment/owners": _owners_change,
    "deployment/witnesses": _witnesses_change,
    "deployment/key-service": _key_service_change,
    "deployment/recovery": describe_terms,
}
