"""What owners change about the deployment itself, and keys on demand: bodies, and what they mean for whom."""

import math
from collections.abc import Sequence
from datetime import datetime

import msgspec

from s3ml.apps.governance.callers import name_callers
from s3ml.apps.governance.changes import describe_times
from s3ml.apps.governance.deployments import default_quorum
from s3ml.attestation import AppraisalPolicy, parse_policy
from s3ml.attestation.policy.diff import diff_policies
from s3ml.keyservice.client import Authority
from s3ml.keyservice.documents import (
    ACKNOWLEDGEMENT_TYPE,
    Acknowledgement,
    DeploymentReply,
    KeyServiceDocument,
    Owner,
    OwnersDocument,
    RotationDocument,
    ServiceDocument,
    WitnessesDocument,
)
from s3ml.keyservice.genesis import check_owners, read_witnesses
from s3ml.modelserver.lease import RENEWAL_SHARE
from s3ml.primitives.envelope import Envelope
from s3ml.primitives.errors import ConfigurationError, UntrustedPeerError
from s3ml.primitives.names import check_name
from s3ml.primitives.signing import VerifyKey


def owners_body(owners: Sequence[tuple[str, VerifyKey]], *, threshold: int) -> bytes:
    """Write the body of ``PUT deployment/owners``.

    Raises:
        ConfigurationError: names, keys or threshold make no sense.
    """
    for name, _ in owners:
        check_name(name, what="owner")
    named = tuple(Owner(name=name, key=str(key)) for name, key in owners)
    check_owners(named, threshold)
    return msgspec.json.encode(OwnersDocument(owners=named, threshold=threshold))


def witnesses_body(witnesses: Sequence[str], *, quorum: int | None) -> bytes:
    """Write the body of ``PUT deployment/witnesses``; two thirds of them commit by default.

    Raises:
        ConfigurationError: a key stands twice, or the quorum is not more than half of them.
    """
    chosen = default_quorum(len(witnesses)) if quorum is None else quorum
    read_witnesses(witnesses, chosen)
    return msgspec.json.encode(WitnessesDocument(witnesses=tuple(witnesses), witness_quorum=chosen))


def key_service_body(policy: bytes) -> bytes:
    """Write the body of ``PUT deployment/key-service``."""
    return msgspec.json.encode(KeyServiceDocument(policy=policy))


def rotation_body(service: str, *, discard: bool) -> bytes:
    """Write the body of ``PUT rotations/{service}``."""
    return msgspec.json.encode(
        RotationDocument(
            service=check_name(service, what="service"), retire="discard" if discard else "drain"
        )
    )


def explain_effects(resource: str, method: str, old: bytes | None, new: bytes) -> list[str]:
    """Say what a change does to what stands, a line each: who comes and goes, what widens and narrows.

    Args:
        resource: The resource's full name.
        method: ``PUT`` or ``DELETE``.
        old: The body that stands, as far as it is known.
        new: The body that is to stand.
    """
    if method == "DELETE":
        return [f"{resource} is TAKEN AWAY; what depends on it stops at once."]
    if resource == "deployment/owners" and old is not None:
        return _owner_effects(old, new)
    if resource == "deployment/key-service" and old is not None:
        lines = ["The deployment gets NEW KEYS. Clients that pin the old policy will refuse code beyond it."]
        return lines + _policy_effects(_policy_of(old), _policy_of(new))
    if resource.startswith("policies/") and old is not None:
        return [
            "Every service signed under the old policy stands still until it is signed anew.",
            *_policy_effects(old, new),
        ]
    if resource.startswith("services/") and old is not None:
        return [*_caller_effects(old, new), *_time_effects(old, new), *_following(old, new)]
    return []


def standing_body(authority: Authority, resource: str) -> bytes | None:
    """Return the body that stands of a part of the deployment itself, as genesis or the owners made it."""
    if resource == "deployment/owners":
        return msgspec.json.encode(OwnersDocument(owners=authority.owners, threshold=authority.threshold))
    if resource == "deployment/key-service":
        return key_service_body(authority.policy_body)
    return None


