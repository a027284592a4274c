"""What a replica tells of the key service as a whole: to operators, unverified, and nothing secret.

Source: docs/spec/log.md, section "Replicas".
"""

from s3ml.attestation import Tee
from s3ml.keyservice.documents import (
    DeploymentReply,
    EpochReply,
    PresenceReply,
    StatusReply,
    WitnessReply,
)
from s3ml.keyservice.metrics import Values
from s3ml.keyservice.releases import LIVING
from s3ml.keyservice.replaying import View
from s3ml.keyservice.replica import Phase, Replica
from s3ml.keyservice.upkeep import needed_generations
from s3ml.primitives.errors import S3MLError
from s3ml.transparency.cosignature import verified_cosignatures


def deployment_status(replica: Replica, tee: Tee) -> DeploymentReply:
    """Return where the deployment and this replica stand."""
    view, stored = replica.ledger.view, replica.ledger.stored
    authority = view.state.authority
    return DeploymentReply(
        state=replica.phase.value,
        deployment=None if authority is None else authority.deployment,
        genesis=None if authority is None else authority.genesis.entry,
        checkpoint=view.checkpoint or None,
        is_simulated=tee is Tee.SIMULATED if authority is None else authority.is_simulated,
        is_fork_protected=authority is not None and authority.is_fork_protected,
        replica=replica.id,
        replica_nonce=replica.nonce,
        log_size=view.size,
        log_root=view.root if view.size else None,
        stored_size=stored.size,
        stored_root=stored.root if stored.size else None,
        trouble=_trouble(replica),
    )


def whole_status(replica: Replica, tee: Tee, *, audit_waiting: int) -> StatusReply:
    """Return everything that an operator may want to see."""
    view, deployment = replica.ledger.view, deployment_status(replica, tee)
    authority, state = view.state.authority, view.state
    if authority is None:
        return StatusReply(deployment=deployment)
    recovery = state.recovery
    return StatusReply(
        deployment=deployment,
        owners=tuple(owner.name for owner in authority.owners),
        threshold=authority.threshold,
        quorum=authority.quorum,
        witnesses=_witnesses(view),
        presence=tuple(
            PresenceReply(replica=one, seen_at=found.at, generations=tuple(sorted(found.generations)))
            for one, found in sorted(state.presence.items())
        ),
        epochs=_epochs(replica),
        recovery_threshold=0 if recovery is None else recovery.threshold,
        recovery_holders=() if recovery is None else tuple(key.name for key in recovery.holders),
        keys_number=authority.keys_number,
        audit_records=state.audited,
        audit_waiting=audit_waiting,
    )


def gauges(replica: Replica, *, audit_waiting: int) -> dict[str, Values]:
    """Return the present values for the metrics."""
    view, stored, state = replica.ledger.view, replica.ledger.stored, replica.ledger.view.state
    authority, keyring = state.authority, replica.keyring
    held = frozenset[str]() if keyring is None else keyring.generations.ids
    epochs = [epoch.state for line in state.epochs.values() for epoch in line.living]
    cosigned = 0 if authority is None else len(verified_cosignatures(view.checkpoint, authority.witnesses))
    return {
        "s3ml_keyservice_log_size": view.size,
        "s3ml_keyservice_uncommitted": stored.size - view.size,
        "s3ml_keyservice_audit_waiting": audit_waiting,
        "s3ml_keyservice_ready": int(_trouble(replica) is None and authority is not None),
        "s3ml_keyservice_phase": {phase.value: int(phase is replica.phase) for phase in Phase},
        "s3ml_keyservice_lease_seconds": replica.lease_s,
        "s3ml_keyservice_witnesses": cosigned,
        "s3ml_keyservice_witness_quorum": 0 if authority is None else authority.quorum,
        "s3ml_keyservice_replicas_present": len(state.presence),
        "s3ml_keyservice_epochs": {LIVING[one]: epochs.count(one) for one in LIVING},
        "s3ml_keyservice_generations_held": len(held),
        "s3ml_keyservice_generations_missing": len(needed_generations(state) - held),
    }


def _witnesses(view: View) -> tuple[WitnessReply, ...]:
    witnesses = view.authority.witnesses
    cosigned = verified_cosignatures(view.checkpoint, witnesses)
    return tuple(
        WitnessReply(name=witness.name, cosigned_at=cosigned.get(witness.name)) for witness in witnesses
    )


def _epochs(replica: Replica) -> tuple[EpochReply, ...]:
    keyring = replica.keyring
    held = frozenset[str]() if keyring is None else keyring.generations.ids
    return tuple(
        EpochReply(
            service=service,
            epoch=epoch.number,
            state=LIVING[epoch.state],
            since=epoch.since,
            policy_sha256=epoch.policy_sha256,
            generation=epoch.generation,
            is_held=epoch.generation in held,
        )
        for service, line in sorted(replica.ledger.view.state.epochs.items())
        for epoch in line.living
    )


def _trouble(replica: Replica) -> str | None:
    """Return why nothing is served, in one line; nothing before there is a deployment."""
    if replica.ledger.view.state.authority is None:
        return None
    try:
        replica.serving()
    except S3MLError as error:
        return str(error)
    return None
