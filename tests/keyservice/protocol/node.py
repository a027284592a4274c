"""One replica of the model: the real key service in one process's life, driven input by input.

Real are the ledger, the reader, the cosigner, the replica, its membership, governor, door and releaser, with
their cryptography. In the place of others: the store (`MemoryStorage`), the way to witnesses (`Line`, to the
real core of a witness), the way to peers (`call`, in the place of HTTP and its threads), the clock, and the
random bytes. A model server's evidence is not made or verified; replicas' evidence is.
"""

import asyncio
import contextlib
import functools
import hashlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from s3ml.attestation import Attester, Evidence
from s3ml.attestation.generate import SealingAbsentError
from s3ml.keyservice.authority import Authority
from s3ml.keyservice.cosigning import Cosigner
from s3ml.keyservice.documents.joining import JoinHello, JoinOffer, JoinReply, JoinRequest
from s3ml.keyservice.errors import HaltedError
from s3ml.keyservice.events import EventLog
from s3ml.keyservice.joining import JoinSession
from s3ml.keyservice.log import LogTamperedError
from s3ml.keyservice.membership import Membership
from s3ml.keyservice.peering import reading_of, take
from s3ml.keyservice.peers import NoSourceError
from s3ml.keyservice.replica import Replica
from s3ml.keyservice.service import KeyService
from s3ml.keyservice.storage import Commit, HeadMovedError, OutcomeUnknownError, StorageUnavailableError
from s3ml.primitives.errors import S3MLError, UnavailableError
from s3ml.primitives.secret import SecretBytes
from tests.clocks import FakeClock
from tests.keyservice.keyservice_world import KEY_SERVICE_CODE, InProcessAttester
from tests.keyservice.protocol.memory_storage import Cell, Database, MemoryStorage
from tests.keyservice.protocol.stepping import Dice, Effect, SteppedLoop, Table
from tests.keyservice.protocol.witnesses import Panel

APPEND, COMMIT, ASK, CALL = "append", "commit", "ask", "call"
_POINTS = {"MemoryStorage.append": APPEND, "MemoryStorage.commit": COMMIT, "_ask": ASK, "call": CALL}


class QuoteOnce(InProcessAttester):
    """Makes the same quote of the same bytes every time, so that a repetition repeats."""

    made: dict[tuple[bytes, bytes], Evidence] = {}  # noqa: RUF012 - shared on purpose

    def __init__(self, measurement: bytes, *, seals: bool) -> None:
        super().__init__(measurement)
        self._seals = seals

    def quote(self, report_data: bytes) -> Evidence:
        key = (self._measurement, report_data)
        if key not in self.made:
            self.made[key] = super().quote(report_data)
        return self.made[key]

    def sealing_key(self) -> SecretBytes:
        if not self._seals:
            raise SealingAbsentError("no sealing")
        return super().sealing_key()


