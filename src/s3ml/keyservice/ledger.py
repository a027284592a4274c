"""The log in memory and in storage, kept equal: recovered whole at the start, then changed commit by commit.

A commit is synchronous: stored (one flush) and applied without letting anything else run between. Readers
take `Ledger.view`, a value that is replaced at the end of a commit; they may do so from any thread.

Source: docs/spec/log.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from s3ml.attestation import Attester
from s3ml.keyservice.documents import GenesisEntry, ReleasesEntry
from s3ml.keyservice.epochs import EpochState, beginnings, lapsed, restarts
from s3ml.keyservice.errors import HaltedError, NotFoundError
from s3ml.keyservice.genesis import Genesis, identify_genesis
from s3ml.keyservice.keys import DeploymentSecrets, make_epoch
from s3ml.keyservice.log import Body, Chain, Written
from s3ml.keyservice.recovery import Keyring, View, audit_digest, recover
from s3ml.keyservice.resources import Change, holding
from s3ml.keyservice.state import NO_DEPLOYMENT, apply
from s3ml.keyservice.storage import Commit, Head, HeadMovedError, SecretName, Storage, WrappedSecret
from s3ml.keyservice.vault import KEY_BYTES, WRAPPING_KEY, Vault, epoch_name
from s3ml.primitives.clock import RatchetClock
from s3ml.primitives.envelope import Envelope
from s3ml.primitives.secret import SecretBytes
from s3ml.transparency.checkpoint import Checkpoint, sign_checkpoint


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Founding:
    """A genesis that is ready to be committed: the entry, its keys, and the wrapping key that it begins."""

    data: bytes
    genesis: Genesis
    secrets: DeploymentSecrets


class Ledger:
    """The one writer of the log.

    Args:
        storage: Untrusted.
        attester: The TEE, whose sealing key opens the state that an earlier process left.
        clock: Held in check by the newest entry's time.

    Attributes:
        storage: Where secrets lie.
        view: What holds now.

    Raises:
        LogTamperedError: what is stored is not what this key service wrote; see `recover`.
        StorageTamperedError: likewise, of its secrets.
        UnavailableError: storage or the TEE does not answer.
    """

    def __init__(self, storage: Storage, attester: Attester, clock: RatchetClock) -> None:
        self.storage = storage
        self._clock = clock
        self._is_halted = False
        self._chain = Chain()
        recovered = recover(storage, attester, self._chain, clock)
        self._keyring = None if recovered is None else recovered.keyring
        self.view = View.empty(self._chain.tree) if recovered is None else recovered.view

    @property
    def keyring(self) -> Keyring:
        """The deployment's keys.

        Raises:
            NotFoundError: there is no deployment yet.
        """
        if self._keyring is None:
            raise NotFoundError(NO_DEPLOYMENT)
        return self._keyring

    @property
    def is_halted(self) -> bool:
        """Whether storage was changed by another hand; nothing is served then."""
        return self._is_halted

    def found(self, proposal: Envelope) -> Founding:
        """Make a deployment's keys and prepare its first entry; nothing is stored.

        Raises:
            ConfigurationError: the proposal breaks its own rules.
            SignatureError: too few owners signed it.
        """
        secrets = DeploymentSecrets.generate()
        body = GenesisEntry(proposal=proposal, keys=secrets.public())
        written = Chain().build(body, time=self._clock.now())
        return Founding(data=written.data, genesis=identify_genesis(written.data), secrets=secrets)

    def begin(self, founding: Founding, sealing_key: SecretBytes) -> None:
        """Commit the first entry with the deployment's keys.

        Raises:
            UnavailableError: storage does not serve; the deployment has not begun.
        """
        deployment = founding.genesis.deployment
        wrapping_key = SecretBytes.random(KEY_BYTES)
        vault = Vault(wrapping_key, deployment)
        keyring = Keyring(
            deployment=founding.secrets,
            vault=vault,
            generation=Vault(SecretBytes.random(KEY_BYTES), deployment),
        )
        sealed = Vault(sealing_key, deployment).wrap(WRAPPING_KEY, wrapping_key.reveal())
        self._commit(keyring, [founding.data], secrets=(sealed, *founding.secrets.wrapped(vault)))
        self._keyring = keyring

    def change(self, change: Change, body: Body, secrets: tuple[WrappedSecret, ...]) -> tuple[int, int]:
        """Commit a judged change, and whatever epochs begin and end by it, as one.

        Returns:
            The index of the change, and the size of the log after it.

        Raises:
            UnavailableError: storage does not serve; nothing has changed.
        """
        state = self.view.state
        policies, services = state.governed(change, index=self._chain.size, data=b"")
        holds = holding(policies, services)
        ended = lapsed(holds, state.epochs)
        retired = {epoch.service: epoch.to(EpochState.RETIRED) for epoch in ended}
        begun = [
            make_epoch(beginning, self.keyring.generation)
            for beginning in beginnings(holds, {**state.epochs, **retired})
        ]
        index = self._chain.size
        self._commit(
            self.keyring,
            [body, *(entry for entry, _ in begun)],
            secrets=(*secrets, *(secret for _, secret in begun)),
            forget=tuple(epoch_name(epoch.service, epoch.number) for epoch in ended),
        )
        return index, self.view.size

    def record(self, records: Sequence[bytes]) -> None:
        """Commit a batch of the audit stream.

        Raises:
            UnavailableError: storage does not serve; the records are still the caller's.
        """
        start = self.view.state.audited
        body = ReleasesEntry(first=start, count=len(records), sha256=audit_digest(records))
        self._commit(self.keyring, [body], audit_start=start, audit=tuple(records))

    def restart_epochs(self) -> None:
        """Begin a new epoch for every service: a restart has destroyed the private keys of those before.

        Raises:
            UnavailableError: storage does not serve.
        """
        state = self.view.state
        begun = [
            make_epoch(beginning, self.keyring.generation)
            for beginning in restarts(state.holding(), state.epochs)
        ]
        if begun:
            lost = [epoch for epoch in state.epochs.values() if epoch.state is EpochState.ACTIVE]
            self._commit(
                self.keyring,
                [entry for entry, _ in begun],
                secrets=tuple(secret for _, secret in begun),
                forget=tuple(epoch_name(epoch.service, epoch.number) for epoch in lost),
            )

    def _commit(
        self,
        keyring: Keyring,
        plan: Sequence[Body | bytes],
        *,
        secrets: tuple[WrappedSecret, ...] = (),
        forget: tuple[SecretName, ...] = (),
        audit_start: int = 0,
        audit: tuple[bytes, ...] = (),
    ) -> None:
        """Append the bodies, or finished entries, of `plan`; store and apply them, all or none."""
        if self._is_halted:
            raise HaltedError("key service: the stored log was changed by another hand: restart it")
        state, mark, time = self.view.state, self._chain.mark(), self._clock.now()
        entries = []
        try:
            for item in plan:
                data = item if isinstance(item, bytes) else self._chain.build(item, time=time).data
                state = apply(state, Written(data=data, entry=self._chain.append(data)))
                entries.append(data)
            size, root = self._chain.size, self._chain.tree.root()
            checkpoint = sign_checkpoint(
                Checkpoint(origin=state.deployment.origin, size=size, root=root),
                keyring.deployment.checkpoint,
            )
            self.storage.append(
                Commit(
                    expected_size=self.view.size,
                    entries=tuple(entries),
                    head=Head(size=size, checkpoint=checkpoint, seal=keyring.seal(size, root)),
                    secrets=secrets,
                    forget=forget,
                    audit_start=audit_start,
                    audit=audit,
                )
            )
        except BaseException as error:
            self._chain.rollback(mark)
            self._is_halted = isinstance(error, HeadMovedError)
            raise
        self._clock.observe(time)
        self.view = View(state=state, size=size, root=root, checkpoint=checkpoint, tree=self._chain.tree)
