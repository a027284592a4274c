"""What the log says: the deployment, its resources, the newest epochs, how far the audit stream is committed.

`State` is a value; `apply` returns the next one. A log that is read back passes the very rules that its
entries passed when they were written: signatures are verified again, versions and digests compared again.

Source: docs/spec/log.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from s3ml.attestation import AppraisalPolicy
from s3ml.keyservice.control import open_control
from s3ml.keyservice.documents import ControlEntry, EpochEntry, GenesisEntry, ReleasesEntry
from s3ml.keyservice.epochs import Epoch, EpochState, lapsed
from s3ml.keyservice.errors import NotFoundError
from s3ml.keyservice.genesis import Genesis, identify_genesis
from s3ml.keyservice.log import LogTamperedError, Written
from s3ml.keyservice.resources import (
    Change,
    GovernedPolicy,
    GovernedService,
    ServiceTerms,
    holding,
    judge,
    place,
)
from s3ml.primitives.envelope import Envelope

NO_DEPLOYMENT = "deployment: expected one, got none yet: its owners begin it with a genesis"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What the log says up to some entry.

    Args:
        genesis: The deployment; nothing before the first entry.
        policies: By name.
        services: By name.
        epochs: The newest epoch of each service.
        audited: How many audit records are committed.
        nonces: Of all control messages.
    """

    genesis: Genesis | None = None
    policies: Mapping[str, GovernedPolicy] = field(default_factory=dict)
    services: Mapping[str, GovernedService] = field(default_factory=dict)
    epochs: Mapping[str, Epoch] = field(default_factory=dict)
    audited: int = 0
    nonces: frozenset[bytes] = frozenset()

    @property
    def deployment(self) -> Genesis:
        """The deployment.

        Raises:
            NotFoundError: there is none yet.
        """
        if self.genesis is None:
            raise NotFoundError(NO_DEPLOYMENT)
        return self.genesis

    def holding(self) -> dict[str, str]:
        """Return the policy digest of each service whose policy holds."""
        return holding(self.policies, self.services)

    def judge(self, statement: Envelope, body: bytes) -> Change:
        """Judge a control message against everything that stands.

        Raises:
            NotFoundError: there is no deployment yet.
            ConfigurationError: malformed.
            ConflictError: the resource has another version, or the nonce was seen before.
            UntrustedPeerError: signatures, digests or the body's own rules fail.
        """
        genesis = self.deployment
        opened = open_control(statement, body, genesis)
        return judge(
            opened,
            body,
            genesis=genesis,
            policies=self.policies,
            services=self.services,
            nonces=self.nonces,
        )

    def governed(
        self, change: Change, *, index: int, data: bytes
    ) -> tuple[Mapping[str, GovernedPolicy], Mapping[str, GovernedService]]:
        """Return policies and services after `change`, which is entry `index`."""
        where = place(change, index=index, data=data)
        if isinstance(change.content, ServiceTerms):
            service = GovernedService(place=where, terms=change.content)
            return self.policies, {**self.services, change.name: service}
        policy: AppraisalPolicy = change.content
        return {**self.policies, change.name: GovernedPolicy(place=where, policy=policy)}, self.services


def apply(state: State, written: Written) -> State:
    """Return the state after one more entry, whose place in the chain holds already.

    Raises:
        LogTamperedError: the entry does not follow from the state.
        ConfigurationError: its content is malformed.
        UntrustedPeerError: a signature or a rule fails.
    """
    body = written.entry.body
    if isinstance(body, GenesisEntry):
        return replace(state, genesis=identify_genesis(written.data))
    if isinstance(body, ControlEntry):
        return _apply_control(state, written, body)
    if isinstance(body, EpochEntry):
        return _apply_epoch(state, written, body)
    return _apply_releases(state, body)


def _apply_control(state: State, written: Written, entry: ControlEntry) -> State:
    change = state.judge(entry.statement, entry.body)
    policies, services = state.governed(change, index=written.entry.index, data=written.data)
    ended = lapsed(holding(policies, services), state.epochs)
    epochs = {**state.epochs, **{epoch.service: epoch.to(EpochState.RETIRED) for epoch in ended}}
    nonces = state.nonces | {change.nonce}
    return replace(state, policies=policies, services=services, epochs=epochs, nonces=nonces)


def _apply_epoch(state: State, written: Written, entry: EpochEntry) -> State:
    last = state.epochs.get(entry.service)
    expected = (1, None) if last is None else (last.number + 1, last.number)
    holds = state.holding().get(entry.service)
    if (entry.epoch, entry.retires) != expected or entry.policy_sha256 != holds:
        raise LogTamperedError(f"epoch {entry.epoch} of {entry.service}: does not follow from the log")
    epoch = Epoch(
        service=entry.service,
        policy_sha256=entry.policy_sha256,
        number=entry.epoch,
        state=EpochState.ACTIVE,
        key_configs=entry.key_configs,
        index=written.entry.index,
        data=written.data,
    )
    return replace(state, epochs={**state.epochs, entry.service: epoch})


def _apply_releases(state: State, entry: ReleasesEntry) -> State:
    if entry.first != state.audited:
        raise LogTamperedError(f"audit stream: expected record {state.audited}, got {entry.first}")
    return replace(state, audited=state.audited + entry.count)
