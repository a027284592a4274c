"""Read the stored log back and check it against everything that the host cannot make.

The chain, the checkpoint's signature, the sealed head, the owners' signatures, the names of wrapped secrets:
they show integrity, never freshness. An older state that was whole once passes.

Source: docs/spec/log.md, section "Recovery".
"""

from collections.abc import Sequence
from dataclasses import dataclass

from s3ml.attestation import Attester
from s3ml.keyservice.documents import ReleasesEntry
from s3ml.keyservice.genesis import Genesis
from s3ml.keyservice.keys import DeploymentSecrets
from s3ml.keyservice.log import Chain, LogTamperedError, Written
from s3ml.keyservice.state import State, apply
from s3ml.keyservice.storage import Storage
from s3ml.keyservice.vault import KEY_BYTES, WRAPPING_KEY, Vault, head_name, identity_name
from s3ml.primitives.aead import StorageTamperedError
from s3ml.primitives.clock import RatchetClock
from s3ml.primitives.encoding import tagged, tagged_sha256
from s3ml.primitives.errors import S3MLError, UnavailableError
from s3ml.primitives.secret import SecretBytes
from s3ml.transparency.checkpoint import open_checkpoint
from s3ml.transparency.merkle import EMPTY_ROOT, Tree
from s3ml.transparency.note import NoteRejectedError

_BATCH = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What holds at one head of the log.

    Args:
        state: What the log says.
        size: Its size.
        root: Its Merkle root.
        checkpoint: The signed note over both; empty before genesis.
        tree: The log's tree, which may have grown since: ask it for `size`.
    """

    state: State
    size: int
    root: bytes
    checkpoint: str
    tree: Tree

    @classmethod
    def empty(cls, tree: Tree) -> "View":
        """Return what holds before genesis."""
        return cls(state=State(), size=0, root=EMPTY_ROOT, checkpoint="", tree=tree)

    @property
    def genesis(self) -> Genesis:
        """The deployment.

        Raises:
            NotFoundError: there is none yet.
        """
        return self.state.deployment


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Keyring:
    """The private keys of a deployment, and what wraps secrets: for storage, and for this process's life."""

    deployment: DeploymentSecrets
    vault: Vault
    generation: Vault

    def seal(self, size: int, root: bytes) -> bytes:
        """Return the head of the log under the wrapping key."""
        return self.vault.wrap(head_name(size), _head(size, root)).ciphertext


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Recovered:
    """A stored deployment that held every check."""

    view: View
    keyring: Keyring


def audit_digest(records: Sequence[bytes]) -> str:
    """Return the digest that commits a batch of the audit stream."""
    return tagged_sha256("S3ML audit batch v1", *records).hex()


def recover(storage: Storage, attester: Attester, chain: Chain, clock: RatchetClock) -> Recovered | None:
    """Read everything back into `chain` and check it.

    1. Every entry continues the chain, and follows from those before it by the rules of writing.
    2. The audit stream is what its batches commit to.
    3. There are as many entries as the stored head says.
    4. The deployment's checkpoint key signed that head: same size, same root.
    5. The wrapping key opens under this TEE's sealing key, and the sealed head under that: the same head.
    6. The deployment's keys open, and are those of genesis.
    7. The identity of every model of every service opens.

    Returns:
        Nothing where nothing is stored.

    Raises:
        LogTamperedError: one of (1) to (4) fails, or the sealed head is another.
        StorageTamperedError: a secret of (5) to (7) is missing or does not open.
        UnavailableError: storage or the TEE does not answer.
    """
    head = storage.head()
    state = _read_entries(storage, chain, clock)  # (1), (2)
    size = chain.size
    if head is None and size == 0:
        return None
    if head is None or head.size != size:  # (3)
        expected = "none without a head" if head is None else f"{head.size}"
        raise LogTamperedError(f"stored log: number of entries: expected {expected}, got {size}")
    genesis, root = state.deployment, chain.tree.root()
    try:
        signed = open_checkpoint(head.checkpoint, origin=genesis.origin, key=genesis.checkpoint_key)  # (4)
    except NoteRejectedError as error:
        raise LogTamperedError(f"stored log: {error}") from error
    if (signed.size, signed.root) != (size, root):
        raise LogTamperedError("stored log: is not the one that its checkpoint signs")
    keyring = _open_keyring(storage, genesis, attester)  # (5), (6)
    if keyring.vault.unwrap(head_name(size), head.seal) != _head(size, root):
        raise LogTamperedError("stored log: is not the one that its sealed head names")
    _check_identities(state, keyring.vault, storage)  # (7)
    view = View(state=state, size=size, root=root, checkpoint=head.checkpoint, tree=chain.tree)
    return Recovered(view=view, keyring=keyring)


def _read_entries(storage: Storage, chain: Chain, clock: RatchetClock) -> State:
    state = State()
    while found := storage.entries(chain.size, chain.size + _BATCH):
        for data in found:
            index = chain.size
            try:
                entry = chain.append(data)
                state = apply(state, Written(data=data, entry=entry))
                if isinstance(entry.body, ReleasesEntry):
                    _check_audit(storage, entry.body)
            except UnavailableError:
                raise
            except S3MLError as error:
                raise LogTamperedError(f"stored log: entry {index}: {error}") from error
            clock.observe(entry.time)
    return state


def _check_audit(storage: Storage, entry: ReleasesEntry) -> None:
    records = storage.audit(entry.first, entry.first + entry.count)
    if len(records) != entry.count or audit_digest(records) != entry.sha256:
        raise LogTamperedError("the audit records are not those that it commits to")


def _open_keyring(storage: Storage, genesis: Genesis, attester: Attester) -> Keyring:
    sealing = Vault(attester.sealing_key(), genesis.deployment)
    try:
        wrapping_key = SecretBytes(sealing.read(storage, WRAPPING_KEY))
    except StorageTamperedError as error:
        raise StorageTamperedError(
            "sealed state: does not open: another build of the key service, another platform, or changed"
        ) from error
    vault = Vault(wrapping_key, genesis.deployment)
    return Keyring(
        deployment=DeploymentSecrets.read(vault, storage, genesis),
        vault=vault,
        generation=Vault(SecretBytes.random(KEY_BYTES), genesis.deployment),
    )


def _check_identities(state: State, vault: Vault, storage: Storage) -> None:
    for service in state.services.values():
        for manifest in service.terms.manifests:
            vault.read(storage, identity_name(manifest))


def _head(size: int, root: bytes) -> bytes:
    return tagged("S3ML sealed head v1", size.to_bytes(8, "big"), root)
