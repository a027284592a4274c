"""The model: what a whole deployment is at one moment, and everything that may happen next.

Replicas are real lives (`trails`); databases, witnesses and what is on its way are values. The host gives
each replica a database, copies one over another, puts an earlier one back, ends processes and starts them,
and turns the clock. The network loses, delays and repeats. Each of these has a budget.
"""

from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from s3ml.keyservice.documents import GenesisEntry, KeysEntry
from s3ml.keyservice.log import deployment_id, origin, parse_entry
from s3ml.primitives.errors import S3MLError
from s3ml.primitives.signing import VerifyKey
from s3ml.transparency.witness.decision import Latest, Verdict
from tests.keyservice.protocol.memory_storage import Database
from tests.keyservice.protocol.node import APPEND, ASK, CALL, COMMIT, Ended, Node
from tests.keyservice.protocol.trails import Around, Lives, Trail, Waiting

Work = Callable[[Node], Coroutine[Any, Any, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much may still go wrong, or be asked for."""

    crashes: int = 0
    faults: int = 0
    host: int = 0
    jumps: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A question of one replica on its way to another, or its answer on its way back.

    Args:
        joiner: Who asks.
        effect: What waits for the answer, in the joiner.
        source: Who answers.
        task: What answers, in the source; 0 before the question has arrived.
        reply: The answer, once there is one.
    """

    joiner: int
    effect: int
    source: int
    task: int = 0
    reply: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ghost:
    """What has happened, as nobody in the model sees it.

    Args:
        cosigned: Which witness has cosigned which head.
        committed: Heads that a quorum has cosigned, with the time of that.
        answered: Changes that were answered: the entry's index and leaf hash.
        lost: Ciphertexts of lost compare-and-swaps.
        admitted: Lives of replicas that serve by right.
        ever: Generations that somebody has held.
        gone: Generations that nobody holds any more, destroyed on purpose by the last who did.
    """

    cosigned: frozenset[tuple[int, int, bytes]] = frozenset()
    committed: frozenset[tuple[int, bytes, float]] = frozenset()
    answered: frozenset[tuple[int, bytes]] = frozenset()
    lost: frozenset[bytes] = frozenset()
    admitted: frozenset[tuple[int, int]] = frozenset()
    ever: frozenset[str] = frozenset()
    gone: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A deployment at one moment."""

    slots: tuple[Database, ...]
    points: tuple[int, ...]
    trails: tuple[Trail, ...]
    lives: tuple[int, ...]
    witnesses: tuple[Latest | None, ...]
    now_s: float = 1000.0
    calls: tuple[Call, ...] = ()
    late: tuple[tuple[int, bytes], ...] = ()
    past: tuple[Database, ...] = ()
    said: tuple[tuple[int, str, float], ...] = ()
    budget: Budget = field(default_factory=Budget)
    ghost: Ghost = field(default_factory=Ghost)

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells this world from others."""
        calls = tuple((c.joiner, c.source, bool(c.task), c.reply is not None) for c in self.calls)
        return (
            self.slots,
            self.points,
            tuple(trail.look.key for trail in self.trails),
            self.witnesses,
            self.now_s,
            calls,
            self.late,
            self.past if self.budget.host else (),
            self.said,
            self.budget,
            self.ghost,
        )

    def around(self, index: int, witness: int | None = None) -> Around:
        return Around(
            database=self.slots[self.points[index]],
            now_s=self.now_s,
            witness=None if witness is None else self.witnesses[witness],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What an exploration begins with and what may happen in it.

    Args:
        name: For people.
        work: What a replica may be asked to do, by name; each replica does one at a time.
        once: Those that are asked for once, of one replica.
        jumps: How far the clock may go ahead in one step, in seconds.
        size: No work begins in a log that has grown by that many entries.
        serves: Which replicas serve at the beginning; the others have just started.
    """

    name: str
    replicas: int = 2
    witnesses: int = 3
    quorum: int = 2
    slots: int = 1
    work: tuple[str, ...] = ("step",)
    once: tuple[str, ...] = ()
    jumps: tuple[float, ...] = (101.0, 301.0)
    size: int = 6
    serves: tuple[bool, ...] = (True, True)
    budget: Budget = field(default_factory=Budget)
    seals: bool = True
    keeps_forgotten: bool = False
    is_honest: bool = False
    recovers: bool = True
    is_recoverable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Something that may happen: what it is called, and what the world is then."""

    label: str
    go: Callable[[], World]


def put(values: tuple[Any, ...], index: int, value: Any) -> tuple[Any, ...]:
    return (*values[:index], value, *values[index + 1 :])


class Model:
    """All moves of a scenario.

    Args:
        scenario: The sizes.
        lives: Where replicas live.
        works: The code of each work.
        first_size: How long the log is at the beginning.
    """

    def __init__(self, scenario: Scenario, lives: Lives, works: Mapping[str, Work]) -> None:
        self.scenario = scenario
        self.lives = lives
        self.works = works
        self.limit = 1 << 30

    def moves(self, world: World) -> Iterator[Move]:
        """Return everything that may happen in `world`."""
        for index in range(len(world.trails)):
            yield from self._of_replica(world, index)
        yield from self._of_calls(world)
        yield from self._of_host(world)
        for position, (witness, _) in enumerate(world.late):
            yield Move(
                label=f"network: a late request reaches w{witness}",
                go=lambda position=position: self.arrive_late(world, position),  # type: ignore[misc]
            )

    # --- what replicas do

    def _of_replica(self, world: World, index: int) -> Iterator[Move]:
        look = world.trails[index].look
        own = [label for _, label in look.tasks if label in self.works]
        size = max(slot.size for slot in world.slots)
        if not own and size < self.limit and look.phase != "down":
            for label in self.scenario.work:
                yield Move(label=f"r{index}: {label}", go=_bind(self.start, world, index, label))
            for label in self.scenario.once:
                if all(done != label for _, done, _ in world.said):
                    yield Move(label=f"r{index}: {label}", go=_bind(self.start, world, index, label))
        asked: set[int] = set()
        for one in look.waiting:
            if one.kind == CALL or (one.kind == ASK and one.task in asked and not one.is_forgotten):
                continue
            if one.kind == ASK and not one.is_forgotten:
                asked.add(one.task)
            yield from self._of_effect(world, index, one)
        if world.budget.crashes:
            yield Move(label=f"r{index}: is killed and starts again", go=_bind(self.crash, world, index))

    def _of_effect(self, world: World, index: int, one: Waiting) -> Iterator[Move]:
        modes: tuple[str, ...] = ("ok", "failed", "unknown")
        if one.kind == ASK:
            modes = ("ok", "lost", "unanswered", "late")
        if one.is_forgotten:
            modes = ("ok",)
        for mode in modes:
            if mode == "ok" or world.budget.faults:
                yield Move(
                    label=f"r{index}: {_told(one)}{'' if mode == 'ok' else f' ({mode})'}",
                    go=_bind(self.do, world, index, one, mode),
                )

    def start(self, world: World, index: int, label: str) -> World:
        """Have a replica begin some work."""
        if label in self.scenario.once:
            world = replace(world, said=(*world.said, (index, label, 0.0)))
        return self.input(world, index, ("start", label, self.works[label]))

    def do(self, world: World, index: int, one: Waiting, mode: str) -> World:
        """Let a pending effect of a replica happen."""
        if mode != "ok":
            world = replace(world, budget=replace(world.budget, faults=world.budget.faults - 1))
        witness = one.target if one.kind == ASK else None
        return self.input(world, index, ("do", one.id, mode, witness), witness)

    def input(self, world: World, index: int, said: tuple[Any, ...], witness: int | None = None) -> World:
        """Give a replica an input, and the world what comes of it."""
        before = world.trails[index]
        after = self.lives.step(before, said, world.around(index, witness))
        slot = world.points[index]
        old = world.slots[slot]
        if after.database is not old and after.database != old:
            past = world.past if old in world.past else (*world.past, old)
            world = replace(world, slots=put(world.slots, slot, after.database), past=past)
            self.publish(after.database)
        if witness is not None:
            world = replace(world, witnesses=put(world.witnesses, witness, after.witness))
        if after.late:
            world = replace(world, late=world.late + after.late)
        world = replace(world, trails=put(world.trails, index, after))
        return self._answers(world, index, after)

    def publish(self, database: Database) -> None:
        """Tell the witnesses' operators the keys that the log announces."""
        logs = self.lives.bench.panel.logs.logs
        for data in database.entries[-4:]:
            entry = parse_entry(data)
            if isinstance(entry.body, GenesisEntry | KeysEntry):
                key = VerifyKey.parse(entry.body.keys.checkpoint)
                name = origin(entry.deployment or deployment_id(data))
                if key not in logs.get(name, ()):
                    logs[name] = (*logs.get(name, ()), key)

    def crash(self, world: World, index: int) -> World:
        """End a replica's process, and start it anew from what its database holds."""
        life = world.lives[index] + 1
        calls = tuple(
            replace(one, reply=S3MLError("gone")) if one.source == index and one.reply is None else one
            for one in world.calls
            if one.joiner != index
        )
        trail = self.lives.begin(index, life, world.around(index))
        return replace(
            world,
            trails=put(world.trails, index, trail),
            lives=put(world.lives, index, life),
            calls=calls,
            budget=replace(world.budget, crashes=world.budget.crashes - 1),
        )

    # --- what is said between replicas

    def _answers(self, world: World, index: int, after: Trail) -> World:
        """Take note of answers that a replica gave, and of questions that it asks."""
        calls = list(world.calls)
        for event in after.events:
            if isinstance(event, Ended) and event.label in {"offer", "admit"}:
                calls = [
                    replace(one, reply=event.value) if (one.source, one.task) == (index, event.task) else one
                    for one in calls
                ]
        known = {(one.joiner, one.effect) for one in calls}
        for one in after.look.waiting:
            if one.kind == CALL and (index, one.id) not in known:
                calls.append(Call(joiner=index, effect=one.id, source=one.target))
        waiting = {one.id for one in after.look.waiting}
        calls = [one for one in calls if one.joiner != index or one.effect in waiting]
        return replace(world, calls=tuple(calls))

    def _of_calls(self, world: World) -> Iterator[Move]:
        for call in world.calls:
            who = f"r{call.joiner}'s question to r{call.source}"
            if call.reply is not None:
                yield Move(label=f"network: the answer to {who} arrives", go=_bind(self.answer, world, call))
            elif not call.task and world.trails[call.source].look.phase != "down":
                yield Move(label=f"network: {who} arrives", go=_bind(self.ask, world, call))
            elif not call.task:
                yield Move(label=f"network: {who} finds nobody", go=_bind(self.lose, world, call))
            if call.reply is None and world.budget.faults:
                budget = replace(world.budget, faults=world.budget.faults - 1)
                yield Move(
                    label=f"network: {who} is lost",
                    go=_bind(self.lose, replace(world, budget=budget), call),
                )

    def ask(self, world: World, call: Call) -> World:
        """Let a question arrive."""
        joiner = world.trails[call.joiner]
        question = self.question(joiner, call.effect)
        before = world.trails[call.source].look.tasks
        task = max((number for number, _ in before), default=0)
        world = self._with_call(world, call, replace(call, task=-1))
        placed = replace(call, task=-1)
        after = self.lives.step(world.trails[call.source], ("serve", question), world.around(call.source))
        started = [n for n, label in after.look.tasks if label in {"offer", "admit"} and n > task]
        ended = [e.task for e in after.events if isinstance(e, Ended) and e.label in {"offer", "admit"}]
        number = (started or ended)[-1]
        world = self._with_call(world, placed, replace(call, task=number))
        return self.input(world, call.source, ("serve", question))

    def question(self, joiner: Trail, effect: int) -> Any:
        """Return what a replica asks a peer."""
        node = self.lives._take(joiner)
        found = next(one for one in node.pending if one.id == effect).effect.args[1]
        self.lives._live[id(joiner)] = (joiner, node)
        return found

    def answer(self, world: World, call: Call) -> World:
        """Let an answer arrive."""
        world = replace(world, calls=tuple(one for one in world.calls if one != call))
        return self.input(world, call.joiner, ("answer", call.effect, call.reply))

    def lose(self, world: World, call: Call) -> World:
        """Let the joiner wait in vain."""
        return self.answer(self._with_call(world, call, lost := replace(call, reply=LOST)), lost)

    def _with_call(self, world: World, old: Call, new: Call) -> World:
        return replace(world, calls=tuple(new if one == old else one for one in world.calls))

    # --- what the host does

    def _of_host(self, world: World) -> Iterator[Move]:
        if world.budget.jumps:
            for seconds in self.scenario.jumps:
                yield Move(label=f"clock: {seconds:.0f} s pass", go=_bind(self.jump, world, seconds))
        if world.budget.host:
            yield from self._of_databases(world)

    def _of_databases(self, world: World) -> Iterator[Move]:
        spent = replace(world, budget=replace(world.budget, host=world.budget.host - 1))
        for index, point in enumerate(world.points):
            for slot in range(len(world.slots)):
                if slot != point:
                    yield Move(
                        label=f"host: gives r{index} database {slot}",
                        go=_bind(replace, spent, points=put(spent.points, index, slot)),
                    )
        for slot, database in enumerate(world.slots):
            for other, source in enumerate(world.slots):
                if source != database:
                    yield Move(
                        label=f"host: copies database {other} over database {slot}",
                        go=_bind(self.place, spent, slot, source),
                    )
            for number, earlier in enumerate(world.past):
                if earlier not in world.slots:
                    yield Move(
                        label=f"host: puts back database {slot} as of snapshot {number} "
                        f"({earlier.size} entries)",
                        go=_bind(self.place, spent, slot, earlier),
                    )

    def place(self, world: World, slot: int, database: Database) -> World:
        """Put another database in the place of one."""
        old = world.slots[slot]
        past = world.past if old in world.past else (*world.past, old)
        return replace(world, slots=put(world.slots, slot, database), past=past)

    def jump(self, world: World, seconds: float) -> World:
        """Turn the clock."""
        budget = replace(world.budget, jumps=world.budget.jumps - 1)
        return replace(world, now_s=world.now_s + seconds, budget=budget)

    def arrive_late(self, world: World, position: int) -> World:
        """Let a request that its sender gave up reach its witness."""
        witness, body = world.late[position]
        panel = self.lives.bench.panel
        panel.stores[witness].newest = world.witnesses[witness]
        panel.asked.clear()
        self.lives.bench.clock.seconds = world.now_s
        answer = panel.receive(witness, body)
        newest, ghost = panel.stores[witness].newest, world.ghost
        if answer.outcome.verdict is COSIGN and newest is not None:
            cosigned = ghost.cosigned | {(witness, newest.size, newest.root)}
            ghost = replace(ghost, cosigned=cosigned)
        return replace(
            world,
            ghost=ghost,
            witnesses=put(world.witnesses, witness, panel.stores[witness].newest),
            late=(*world.late[:position], *world.late[position + 1 :]),
        )


LOST = S3MLError("lost")
COSIGN = Verdict.COSIGN


def _told(one: Waiting) -> str:
    if one.kind == APPEND:
        return f"append of a head of {one.detail.split(chr(10))[1]} entries"
    if one.kind == COMMIT:
        return f"storing the committed head of {one.detail} entries"
    size = one.detail.split("\n")[1]
    return f"w{one.target} is asked to cosign {size} entries" + (", forgotten" if one.is_forgotten else "")


def _bind(function: Callable[..., World], *args: Any, **named: Any) -> Callable[[], World]:
    return lambda: function(*args, **named)
