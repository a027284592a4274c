"""Where the two sides of a join stand: what a source vouches for, and what a joiner has read for itself.

Source: docs/spec/join.md.
"""

from collections.abc import Callable
from dataclasses import dataclass

from s3ml.attestation import AppraisalPolicy
from s3ml.keyservice.parsing import read_policy
from s3ml.primitives.encoding import SHA256_BYTES, from_hex, sha256
from s3ml.primitives.errors import ConfigurationError
from s3ml.transparency.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingStanding:
    """The newest committed head of a replica that serves.

    Only the ledger of a serving replica makes one, anew for every step of every join; a replica that is
    sealed, recovering or halted has none to give, and so can neither offer nor seal.

    Args:
        deployment: The deployment's id.
        policy_document: The key service's policy in force at that head, as the owners signed it.
        log_size: The number of entries.
        log_root: The Merkle root over them.
        checkpoint: The note over both, with the cosignatures that commit it.

    Raises:
        ConfigurationError: a field has another length or form.
    """

    deployment: str
    policy_document: bytes
    log_size: int
    log_root: bytes
    checkpoint: str

    def __post_init__(self) -> None:
        from_hex(self.deployment, what="standing: deployment", size_bytes=SHA256_BYTES)
        if self.log_size < 1 or len(self.log_root) != SHA256_BYTES or not self.checkpoint:
            raise ConfigurationError("standing: expected a committed head of at least one entry")

    @property
    def policy(self) -> AppraisalPolicy:
        """The key service's policy."""
        return read_policy(self.policy_document)

    @property
    def policy_sha256(self) -> str:
        """Its digest."""
        return sha256(self.policy_document).hex()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a joiner has read of its deployment's log, and checked, by itself.

    Args:
        deployment: The deployment's id.
        policy_document: The key service's policy in force at `size`, as the owners signed it.
        size: How many entries it has read.
        committed_size: How many of them it knows to be committed; no source may stand before that.
        root_of: The Merkle root over the first entries, for a number of them from 1 to `size`.
        open_checkpoint: Opens a checkpoint that is signed and cosigned as this log demands of a committed
            one; an `UntrustedPeerError` says that it is not.
    """

    deployment: str
    policy_document: bytes
    size: int
    committed_size: int
    root_of: Callable[[int], bytes]
    open_checkpoint: Callable[[str], Checkpoint]

    @property
    def policy(self) -> AppraisalPolicy:
        """The key service's policy."""
        return read_policy(self.policy_document)

    @property
    def policy_sha256(self) -> str:
        """Its digest."""
        return sha256(self.policy_document).hex()
