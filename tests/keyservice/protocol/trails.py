"""Lives of replicas as values: a life is the list of its inputs, and each input happens once for all.

Every replica's process is deterministic: its code is driven step by step, its random bytes, its clock and
its database come with each input. So a life is named by its inputs, and what the real code does at one input
is kept and never done again. A life that is to be continued in another way is lived again from its start.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from s3ml.keyservice.replaying import View
from s3ml.transparency.witness.decision import Latest
from s3ml.transparency.witness.service import Answer
from tests.clocks import NOW
from tests.keyservice.protocol.copying import copy_of
from tests.keyservice.protocol.memory_storage import Database
from tests.keyservice.protocol.node import ASK, Appended, Bench, Ended, Node, trouble_of

_LIVE = 1500
_RESTING = 4000
START = NOW - timedelta(seconds=1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What a replica finds around itself when an input happens."""

    database: Database
    now_s: float
    witness: Latest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A pending effect, as a driver sees it."""

    id: int
    kind: str
    task: int
    target: int
    is_forgotten: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What can be seen of a replica, and what its future depends on."""

    phase: str
    trouble: str
    is_ready: bool
    is_admitted: bool
    view: tuple[int, bytes]
    stored: tuple[int, bytes]
    chain: int
    keys: int
    generations: frozenset[str]
    fresh_until_s: float
    present_at_s: float
    rest: tuple[Any, ...]
    tasks: tuple[tuple[int, str], ...]
    waiting: tuple[Waiting, ...]

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells this look from others, without the numbers of tasks and effects."""
        tasks = dict(self.tasks)
        return (
            self.phase,
            self.trouble,
            self.is_admitted,
            self.view,
            self.stored,
            self.chain,
            self.keys,
            self.generations,
            self.fresh_until_s,
            self.present_at_s,
            self.rest,
            tuple(label for _, label in self.tasks),
            tuple(
                (one.kind, tasks.get(one.task), one.target, one.is_forgotten, one.detail)
                for one in self.waiting
            ),
        )


@dataclass(slots=True, kw_only=True, eq=False)
class Trail:
    """A life up to some input, and what that input did."""

    parent: "Trail | None"
    input: tuple[Any, ...]
    around: Around
    children: dict[Any, "Trail"] = field(default_factory=dict)
    look: Look
    database: Database
    witness: Latest | None
    events: tuple[Appended | Ended, ...]
    asked: tuple[tuple[int, Answer], ...]
    late: tuple[tuple[int, bytes], ...]


class Lives:
    """Lives replicas' lives.

    Args:
        bench: What replicas share.

    Attributes:
        lived: How many inputs the real code has taken.
        heads: Of every root that a replica has read up to: its leaves and what holds there.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.lived = 0
        self.heads: dict[bytes, tuple[tuple[bytes, ...], View]] = {}
        self._live: OrderedDict[int, tuple[Trail, Node]] = OrderedDict()
        self._resting: OrderedDict[int, tuple[Trail, Node]] = OrderedDict()
        self._starts: dict[Any, Trail] = {}

    def begin(self, index: int, life: int, around: Around) -> Trail:
        """Start a process."""
        key = (index, life, around)
        if key not in self._starts:
            node = self._process(key)
            self._starts[key] = self._after(None, key, around, node)
        return self._starts[key]

    def step(self, trail: Trail, said: tuple[Any, ...], around: Around) -> Trail:
        """Return the life `trail` continued by an input."""
        key = (said, around)
        found = trail.children.get(key)
        if found is None:
            node = self._take(trail)
            self._happen(node, said, around)
            found = trail.children[key] = self._after(trail, said, around, node)
        return found

    def close(self) -> None:
        """End every process."""
        for _, node in self._live.values():
            node.discard()
        self._live.clear()
        self.bench.loop.close()

    def _process(self, start: tuple[int, int, Around]) -> Node:
        index, life, around = start
        self._surround(around, None)
        return Node(self.bench, index, life, around.database)

    def _take(self, trail: Trail) -> Node:
        """Return a process at the end of `trail`; it is the caller's."""
        held = self._live.pop(id(trail), None)
        if held is not None:
            if not (held[1].tasks or held[1].pending):
                self._rest(trail, copy_of(held[1]))
            return held[1]
        inputs: list[Trail] = []
        first = trail
        while first.parent is not None and id(first) not in self._resting:
            inputs.append(first)
            first = first.parent
        if (resting := self._resting.get(id(first))) is not None:
            node = copy_of(resting[1])
        else:
            node = self._process(first.input)
        node.events.clear()
        for one in reversed(inputs):
            self._happen(node, one.input, one.around)
            node.events.clear()
        if self._look(node).key != trail.look.key:
            raise AssertionError(f"{trail.input}: a life that is lived again takes another way")
        return node

    def _rest(self, trail: Trail, node: Node) -> None:
        self._resting[id(trail)] = (trail, node)
        if len(self._resting) > _RESTING:
            self._resting.popitem(last=False)

    def _surround(self, around: Around, node: Node | None) -> None:
        bench = self.bench
        bench.clock.seconds = around.now_s
        bench.clock.time = START + timedelta(seconds=around.now_s)
        bench.panel.asked.clear()
        bench.panel.late.clear()
        if node is not None:
            node.cell.database = around.database

    def _happen(self, node: Node, said: tuple[Any, ...], around: Around) -> None:
        self.lived += 1
        self._surround(around, node)
        kind, *rest = said
        if kind == "start":
            label, work = rest
            node.start(label, lambda: work(node))
        elif kind == "do":
            id_, mode, target = rest
            if target is not None:
                self.bench.panel.stores[target].newest = around.witness
            node.do(id_, mode)
        elif kind == "answer":
            node.answer(*rest)
        else:
            node.serve(*rest)

    def _after(self, parent: Trail | None, said: tuple[Any, ...], around: Around, node: Node) -> Trail:
        panel = self.bench.panel
        is_ask = said[0] == "do" and said[3] is not None
        trail = Trail(
            parent=parent,
            input=said,
            around=around,
            look=self._look(node),
            database=node.cell.database,
            witness=panel.stores[said[3]].newest if is_ask else around.witness,
            events=tuple(node.events),
            asked=tuple(panel.asked),
            late=tuple(panel.late),
        )
        node.events.clear()
        self._live[id(trail)] = (trail, node)
        if len(self._live) > _LIVE:
            _, (_, oldest) = self._live.popitem(last=False)
            oldest.discard()
        return trail

    def _look(self, node: Node) -> Look:
        waiting = tuple(_waiting(one) for one in node.pending)
        tasks = tuple((number, label) for number, (label, _) in node.tasks.items())
        if node.service is None:
            return Look(
                phase="down", trouble="down", is_ready=False, is_admitted=False, view=(0, b""),
                stored=(0, b""), chain=0, keys=0, generations=frozenset(), fresh_until_s=0.0,
                present_at_s=0.0, rest=(), tasks=(), waiting=(),
            )  # fmt: skip
        replica, membership = node.service.replica, node.service.membership
        ledger, keyring = replica.ledger, replica._keyring
        for view in (ledger.view, ledger.stored):
            if view.root not in self.heads and view.size:
                leaves = tuple(view.tree.leaf(index) for index in range(view.size))
                self.heads[view.root] = (leaves, view)
        return Look(
            phase=str(replica.phase),
            trouble=trouble_of(node),
            is_ready=node.service.is_ready,
            is_admitted=replica._is_admitted,
            view=(ledger.view.size, ledger.view.root),
            stored=(ledger.stored.size, ledger.stored.root),
            chain=ledger._reader.chain.size,
            keys=0 if keyring is None else keyring.number,
            generations=frozenset() if keyring is None else keyring.generations.ids,
            fresh_until_s=replica._fresh_until_s,
            present_at_s=membership._present_at_s,
            rest=(
                ledger._is_current,
                replica._is_stored,
                ledger._lock.locked(),
                ledger._looking.locked(),
                replica._successor is not None,
                str(ledger._contradicted or ""),
                tuple(one.known_size for one in ledger._cosigner._witnesses),
                len(node.service.door._endpoint._source),
            ),
            tasks=tasks,
            waiting=waiting,
        )


def _waiting(one: Any) -> Waiting:
    detail = ""
    if one.kind == "append":
        detail = one.effect.args[0].head.checkpoint
    elif one.kind == "commit":
        detail = f"{one.effect.args[0].size}"
    elif one.kind == ASK:
        detail = one.effect.args[1].checkpoint
    elif one.kind == "call":
        detail = type(one.effect.args[1]).__name__
    return Waiting(
        id=one.id,
        kind=one.kind,
        task=one.task,
        target=one.target,
        is_forgotten=one.is_forgotten,
        detail=detail,
    )


def inputs_of(trail: Trail) -> Sequence[tuple[Any, ...]]:
    """Return the inputs of a life, for people."""
    found = []
    at: Trail | None = trail
    while at is not None:
        found.append(at.input)
        at = at.parent
    return found[::-1]
