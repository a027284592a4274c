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
from s3ml.keyservice.metrics import Metrics
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
from s3ml.primitives.errors import S3MLError
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
    """

    keyring: Keyring
    bodies: Sequence[Body | bytes]
    secrets: tuple[WrappedSecret, ...] = ()
    forget: tuple[SecretName, ...] = ()
    audit_start: int = 0
    audit: tuple[bytes, ...] = ()


Planner = Callable[[View], Plan | None]


class Ledger:
    """One replica's way to the log.

    Args:
        storage: Untrusted.
        clock: Held in check by what the log says.
        cosigner: Leads to the witnesses.
        metrics: Counts and measures commits.

    Attributes:
        storage: Where secrets lie.

    Raises:
        LogTamperedError: what is stored breaks the rules.
        UnavailableError: storage does not answer.
    """

    def __init__(
        self, storage: Storage, clock: RatchetClock, cosigner: Cosigner, *, metrics: Metrics | None = None
    ) -> None:
        self.storage = storage
        self._clock = clock
        self._cosigner = cosigner
        self._metrics = metrics or Metrics()
        self._reader = Reader(storage, clock)
        self._lock = asyncio.Lock()
        self._looking = asyncio.Lock()
        self._unreadable: HaltedError | LogTamperedError | None = None
        self._contradicted: HaltedError | None = None
        self._asked = self._answered = self._stored_size = 0
        self._failure: S3MLError | None = None
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
    def is_settled(self) -> bool:
        """Whether nothing was seen to be stored that is not committed, by whomever it was stored."""
        return self._reader.is_settled and self._stored_size <= self.view.size

    @property
    def trouble(self) -> HaltedError | LogTamperedError | None:
        """Why nothing is served from this log now, if so: what is stored, or what the witnesses know."""
        return self._unreadable or self._contradicted

    async def refresh(self) -> View:
        """Return what is committed now, or later than the call; those who wait share one reading.

        Nobody waits for a commit that is under way: until it is committed, nothing newer is.

        Raises:
            HaltedError: the store went back, or is another one.
            LogTamperedError: what is stored breaks the rules.
            UnavailableError: storage does not answer.
        """
        self._asked += 1
        mine = self._asked
        async with self._looking:
            if self._answered < mine:
                answered, self._failure = self._asked, None
                try:
                    heads = await asyncio.to_thread(self.storage.heads)
                    self._stored_size = heads[0].size if heads[0] is not None else 0
                    if self._reader.is_unchanged(*heads):
                        self._unreadable = None
                    else:
                        async with self._lock:
                            await self._read_on()
                except S3MLError as error:
                    self._failure = error
                self._answered = answered
            if self._failure is not None:
                raise self._failure
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

    async def commit(self, planner: Planner, *, must_settle: bool = True) -> View:
        """Write what `planner` decides about the newest committed head; decide anew where a race was lost.

        Args:
            planner: Runs in a thread; pure, but for fresh keys and stored secrets; returns nothing where
                nothing is to be written.
            must_settle: Whether what is stored has to be committed first; else the plan goes on from there.

        Raises:
            UncommittedError: it is stored, and too few witnesses have cosigned it yet.
            HaltedError: the store, or the witnesses, know another log.
            BusyError: other replicas win every race.
            NotServingError: the plan is made with keys that do not govern any more.
            UnavailableError: storage does not serve; nothing has changed.
            S3MLError: what `planner` raises.
        """
        async with self._lock:
            for _ in range(ATTEMPTS):
                began_s = self._clock.monotonic_s()
                if not self._is_current:
                    await self._read_on()
                if must_settle:
                    await self._settle()
                plan = await asyncio.to_thread(planner, self.stored)
                if plan is None:
                    return self.view
                try:
                    await self._append(plan)
                except HeadMovedError:
                    self._metrics.count("s3ml_keyservice_commits_total", outcome="lost-race")
                    continue
                except BaseException:
                    self._metrics.count("s3ml_keyservice_commits_total", outcome="not-stored")
                    raise
                await self._settle()
                self._metrics.count("s3ml_keyservice_commits_total", outcome="committed")
                self._metrics.observe("s3ml_keyservice_commit_seconds", self._clock.monotonic_s() - began_s)
                return self.view
            raise BusyError("key service: other replicas write all the time", retry_after_s=1.0)

    async def _read_on(self) -> None:
        self._is_current = False
        try:
            await _undisturbed(self._reader.read_on)
            if (lost := self._reader.unstored) is not None:
                await asyncio.to_thread(self.storage.commit, lost)
        except (HaltedError, LogTamperedError) as error:
            self._unreadable = error
            raise
        self._unreadable, self._is_current = None, True
        if self._reader.is_settled:
            self._contradicted = None

    async def _append(self, plan: Plan) -> None:
        """Build, sign and store the entries of `plan`; whatever goes wrong, nothing of them is kept."""
        reader, time = self._reader, self._clock.now()
        entries: list[bytes] = []
        state = reader.stored.state
        try:
            for body in plan.bodies:
                data = body if isinstance(body, bytes) else reader.chain.build(body, time=time).data
                state = apply(state, Written(data=data, entry=reader.chain.append(data)))
                entries.append(data)
            commit = self._sealed(plan, tuple(entries), state)
            self._is_current = False
            await asyncio.to_thread(self.storage.append, commit)
        except BaseException:
            reader.drop_uncommitted()
            raise
        self._is_current = True
        self._clock.observe(time)
        reader.store(state, commit.head.checkpoint)
        if commit.committed is not None:
            reader.commit(commit.committed.note)

    def _sealed(self, plan: Plan, entries: tuple[bytes, ...], state: State) -> Commit:
        """Sign the head after `entries`, with the keys that govern there and no others: all refuse another's.

        Raises:
            NotServingError: those of the plan were replaced meanwhile.
        """
        if not plan.keyring.is_of(state.governing):
            raise NotServingError(
                "key service: the deployment's keys were replaced: this replica takes up the new ones first",
                retry_after_s=1.0,
            )
        size, root = self._reader.chain.size, self._reader.chain.tree.root()
        origin = state.deployment.origin
        keys = plan.keyring.deployment.checkpoint_keys
        note = sign_checkpoint(Checkpoint(origin=origin, size=size, root=root), *keys)
        is_alone = not any(authority.quorum for authority in self._authorities(state))
        return Commit(
            expected_size=self.stored.size,
            entries=entries,
            head=Head(size=size, checkpoint=note, seal=plan.keyring.seal(size, root)),
            secrets=plan.secrets,
            forget=plan.forget,
            audit_start=plan.audit_start,
            audit=plan.audit,
            committed=Committed(size=size, note=note) if is_alone else None,
        )

    def _authorities(self, state: State) -> list[Authority]:
        """Return whose quorums commit a stored head: what governs at it, and what governed before it.

        Owners who named successors of the witnesses said that those before do not count any more.
        """
        before, newest = self.view.state.authority, state.governing
        if before is None or state.is_succeeded_since(before):
            return [newest]
        return [newest, before]

    async def _settle(self) -> None:
        reader = self._reader
        while not reader.is_settled:
            stored = reader.stored
            authorities = self._authorities(stored.state)
            try:
                note = await self._cosigner.cosign(stored, authorities)
            except HaltedError as error:
                if await self._is_finished(stored):
                    continue
                self._contradicted = error
                raise
            await asyncio.to_thread(self.storage.commit, Committed(size=stored.size, note=note))
            reader.commit(note)
            self._contradicted = None

    async def _is_finished(self, stored: View) -> bool:
        """Read on; tell whether another replica has finished this very head, and perhaps gone on since."""
        await self._read_on()
        return self.view.size >= stored.size and self.view.tree.root(stored.size) == stored.root


async def _undisturbed(work: Callable[[], object]) -> None:
    """Run `work` in a thread to its end, whoever is cancelled meanwhile: nobody else touches what it does."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        running.exception()
        raise cancelled
    await running
