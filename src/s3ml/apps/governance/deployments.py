"""How a deployment begins: a proposal, k of n signatures, evidence, and the trust file that follows."""

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from s3ml.attestation import AppraisalPolicy, parse_policy
from s3ml.client.trust import Trust
from s3ml.keyservice.client import Genesis, KeyServiceClient, verify_genesis_reply
from s3ml.keyservice.documents import PROPOSAL_TYPE, GenesisRequest, Owner, Proposal
from s3ml.keyservice.genesis import read_witnesses
from s3ml.primitives.envelope import Envelope
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.names import check_name
from s3ml.primitives.signing import SigningKey, VerifyKey

_NONCE_BYTES = 32


def propose(
    owners: Sequence[tuple[str, VerifyKey]],
    *,
    threshold: int,
    key_service_policy: bytes,
    allow_simulated: bool,
    witnesses: Sequence[str] = (),
    witness_quorum: int | None = None,
) -> Envelope:
    """Write a proposal for owners to sign.

    Args:
        owners: Names and public keys, each once.
        threshold: How many of them decide, from 1 to all.
        key_service_policy: The policy document of the key service.
        allow_simulated: Whether this deployment may run on a simulated platform at all.
        witnesses: The verifier keys of those whose cosignatures commit the log.
        witness_quorum: How many of them; by default more than half, and two thirds of many.

    Raises:
        ConfigurationError: owners, threshold or witnesses make no sense, or the policy is none or contradicts
            the flag.
    """
    names, keys = [name for name, _ in owners], [key.raw for _, key in owners]
    for name in names:
        check_name(name, what="owner")
    if len(set(names)) != len(names) or len(set(keys)) != len(keys):
        raise ConfigurationError("owners: expected each name and each key once")
    if not 1 <= threshold <= len(owners):
        raise ConfigurationError(f"threshold: expected 1 to {len(owners)} (the owners), got {threshold}")
    is_simulated = parse_policy(key_service_policy).is_simulated
    if is_simulated and not allow_simulated:
        raise ConfigurationError(
            "key-service policy: accepts a SIMULATED platform; use --allow-simulated if that is what you want"
        )
    if allow_simulated and not is_simulated:
        raise ConfigurationError(
            "key-service policy: accepts no SIMULATED platform; leave --allow-simulated out"
        )
    quorum = default_quorum(len(witnesses)) if witness_quorum is None else witness_quorum
    read_witnesses(witnesses, quorum)
    proposal = Proposal(
        witnesses=tuple(witnesses),
        witness_quorum=quorum,
        owners=tuple(Owner(name=name, key=str(key)) for name, key in owners),
        threshold=threshold,
        key_service_policy=key_service_policy,
        allow_simulated=allow_simulated,
        random=secrets.token_bytes(_NONCE_BYTES),
    )
    return Envelope(payload_type=PROPOSAL_TYPE, payload=msgspec.json.encode(proposal))


def default_quorum(witnesses: int) -> int:
    """Return how many of that many witnesses have to cosign: two thirds, and always more than half."""
    return 0 if not witnesses else max(witnesses // 2 + 1, -(-2 * witnesses // 3))


def read_proposal(envelope: Envelope) -> Proposal:
    """Read what an envelope proposes, without judging its signatures.

    Raises:
        ConfigurationError: it is no proposal.
    """
    if envelope.payload_type != PROPOSAL_TYPE:
        raise ConfigurationError(f"proposal: expected {PROPOSAL_TYPE}, got {envelope.payload_type[:100]}")
    try:
        return msgspec.json.decode(envelope.payload, type=Proposal)
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"proposal: {error}") from error


def sign_proposal(envelope: Envelope, key: SigningKey) -> Envelope:
    """Add an owner's signature.

    Raises:
        ConfigurationError: it is no proposal, or the key is none of its owners'.
    """
    proposal = read_proposal(envelope)
    if str(key.public) not in {owner.key for owner in proposal.owners}:
        raise ConfigurationError("private key: is none of the owners' that the proposal names")
    return envelope.with_signature(key)


def missing_signatures(envelope: Envelope) -> int:
    """Return how many more owners have to sign the proposal."""
    proposal = read_proposal(envelope)
    signers = envelope.signers(VerifyKey.parse(owner.key) for owner in proposal.owners)
    return max(0, proposal.threshold - len(signers))


def begin(client: KeyServiceClient, proposal: Envelope, *, allow_simulated: bool, now: datetime) -> Genesis:
    """Give the signed proposal to the key service, and verify the evidence that comes back.

    Args:
        client: Leads to the key service; trusted with nothing.
        proposal: Signed by enough owners.
        allow_simulated: Whether the person at the keyboard accepts a simulated platform.
        now: Aware UTC.

    Raises:
        ConfigurationError: signatures are missing, or the proposal is simulated and that was not allowed.
        UntrustedPeerError: the evidence does not hold.
        UnavailableError: the key service does not answer.
    """
    if missing := missing_signatures(proposal):
        raise ConfigurationError(f"proposal: {missing} more signature(s) needed: s3ml deployment sign")
    if read_proposal(proposal).allow_simulated and not allow_simulated:
        raise ConfigurationError("proposal: allows a SIMULATED platform; use --allow-simulated to go on")
    nonce = secrets.token_bytes(_NONCE_BYTES)
    reply = client.genesis(GenesisRequest(proposal=proposal, nonce=nonce))
    return verify_genesis_reply(reply, proposal=proposal, nonce=nonce, now=now)


def trust_from(
    genesis: Genesis, *, service_policies: Mapping[str, AppraisalPolicy], follow_key_service: bool = False
) -> Trust:
    """Return what clients of a verified deployment pin.

    Args:
        genesis: Verified.
        service_policies: The policies that clients hold services to; where none is given, clients follow
            whatever the owners sign.
        follow_key_service: Whether clients accept whatever code the owners sign for the key service.
    """
    return Trust(
        deployment=genesis.deployment,
        allow_simulated=genesis.proposal.allow_simulated,
        key_service_policy=parse_policy(genesis.proposal.key_service_policy),
        follow=None if service_policies else "owners",
        services=dict(service_policies),
        follow_key_service="owners" if follow_key_service else None,
    )
