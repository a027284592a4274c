"""Genesis: what k of n owners signed, and the keys that came of it.

Source: docs/spec/log.md, section "Genesis".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from s3ml.attestation import AppraisalPolicy
from s3ml.keyservice.documents import PROPOSAL_TYPE, DeploymentKeys, GenesisEntry, Owner, Proposal
from s3ml.keyservice.fields import GENESIS_LIMIT_BYTES
from s3ml.keyservice.log import NO_PREVIOUS, deployment_id, origin, parse_entry
from s3ml.keyservice.parsing import parse_document, read_policy
from s3ml.primitives.encoding import sha256
from s3ml.primitives.envelope import Envelope
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.signing import VerifyKey
from s3ml.transparency.cosignature import WitnessKey, check_witnesses
from s3ml.transparency.merkle import leaf_hash


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedProposal:
    """A proposal that enough of its own owners signed."""

    envelope: Envelope
    proposal: Proposal
    owners: tuple[VerifyKey, ...]
    witnesses: tuple[WitnessKey, ...]
    policy: AppraisalPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class Genesis:
    """A deployment, as its first entry defines it.

    That a TEE made the keys follows from evidence alone; nothing here says so.
    """

    entry: bytes
    deployment: str
    envelope: Envelope
    proposal: Proposal
    owners: tuple[VerifyKey, ...]
    policy: AppraisalPolicy
    keys: DeploymentKeys
    checkpoint_key: VerifyKey
    statement_key: VerifyKey
    witnesses: tuple[WitnessKey, ...] = ()

    @property
    def deployment_bytes(self) -> bytes:
        """The deployment id, 32 bytes."""
        return bytes.fromhex(self.deployment)

    @property
    def policy_digest(self) -> bytes:
        """The SHA-256 of the key service's policy as the owners signed it."""
        return sha256(self.proposal.key_service_policy)

    @property
    def origin(self) -> str:
        """The name of the deployment's log."""
        return origin(self.deployment)

    @property
    def log_root(self) -> bytes:
        """The Merkle root of the log that holds this entry alone."""
        return leaf_hash(self.entry)

    @property
    def is_simulated(self) -> bool:
        """Whether the owners allow a simulated platform, which protects nothing."""
        return self.proposal.allow_simulated

    @property
    def is_fork_protected(self) -> bool:
        """Whether witnesses keep the log from being shown differently to different people."""
        return self.proposal.witness_quorum > 0


def check_proposal(envelope: Envelope) -> CheckedProposal:
    """Check a proposal against its own rules.

    1. It is a proposal.
    2. Names and keys of the owners are distinct, and the threshold is at most their number; witnesses are
       distinct, and their quorum is more than half of them, or 0 where there are none.
    3. The key service's policy can be read, and is simulated exactly when the proposal allows that.
    4. At least the threshold of these owners signed it.

    Args:
        envelope: From an untrusted peer.

    Raises:
        ConfigurationError: (1) to (3) fail.
        SignatureError: (4) fails.
    """
    proposal = parse_document(  # (1)
        envelope.payload, Proposal, what="proposal", limit_bytes=GENESIS_LIMIT_BYTES
    )
    owners = check_owners(proposal.owners, proposal.threshold)  # (2)
    witnesses = read_witnesses(proposal.witnesses, proposal.witness_quorum)
    policy = read_policy(proposal.key_service_policy)  # (3)
    if policy.is_simulated != proposal.allow_simulated:
        raise ConfigurationError(
            f"proposal: allow_simulated: expected {str(policy.is_simulated).lower()}, as the key service's "
            f"policy has it, got {str(proposal.allow_simulated).lower()}"
        )
    envelope.verify(owners, threshold=proposal.threshold, payload_type=PROPOSAL_TYPE)  # (4)
    return CheckedProposal(
        envelope=envelope, proposal=proposal, owners=owners, witnesses=witnesses, policy=policy
    )


def check_owners(owners: Sequence[Owner], threshold: int) -> tuple[VerifyKey, ...]:
    """Return the owners' keys.

    Raises:
        ConfigurationError: a name or a key stands twice, or the threshold is more than their number.
    """
    keys = tuple(VerifyKey.parse(owner.key) for owner in owners)
    if len({owner.name for owner in owners}) != len(keys) or len(set(keys)) != len(keys):
        raise ConfigurationError("owners: expected each owner's name and each key once")
    if threshold > len(keys):
        raise ConfigurationError(f"threshold: expected at most {len(keys)} (the owners), got {threshold}")
    return keys


def read_witnesses(texts: Sequence[str], quorum: int) -> tuple[WitnessKey, ...]:
    """Return the witnesses' keys.

    Two quorums of more than half share a witness, so that two inconsistent heads are never both committed.

    Raises:
        ConfigurationError: a key is malformed, a name or a key stands twice, or the quorum is not more than
            half of the witnesses (0 where there are none).
    """
    witnesses = tuple(WitnessKey.parse(text) for text in texts)
    check_witnesses(witnesses)
    least = len(witnesses) // 2 + 1 if witnesses else 0
    if not least <= quorum <= len(witnesses):
        raise ConfigurationError(
            f"witness quorum: expected {least} to {len(witnesses)}, more than half of the witnesses, "
            f"got {quorum}"
        )
    return witnesses


@lru_cache(maxsize=8)
def identify_genesis(entry: bytes) -> Genesis:
    """Return the deployment that the first log entry `entry` defines; remembers the newest few that held.

    The owners' signatures are checked; who the owners are, and that a TEE made the keys, is not.

    Args:
        entry: The bytes of the entry, from an untrusted peer.

    Raises:
        ConfigurationError: it is no genesis entry, or its proposal breaks its own rules.
        SignatureError: too few owners signed the proposal.
    """
    parsed = parse_entry(entry)
    body = parsed.body
    if (
        not isinstance(body, GenesisEntry)
        or parsed.index
        or parsed.deployment
        or parsed.previous != NO_PREVIOUS
    ):
        raise ConfigurationError("genesis: expected the first entry of a log, got another one")
    checked = check_proposal(body.proposal)
    return Genesis(
        entry=entry,
        deployment=deployment_id(entry),
        envelope=body.proposal,
        proposal=checked.proposal,
        owners=checked.owners,
        policy=checked.policy,
        keys=body.keys,
        checkpoint_key=VerifyKey.parse(body.keys.checkpoint),
        statement_key=VerifyKey.parse(body.keys.statement),
        witnesses=checked.witnesses,
    )
