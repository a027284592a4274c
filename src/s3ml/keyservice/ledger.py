"""The log of a deployment as one replica sees and extends it, together with every other replica.

A commit is appended by compare-and-swap on the stored head, cosigned by the witnesses, and only then seen by
readers. A race that is lost leaves nothing behind: what was to be written is decided and made anew on what
the winner wrote. Only a committed head is extended; any replica may finish one that another left uncommitted.

Readers take `Ledger.view`, a value that is replaced at the end of a commit; they may do so from any thread.

Source: docs/spec/log.md.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from s3ml.keyservice.authority import Authority
from s3ml.keyservice.cosigning import Cosigner
from s3ml.keyservice.errors import BusyError, HaltedError, NotServingError
from s3ml.keyservice.keys import Keyring
from s3ml.keyservice.log import Body, LogTamperedError, Written
from s3ml.keyservice.replaying import Reader, View
from s3ml.keyservice.state import State, apply
from s3ml.keyservice.storage import (
    Commit,
    Committed,
    Head,
    HeadMovedError,
    SecretName,
    Storage,
    WrappedSecret,
)
from s3ml.primitives.clock import RatchetClock
from s3ml.transparency.checkpoint import Checkpoint, sign_checkpoint

ATTEMPTS = 32


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Plan:
    """What is to be written as one.

    Args:
        keyring: Signs the head.
        bodies: Of the entries; finished entries as bytes.
        secrets: What is wrapped for storage.
        forget: Names of secrets to delete.
        audit_start: The index of the first of `audit`.
        audit: Audit records that an entry commits to.
        older: The keyring whose checkpoint key signs the head as well, where these entries replace the keys.
    """

    keyring: Keyring
    bodies: Sequence[Body | bytes]
    secrets: tuple[WrappedSecret, ...] = ()
    forget: tuple[SecretName, ...] = ()
    audit_start: int = 0
    audit: tuple[bytes, ...] = ()
    older: Keyring | None = None


Planner = Callable[[View], Plan | None]


class Ledger:
    """One replica's way to the log.

    Args:
        storage: Untrusted.
        clock: Held in check by what the log says.
        cosigner: Leads to the witnesses.

    Attributes:
        storage: Where secrets lie.

    Raises:
        LogTamperedError: what is stored breaks the rules.
        UnavailableError: storage does not answer.
    """

    def __init__(self, storage: Storage, clock: RatchetClock, cosigner: Cosigner) -> None:
        self.storage = storage
        self._clock = clock
        self._cosigner = cosigner
        self._reader = Reader(storage, clock)
        self._lock = asyncio.Lock()
        self._trouble: HaltedError | LogTamperedError | None = None
        self._asked = self._answered = 0
        self._reader.read_on()
        self._is_current = True

    @property
    def view(self) -> View:
        """The newest committed head that was seen."""
        return self._reader.view

    @property
    def stored(self) -> View:
        """The newest stored head that was seen, committed or not."""
        return self._reader.stored

    @property
    def trouble(self) -> HaltedError | LogTamperedError | None:
        """Why nothing is served from this log now, if so."""
        return self._trouble

    async def refresh(self) -> View:
        """Return what is committed now, or later than the call; those who wait share one reading.

        Raises:
            HaltedError: the store went back, or is another one.
            LogTamperedError: what is stored breaks the rules.
            UnavailableError: storage does not answer.
        """
        self._asked += 1
        mine = self._asked
        async with self._lock:
            if self._answered < mine:
                answered = self._asked
                await self._read_on()
                self._answered = answered
            return self.view

    async def settle(self) -> View:
        """Finish a head that is stored and not committed, by whomever it was stored.

        Raises:
            UncommittedError: too few witnesses cosign it.
            HaltedError: the witnesses know another log.
            UnavailableError: storage does not answer.
        """
        async with self._lock:
            await self._read_on()
            await self._settle()
            return self.view

    async def commit(self, planner: Planner) -> View:
        """Write what `planner` decides about the newest committed head; decide anew where a race was lost.

        Args:
            planner: Runs in a thread; pure, but for fresh keys and stored secrets; returns nothing where
                nothing is to be written.

        Raises:
            UncommittedError: it is stored, and too few witnesses have cosigned it yet.
            HaltedError: the store, or the witnesses, know another log.
            BusyError: other replicas win every race.
            UnavailableError: storage does not serve; nothing has changed.
            S3MLError: what `planner` raises.
        """
        async with self._lock:
            for _ in range(ATTEMPTS):
                if not self._is_current:
                    await self._read_on()
                await self._settle()
                plan = await asyncio.to_thread(planner, self.view)
                if plan is None:
                    return self.view
                try:
                    await self._append(plan)
                except HeadMovedError:
                    continue
                await self._settle()
                return self.view
            raise BusyError("key service: other replicas write all the time", retry_after_s=1.0)

    async def _read_on(self) -> None:
        self._is_current = False
        try:
            await asyncio.to_thread(self._reader.read_on)
            if (lost := self._reader.unstored) is not None:
                await asyncio.to_thread(self.storage.commit, lost)
        except (HaltedError, LogTamperedError) as error:
            self._trouble = error
            raise
        self._trouble, self._is_current = None, True

    async def _append(self, plan: Plan) -> None:
        """Build, sign and store the entries of `plan`; whatever goes wrong, nothing of them is kept."""
        reader, time = self._reader, self._clock.now()
        entries: list[bytes] = []
        state = reader.view.state
        try:
            for body in plan.bodies:
                data = body if isinstance(body, bytes) else reader.chain.build(body, time=time).data
                state = apply(state, Written(data=data, entry=reader.chain.append(data)))
                entries.append(data)
            _expect_governing(plan.keyring, state)
            commit = self._sealed(plan, tuple(entries), state)
            self._is_current = False
            await asyncio.to_thread(self.storage.append, commit)
        except BaseException:
            reader.drop_uncommitted()
            raise
        self._is_current = True
        self._clock.observe(time)
        reader.store(state, commit.head.checkpoint)

    def _sealed(self, plan: Plan, entries: tuple[bytes, ...], state: State) -> Commit:
        size, root = self._reader.chain.size, self._reader.chain.tree.root()
        origin = state.deployment.origin
        keys = [one.deployment.checkpoint for one in (plan.keyring, plan.older) if one is not None]
        note = sign_checkpoint(Checkpoint(origin=origin, size=size, root=root), *keys)
        is_alone = not any(authority.quorum for authority in self._authorities(state))
        return Commit(
            expected_size=self.view.size,
            entries=entries,
            head=Head(size=size, checkpoint=note, seal=plan.keyring.seal(size, root)),
            secrets=plan.secrets,
            forget=plan.forget,
            audit_start=plan.audit_start,
            audit=plan.audit,
            committed=Committed(size=size, note=note) if is_alone else None,
        )

    def _authorities(self, state: State) -> list[Authority]:
        """Return what governs at a stored head, and what governed at the committed one before it."""
        before = self.view.state.authority
        return [state.governing] if before is None else [state.governing, before]

    async def _settle(self) -> None:
        """Have the stored head cosigned; where another replica was faster, go on from what it wrote."""
        reader = self._reader
        while not reader.is_settled:
            size, authorities = reader.stored.size, self._authorities(reader.stored.state)
            try:
                note = await self._cosigner.cosign(reader.stored, authorities)
            except HaltedError as error:
                await self._read_on()
                if reader.view.size >= size:
                    continue
                self._trouble = error
                raise
            committed = Committed(size=reader.stored.size, note=note)
            if any(authority.quorum for authority in authorities):
                await asyncio.to_thread(self.storage.commit, committed)
            reader.commit(note)


def _expect_governing(keyring: Keyring, state: State) -> None:
    """Check that a head would be signed by keys that govern at it: no reader takes another one.

    Raises:
        NotServingError: the deployment's keys were replaced since `keyring` was taken.
    """
    if not keyring.is_of(state.governing):
        raise NotServingError(
            "key service: the deployment's keys were replaced meanwhile: this replica needs the new ones",
            retry_after_s=1.0,
        )
