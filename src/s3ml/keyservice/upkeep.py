"""What time alone makes due: epochs that begin, go on and end, and the proof that a replica is present.

Pure decisions, and the plans that carry them out; any replica may do so, and the log lets one.

Source: docs/spec/log.md, sections "Epochs" and "Presence".
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from s3ml.keyservice.documents import PresenceEntry
from s3ml.keyservice.epochs import Begin, Step, due
from s3ml.keyservice.keys import Keyring, make_epoch
from s3ml.keyservice.ledger import Plan
from s3ml.keyservice.log import Body
from s3ml.keyservice.replaying import View
from s3ml.keyservice.resources import wanted
from s3ml.keyservice.state import State
from s3ml.keyservice.storage import SecretName, WrappedSecret
from s3ml.keyservice.vault import epoch_name, identity_name

# How long a replica serves without having seen a head that a quorum cosigned after its own random bytes.
REPLICA_LEASE_S = 300.0
# Renewed at a third of it, so that two attempts may fail.
PRESENCE_S = REPLICA_LEASE_S / 3
NONCE_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class EpochWork:
    """What is written of epochs: entries, fresh keys wrapped, and names of keys that are over."""

    bodies: tuple[Body, ...]
    secrets: tuple[WrappedSecret, ...]
    forget: tuple[SecretName, ...]


def carry_out(
    before: State, after: State, steps: Sequence[Step], *, keyring: Keyring, replica: str, now: datetime
) -> EpochWork:
    """Return what `steps` write; with fresh generation keys comes word of who holds them.

    Args:
        before: What is committed.
        after: The same after a change that is written as one with the steps; `before` where there is none.
        steps: What is due after that change.
        keyring: Its generations wrap what begins.
        replica: This replica's id.
        now: Aware UTC.
    """
    bodies: list[Body] = []
    wrapped: list[WrappedSecret] = []
    retired = {
        (step.service, step.number)
        for step in steps
        if not isinstance(step, Begin) and step.state == "retired"
    }
    living = {
        (service, epoch.number) for service, line in after.epochs.items() for epoch in line.living
    } - retired
    for step in steps:
        if isinstance(step, Begin):
            entry, secret = make_epoch(step, keyring.generations, now)
            bodies.append(entry)
            wrapped.append(secret)
        else:
            bodies.append(step.entry())
    if any(isinstance(step, Begin) for step in steps) and not _is_told(before, replica, keyring):
        bodies.append(presence(replica, keyring))
    forget = tuple(
        epoch_name(service, epoch.number)
        for service, line in before.epochs.items()
        for epoch in line.living
        if (service, epoch.number) not in living
    )
    return EpochWork(bodies=tuple(bodies), secrets=tuple(wrapped), forget=forget)


def needed_generations(state: State) -> frozenset[str]:
    """Return the generations of every living epoch."""
    return frozenset(epoch.generation for line in state.epochs.values() for epoch in line.living)


def names_released(state: State) -> frozenset[SecretName]:
    """Return the names of what releases hold: the keys of living epochs, and the identities of models."""
    epochs = (
        epoch_name(service, epoch.number) for service, line in state.epochs.items() for epoch in line.living
    )
    manifests = (one for service in state.services.values() for one in service.terms.manifests)
    return frozenset((*epochs, *map(identity_name, manifests)))


def lost_generations(state: State, held: frozenset[str], now: datetime) -> frozenset[str]:
    """Return the generations that living epochs need and that no present replica holds.

    Args:
        state: What the log says.
        held: What this replica holds.
        now: Aware UTC.
    """
    lease = timedelta(seconds=REPLICA_LEASE_S)
    elsewhere = (one.generations for one in state.presence.values() if now - one.at <= lease)
    return needed_generations(state) - held.union(*elsewhere)


def plan_upkeep(view: View, keyring: Keyring, now: datetime, *, replica: str) -> Plan | None:
    """Return the plan of every step that is due, or nothing; lost generations are those that `view` knows of.

    Args:
        view: What is committed.
        keyring: Signs, and wraps what begins.
        now: Aware UTC.
        replica: This replica's id.
    """
    state = view.state
    lost = lost_generations(state, keyring.generations.ids, now)
    steps = due(state.epochs, wanted(state.standing), now=now, lost=lost)
    if not steps:
        return None
    work = carry_out(state, state, steps, keyring=keyring, replica=replica, now=now)
    return Plan(keyring=keyring, bodies=work.bodies, secrets=work.secrets, forget=work.forget)


def _is_told(state: State, replica: str, keyring: Keyring) -> bool:
    """Tell whether the log says of everything that this replica holds that it is held here."""
    said = state.presence.get(replica)
    return said is not None and keyring.generations.ids <= said.generations


def presence(replica: str, keyring: Keyring) -> PresenceEntry:
    """Return an entry with fresh random bytes of this replica."""
    return PresenceEntry(
        replica=replica,
        random=secrets.token_bytes(NONCE_BYTES),
        generations=tuple(sorted(keyring.generations.ids)),
    )