@dataclass(slots=True)
class Bench:
    """What all replicas of one exploration share while one of them is driven."""

    panel: Panel
    clock: FakeClock
    loop: SteppedLoop = field(default_factory=SteppedLoop)
    table: Table = field(default_factory=Table)
    seals: bool = True
    replicas: int = 2
    keeps_forgotten: bool = False
    quorum: int = 2
    authority: Authority | None = None
    ids: dict[tuple[int, int], str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """A compare-and-swap, and whether it won."""

    commit: Commit
    is_stored: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A task that is over, with what it returned or raised."""

    task: int
    label: str
    value: Any


@dataclass(slots=True, kw_only=True)
class Pending:
    """An effect at which others may act before it happens."""

    id: int
    kind: str
    task: int
    target: int
    effect: Effect

    @property
    def is_forgotten(self) -> bool:
        return self.effect.future.done()


class Node:
    """A replica's process.

    Args:
        bench: Shared.
        index: Which replica.
        life: 0, 1, … at each start.
        database: What it finds when it starts.
    """

    def __init__(self, bench: Bench, index: int, life: int, database: Database) -> None:
        self.bench, self.index, self.life = bench, index, life
        self.cell = Cell(database)
        self.storage = MemoryStorage(self.cell)
        self.dice = Dice(f"replica {index} life {life}".encode())
        self.pending: list[Pending] = []
        self.tasks: dict[int, tuple[str, asyncio.Task[Any]]] = {}
        self.events: list[Appended | Ended] = []
        self.trouble: S3MLError | None = None
        self.service: KeyService | None = None
        self._effects = self._started = 0
        self._now: Effect | None = None
        self._queue: list[Effect] = []
        self._own: dict[int, int] = {}
        self._enter("start")
        attester = QuoteOnce(KEY_SERVICE_CODE, seals=bench.seals)
        urls = [str(number) for number in range(bench.panel.count)]
        try:
            self.service = service = KeyService(
                self.storage,
                attester,
                bench.clock,
                EventLog(_unheard, bench.clock),
                cosigner=Cosigner(urls, timeout_s=5.0),
                batch_window_s=0.0,
            )
        except S3MLError as error:
            self.trouble = error
            return
        bench.ids[index, life] = service.replica.id
        others = Others(self, attester, [one for one in range(bench.replicas) if one != index])
        service.membership = Membership(
            service.replica, attester, others, service._clock, EventLog(_unheard, bench.clock)
        )

    @property
    def up(self) -> KeyService:
        assert self.service is not None
        return self.service

    def start(self, label: str, work: Callable[[], Coroutine[Any, Any, Any]]) -> int:
        """Begin a task; run it up to where others may act."""
        self._enter(label)
        self._started += 1
        task = self._started
        self.tasks[task] = (label, self.bench.loop.create_task(work()))
        self._run()
        return task

    def do(self, id_: int, mode: str = "ok") -> None:
        """Let the pending effect `id_` happen: `ok`, `failed` (nothing happens) or `unknown` (no answer)."""
        found = next(one for one in self.pending if one.id == id_)
        self.pending.remove(found)
        self._enter(self.tasks[found.task][0] if found.task in self.tasks else "forgotten")
        effect = found.effect
        if found.kind == APPEND:
            self._append(effect, mode)
        elif found.kind == COMMIT and mode != "ok":
            if mode == "unknown":
                effect.run()
            effect.fail(StorageUnavailableError("storage: no answer"))
        else:
            self.bench.panel.link = "ok" if found.kind != ASK else mode
            effect.happen()
            self.bench.panel.link = "ok"
        self._run()

    def answer(self, id_: int, reply: Any) -> None:
        """Give the answer of a peer to the pending call `id_`."""
        found = next(one for one in self.pending if one.id == id_)
        self.pending.remove(found)
        self._enter(self.tasks[found.task][0])
        if isinstance(reply, S3MLError):
            found.effect.fail(UnavailableError("peer: refused"))
        else:
            found.effect.future.set_result(reply)
        self._run()

    def serve(self, question: JoinHello | JoinRequest) -> int:
        """Begin to answer a peer."""
        door = self.up.door
        if isinstance(question, JoinHello):
            return self.start("offer", functools.partial(door.offer, question))
        return self.start("admit", functools.partial(door.join, question))

    async def call(self, peer: int, question: JoinHello | JoinRequest) -> JoinOffer | JoinReply:
        """Ask another replica; the driver carries the question and the answer."""
        future: asyncio.Future[JoinOffer | JoinReply] = self.bench.loop.create_future()
        self._submit(Effect(name="call", run=_unheard_call, args=(peer, question), future=future))
        return await future

    def discard(self) -> None:
        """End the process."""
        self.bench.loop.submit = _ignore
        for _, task in self.tasks.values():
            task.cancel()
        for one in self.pending:
            one.effect.future.cancel()
        self.bench.loop.settle()
        for _, task in self.tasks.values():
            if task.done() and not task.cancelled():
                task.exception()

    def _append(self, effect: Effect, mode: str) -> None:
        (commit,) = effect.args
        if mode == "failed":
            effect.fail(StorageUnavailableError("storage: no answer"))
            return
        before = self.cell.database
        if mode == "unknown":
            with contextlib.suppress(HeadMovedError):
                effect.run()
            effect.fail(OutcomeUnknownError("storage: no answer to an append"))
        else:
            effect.happen()
        self.events.append(Appended(commit=commit, is_stored=self.cell.database is not before))

    def _enter(self, topic: str) -> None:
        self.dice.topic = topic
        self.bench.table.dice = self.dice
        self.bench.loop.submit = self._submit

    def _run(self) -> None:
        """Run until everything waits for what others may see."""
        while True:
            self.bench.loop.settle()
            self._reap()
            if not self._queue:
                break
            self._queue.pop(0).happen()
        keeps = self.bench.keeps_forgotten
        self.pending = [one for one in self.pending if not one.is_forgotten or (keeps and one.kind == ASK)]

    def _submit(self, effect: Effect) -> None:
        kind = _POINTS.get(effect.name)
        if kind is None:
            self._queue.append(effect)
            return
        self._effects += 1
        task = self._task_of()
        target = 0
        if kind == ASK:
            target = int(effect.args[0].client.url)
        elif kind == CALL:
            target = effect.args[0]
        self.pending.append(Pending(id=self._effects, kind=kind, task=task, target=target, effect=effect))

    def _task_of(self) -> int:
        current = asyncio.current_task(self.bench.loop)
        return next((number for number, (_, task) in self.tasks.items() if task is current), self._started)

    def _reap(self) -> None:
        for number, (label, task) in list(self.tasks.items()):
            if task.done():
                del self.tasks[number]
                error = task.exception()
                if error is not None and not isinstance(error, S3MLError):
                    raise error
                self.events.append(
                    Ended(task=number, label=label, value=task.result() if error is None else error)
                )


class Others:
    """The other replicas, as a `Peers`: what `HttpPeers` does, without HTTP and threads."""

    def __init__(self, node: Node, attester: Attester, peers: list[int]) -> None:
        self._node = node
        self._attester = attester
        self._peers = peers

    @property
    def is_empty(self) -> bool:
        return not self._peers

    async def join(self, replica: Replica) -> None:
        committed = replica.ledger.view.size
        for peer in self._peers:
            try:
                await self._join(replica, peer, committed)
            except S3MLError:
                continue
            return
        raise NoSourceError("join: none serves")

    async def _join(self, replica: Replica, peer: int, committed: int) -> None:
        clock, node = self._node.up._clock, self._node
        deployment = replica.ledger.view.authority.deployment
        session = JoinSession(deployment, self._attester.quote, now_s=clock.monotonic_s())
        offer = await node.call(peer, session.hello())
        assert isinstance(offer, JoinOffer)
        if replica.ledger.view.size < offer.log_size:
            await replica.ledger.refresh()
        request = session.answer(offer, reading_of(replica, committed), now_s=clock.monotonic_s())
        reply = await node.call(peer, request)
        assert isinstance(reply, JoinReply)
        opened = session.open(reply, now=clock.now(), now_s=clock.monotonic_s(), cache=node.up._verdicts)
        replica.admit(take(opened.secrets, replica))


def trouble_of(node: Node) -> str:
    """Return what a replica halted for, if it did."""
    if node.service is None:
        return "down"
    trouble = node.service.replica.ledger.trouble
    if isinstance(trouble, HaltedError):
        return "halted"
    return "tampered" if isinstance(trouble, LogTamperedError) else ""


def digest_of(value: object) -> str:
    """Return a short name of a value."""
    return hashlib.sha256(repr(value).encode()).hexdigest()[:8]


def _unheard(line: str) -> None:
    """Hear no event."""


def _unheard_call() -> None:
    raise AssertionError("a call is answered, not run")


def _ignore(effect: Effect) -> None:
    effect.future.cancel()