def acknowledge(
    reply: DeploymentReply,
    authority: Authority,
    *,
    now: datetime,
    successors: WitnessesDocument | None = None,
) -> Envelope:
    """Write what owners sign to let the replica that gave `reply` serve.

    Args:
        reply: From the replica, unverified; signers compare it with what they know.
        authority: What governs, followed from the pinned genesis.
        now: Aware UTC, for people.
        successors: The witnesses from now on, where those before are lost, or know a log that is lost.

    Raises:
        ConfigurationError: the replica needs no acknowledgement.
        UntrustedPeerError: it is one of another deployment.
    """
    if reply.deployment != authority.deployment:
        raise UntrustedPeerError(
            f"replica: expected one of deployment {authority.deployment}, got one of {reply.deployment}"
        )
    if reply.state != "recovering" or reply.stored_root is None:
        raise ConfigurationError(f"replica: expected one that is recovering, got one that is {reply.state}")
    document = Acknowledgement(
        deployment=authority.deployment,
        nonce=reply.replica_nonce,
        log_size=reply.stored_size,
        log_root=reply.stored_root,
        created_at=now,
        successors=successors,
    )
    return Envelope(payload_type=ACKNOWLEDGEMENT_TYPE, payload=msgspec.json.encode(document))


def read_acknowledgement(envelope: Envelope) -> Acknowledgement:
    """Read what an envelope acknowledges, without judging its signatures.

    Raises:
        ConfigurationError: it is no acknowledgement.
    """
    if envelope.payload_type != ACKNOWLEDGEMENT_TYPE:
        raise ConfigurationError(
            f"acknowledgement: expected {ACKNOWLEDGEMENT_TYPE}, got {envelope.payload_type[:100]}"
        )
    try:
        return msgspec.json.decode(envelope.payload, type=Acknowledgement)
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"acknowledgement: {error}") from error


def _owner_effects(old: bytes, new: bytes) -> list[str]:
    before = {owner.key: owner.name for owner in msgspec.json.decode(old, type=OwnersDocument).owners}
    document = msgspec.json.decode(new, type=OwnersDocument)
    after = {owner.key: owner.name for owner in document.owners}
    lines = [f"{name} COMES: {key}" for key, name in after.items() if key not in before]
    lines += [f"{name} GOES: {key}" for key, name in before.items() if key not in after]
    return [*lines, "Enough of the owners before, and enough of those after, have to sign."]


def _caller_effects(old: bytes, new: bytes) -> list[str]:
    before, after = (msgspec.json.decode(body, type=ServiceDocument).callers for body in (old, new))
    if before == after:
        return []
    return [f"Its callers CHANGE: they are {name_callers(before)}, and will be {name_callers(after)}."]


def _time_effects(old: bytes, new: bytes) -> list[str]:
    before, after = (msgspec.json.decode(body, type=ServiceDocument).times for body in (old, new))
    return [] if before == after else [f"Its times CHANGE. Before: {describe_times(before)}"]


def _following(old: bytes, new: bytes) -> list[str]:
    """Say when replicas that hold keys under what stands take up what follows it."""
    before, after = (msgspec.json.decode(body, type=ServiceDocument) for body in (old, new))
    if before == after:
        return []
    renewal_s = math.ceil(before.times.lease_s * RENEWAL_SHARE)
    return [f"Replicas that serve follow within {renewal_s} s, when they renew what they hold."]


def _policy_of(body: bytes) -> bytes:
    return msgspec.json.decode(body, type=KeyServiceDocument).policy


def _policy_effects(old: bytes, new: bytes) -> list[str]:
    before: AppraisalPolicy = parse_policy(old)
    diff = diff_policies(before, parse_policy(new))
    lines = [f"Against the policy that stands it is {diff.verdict}."]
    lines += [f"WIDENS: {line}" for line in diff.widens]
    return lines + [f"narrows: {line}" for line in diff.narrows]
