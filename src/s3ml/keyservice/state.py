"""What the log says: what governs, the resources, the living epochs, who is present, what was audited.

`State` is a value; `apply` returns the next one. A log that is read back passes the very rules that its
entries passed when they were written: signatures are verified again, versions and digests compared again.

Source: docs/spec/log.md.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from s3ml.attestation import AppraisalPolicy
from s3ml.keyservice.authority import Authority
from s3ml.keyservice.control import open_control
from s3ml.keyservice.documents import (
    ControlEntry,
    EpochEntry,
    EpochStateEntry,
    GenesisEntry,
    JoinEntry,
    KeysEntry,
    PresenceEntry,
    ReleasesEntry,
    RestartEntry,
    RotationDocument,
)
from s3ml.keyservice.epochs import NO_EPOCHS, Epoch, EpochLine, EpochState, discard, follows, lapse
from s3ml.keyservice.errors import NotFoundError
from s3ml.keyservice.escrow.terms import RecoveryTerms, judge_recovery
from s3ml.keyservice.genesis import Genesis, identify_genesis
from s3ml.keyservice.log import LogTamperedError, Written, parse_entry
from s3ml.keyservice.resources import (
    RECOVERY,
    Change,
    Deletion,
    GovernedPolicy,
    GovernedService,
    Place,
    ServiceTerms,
    Standing,
    judge,
    place,
    wanted,
)
from s3ml.keyservice.secret_terms import GovernedSecret, LivingVersion, SecretTerms
from s3ml.primitives.envelope import Envelope
from s3ml.primitives.units import HOUR_S

NO_DEPLOYMENT = "deployment: expected one, got none yet: its owners begin it with a genesis"
# Who was present longer ago is of no interest to anybody.
PRESENCE_KEPT = timedelta(seconds=HOUR_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """When a replica last proved that it sees the newest log, and which generation keys it held."""

    at: datetime
    generations: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the log says up to some entry.

    Args:
        authority: What governs the deployment; nothing before the first entry.
        policies: By name.
        services: By name.
        secrets: By name; never their values.
        places: Where every resource stands that is no part of the deployment itself, by its full name.
        epochs: The epochs of each service.
        presence: By the replica's id, of the last hour.
        audited: How many audit records are committed.
        newest_audit: The number of records and the digest of the newest batch of them.
        nonces: Of all control messages.
        recovery: Who holds shares of the wrapping key, where owners decided that somebody does.
    """

    authority: Authority | None = None
    policies: Mapping[str, GovernedPolicy] = field(default_factory=dict)
    services: Mapping[str, GovernedService] = field(default_factory=dict)
    secrets: Mapping[str, GovernedSecret] = field(default_factory=dict)
    places: Mapping[str, Place] = field(default_factory=dict)
    epochs: Mapping[str, EpochLine] = field(default_factory=dict)
    presence: Mapping[str, Presence] = field(default_factory=dict)
    audited: int = 0
    newest_audit: tuple[int, str] = (0, "")
    nonces: frozenset[bytes] = frozenset()
    recovery: RecoveryTerms | None = None

    @property
    def governing(self) -> Authority:
        """What governs the deployment.

        Raises:
            NotFoundError: there is none yet.
        """
        if self.authority is None:
            raise NotFoundError(NO_DEPLOYMENT)
        return self.authority

    @property
    def deployment(self) -> Genesis:
        """The deployment.

        Raises:
            NotFoundError: there is none yet.
        """
        return self.governing.genesis

    @property
    def standing(self) -> Standing:
        """What a change may depend on.

        Raises:
            NotFoundError: there is no deployment yet.
        """
        return Standing(
            authority=self.governing,
            policies=self.policies,
            services=self.services,
            secrets=self.secrets,
            places=self.places,
            nonces=self.nonces,
        )

    def is_succeeded_since(self, before: Authority) -> bool:
        """Tell whether owners replaced the witnesses of `before` by their acknowledgement alone."""
        added = self.governing.chain[len(before.chain) :]
        return any(isinstance(parse_entry(data).body, RestartEntry) for _, data in added)

    def judge(self, statement: Envelope, body: bytes) -> Change:
        """Judge a control message against everything that stands.

        Raises:
            NotFoundError: there is no deployment yet.
            ConfigurationError: malformed.
            ConflictError: the resource has another version, or the nonce was seen before.
            UntrustedPeerError: signatures, digests or the body's own rules fail.
        """
        standing = self.standing
        opened = open_control(statement, body, standing.authority)
        return judge(opened, statement, body, standing)

    def after(self, change: Change, *, index: int, data: bytes, at: datetime) -> "State":
        """Return the state after `change`, which is entry `index`, with the epochs that end by it."""
        where = place(change, index=index, data=data)
        places = {**self.places, change.resource: where}
        state = replace(
            self,
            places=places,
            nonces=self.nonces | {change.nonce},
            **_contents(self, change, where),
        )
        epochs: Mapping[str, EpochLine] = lapse(state.epochs, wanted(state.standing), at=at)
        if isinstance(change.content, RotationDocument) and change.content.retire == "discard":
            epochs = {**epochs, change.name: discard(epochs.get(change.name, NO_EPOCHS))}
        elif isinstance(change.content, Authority) and not change.content.keeps_faith(self.governing):
            epochs = {service: discard(line) for service, line in epochs.items()}
        return replace(state, epochs=epochs)


def _contents(state: State, change: Change, where: Place) -> dict[str, Any]:
    """Return the fields of the state that the content of `change` replaces."""
    name, content = change.name, change.content
    if isinstance(content, Authority):
        fields: dict[str, Any] = {"authority": content.linked(where.index, where.data)}
        return {**fields, "recovery": judge_recovery(change.body)} if name == RECOVERY else fields
    if isinstance(content, ServiceTerms):
        service = GovernedService(place=where, terms=content)
        return {"services": {**state.services, name: service}}
    if isinstance(content, SecretTerms):
        return {"secrets": {**state.secrets, name: _next_secret(state, change, content)}}
    if isinstance(content, AppraisalPolicy):
        return {"policies": {**state.policies, name: GovernedPolicy(place=where, policy=content)}}
    if isinstance(content, Deletion):
        kept = {one: found for one, found in getattr(state, change.kind).items() if one != name}
        return {change.kind: kept}
    return {}


def _next_secret(state: State, change: Change, terms: SecretTerms) -> GovernedSecret:
    standing = state.secrets.get(change.name)
    if standing is None:
        return GovernedSecret(current=LivingVersion(version=change.version, terms=terms))
    return standing.followed_by(change.version, terms)


def apply(state: State, written: Written) -> State:
    """Return the state after one more entry, whose place in the chain holds already.

    Raises:
        LogTamperedError: the entry does not follow from the state.
        ConfigurationError: its content is malformed.
        UntrustedPeerError: a signature or a rule fails.
    """
    body = written.entry.body
    if state.authority is not None and state.authority.awaits_keys != isinstance(body, KeysEntry):
        raise LogTamperedError(
            "keys of the deployment: follow a change of its policy at once, and nothing else"
        )
    return _APPLY[type(body)](state, written, body)


def _apply_genesis(state: State, written: Written, _: GenesisEntry) -> State:
    return replace(state, authority=Authority.of(identify_genesis(written.data)))


def _apply_control(state: State, written: Written, entry: ControlEntry) -> State:
    change = state.judge(entry.statement, entry.body)
    return state.after(change, index=written.entry.index, data=written.data, at=written.entry.time)


def _apply_keys(state: State, written: Written, entry: KeysEntry) -> State:
    authority = state.governing.renew(entry).linked(written.entry.index, written.data)
    return replace(state, authority=authority)


def _apply_epoch(state: State, written: Written, entry: EpochEntry) -> State:
    line = state.epochs.get(entry.service, NO_EPOCHS)
    want = wanted(state.standing).get(entry.service)
    if want is None or not follows(entry, line, want):
        raise LogTamperedError(f"epoch {entry.epoch} of {entry.service}: does not follow from the log")
    epoch = Epoch(
        service=entry.service,
        policy=want.policy,
        policy_sha256=entry.policy_sha256,
        number=entry.epoch,
        state=EpochState(entry.state),
        since=written.entry.time,
        generation=entry.generation,
        key_configs=entry.key_configs,
        index=written.entry.index,
        data=written.data,
    )
    return replace(state, epochs={**state.epochs, entry.service: line.begin(epoch)})


def _apply_epoch_state(state: State, written: Written, entry: EpochStateEntry) -> State:
    line = state.epochs.get(entry.service, NO_EPOCHS)
    try:
        moved = line.move(entry.epoch, EpochState(entry.state), at=written.entry.time)
    except ValueError as error:
        raise LogTamperedError(f"epoch {entry.epoch} of {entry.service}: {error}") from error
    return replace(state, epochs={**state.epochs, entry.service: moved})


def _apply_join(state: State, _: Written, entry: JoinEntry) -> State:
    if entry.replica == entry.source:
        raise LogTamperedError("join: a replica cannot let itself in")
    return state


def _apply_restart(state: State, written: Written, entry: RestartEntry) -> State:
    if entry.acknowledgement is None:
        return state
    index = written.entry.index
    acknowledged, authority = state.governing.acknowledge(
        entry.acknowledgement, nonce=entry.random, log_size=index
    )
    if acknowledged.successors is None:
        return state
    return replace(state, authority=authority.linked(index, written.data))


def _apply_presence(state: State, written: Written, entry: PresenceEntry) -> State:
    at = written.entry.time
    kept = {one: found for one, found in state.presence.items() if at - found.at <= PRESENCE_KEPT}
    kept[entry.replica] = Presence(at=at, generations=frozenset(entry.generations))
    return replace(state, presence=kept)


def _apply_releases(state: State, _: Written, entry: ReleasesEntry) -> State:
    if entry.first != state.audited:
        raise LogTamperedError(f"audit stream: expected record {state.audited}, got {entry.first}")
    newest = (entry.count, entry.sha256)
    return replace(state, audited=state.audited + entry.count, newest_audit=newest)


_APPLY: Mapping[type, Callable[[State, Written, Any], State]] = MappingProxyType(
    {
        GenesisEntry: _apply_genesis,
        ControlEntry: _apply_control,
        KeysEntry: _apply_keys,
        EpochEntry: _apply_epoch,
        EpochStateEntry: _apply_epoch_state,
        JoinEntry: _apply_join,
        RestartEntry: _apply_restart,
        PresenceEntry: _apply_presence,
        ReleasesEntry: _apply_releases,
    }
)
