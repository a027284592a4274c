"""What must hold in every world, checked on what real replicas did; and that a deployment always recovers."""

from dataclasses import dataclass, replace

from s3ml.keyservice.documents import RestartEntry
from s3ml.keyservice.documents.joining import JoinReply
from s3ml.keyservice.epochs import NO_EPOCHS, EpochState
from s3ml.keyservice.governing import Placed
from s3ml.keyservice.log import parse_entry
from s3ml.keyservice.replaying import View
from s3ml.keyservice.upkeep import REPLICA_LEASE_S, needed_generations
from s3ml.transparency.checkpoint import parse_checkpoint
from s3ml.transparency.merkle import Tree, leaf_hash
from s3ml.transparency.note import Note
from tests.keyservice.protocol.memory_storage import Database
from tests.keyservice.protocol.model import COSIGN, Ghost, Model, World
from tests.keyservice.protocol.node import CALL, Appended
from tests.keyservice.protocol.probes import Told
from tests.keyservice.protocol.trails import Look, Trail

ROUNDS = 8
STEPS = 400
_RANK = {EpochState.PENDING: 0, EpochState.ACTIVE: 1, EpochState.DRAINING: 2, EpochState.RETIRED: 3}


class BrokenError(AssertionError):
    """An invariant does not hold.

    Args:
        rule: Its letter.
        told: What is wrong.
    """

    def __init__(self, rule: str, told: str) -> None:
        super().__init__(f"({rule}) {told}")
        self.rule = rule


@dataclass(slots=True, kw_only=True)
class Rules:
    """The invariants of one exploration.

    Args:
        model: Whose worlds.
        quorum: Of the witnesses.
    """

    model: Model
    quorum: int
    stuck: int = 0

    def after(self, before: World, world: World) -> World:
        """Return `world` with what happened noted, when that was right.

        Raises:
            BrokenError: it was not.
        """
        ghost = world.ghost
        for index, (old, new) in enumerate(zip(before.trails, world.trails, strict=True)):
            if new is not old and world.lives[index] == before.lives[index]:
                ghost = self._noted(ghost, world, index, old, new)
        world = replace(world, ghost=self._committed(before, world, ghost))
        for index, trail in enumerate(world.trails):
            self._look(world, index, trail.look)
        return replace(world, ghost=self._generations(before, world))

    # --- what happened

    def _noted(self, ghost: Ghost, world: World, index: int, old: Trail, new: Trail) -> Ghost:
        for number, answer in new.asked:
            if answer.outcome.verdict is COSIGN:
                latest = new.witness
                assert latest is not None
                ghost = replace(ghost, cosigned=ghost.cosigned | {(number, latest.size, latest.root)})
        for event in new.events:
            if isinstance(event, Appended):
                if not event.is_stored:
                    lost = frozenset(one.ciphertext for one in event.commit.secrets)
                    ghost = replace(ghost, lost=ghost.lost | lost)
            elif isinstance(event.value, Placed) and event.value.change is not None:
                leaves, _ = self.model.lives.heads[new.look.view[1]]
                placed = event.value.index, leaves[event.value.index]
                ghost = replace(ghost, answered=ghost.answered | {placed})
        if new.look.view[0] < old.look.view[0]:
            raise BrokenError(
                "e", f"r{index} goes back from {old.look.view[0]} to {new.look.view[0]} entries"
            )
        if is_admitted(new.look) and not is_admitted(old.look):
            self._admitted(ghost, world, index, new)
            ghost = replace(ghost, admitted=ghost.admitted | {(index, world.lives[index])})
        return ghost

    def _admitted(self, ghost: Ghost, world: World, index: int, new: Trail) -> None:
        """(d) A replica serves by a live one, by a quorum, or by its owners."""
        life = (index, world.lives[index])
        if life in ghost.admitted:
            return
        if new.input[0] == "answer" and isinstance(new.input[2], JoinReply):
            return  # The source was admitted when it sealed: checked at `standing`, and below.
        leaves_view = self.model.lives.heads.get(new.look.view[1])
        assert leaves_view is not None
        replica = self.model.lives.bench.ids[life]
        own = [
            body
            for data in world.slots[world.points[index]].entries
            if isinstance(body := parse_entry(data).body, RestartEntry) and body.replica == replica
        ]
        if not own:
            raise BrokenError(
                "d", f"r{index} serves, and neither a replica, nor a quorum, nor owners said so"
            )
        if self.quorum and not self._is_committed(ghost, new.look.view):
            raise BrokenError("d", f"r{index} serves by a restart that no quorum cosigned")

    def _is_committed(self, ghost: Ghost, head: tuple[int, bytes]) -> bool:
        return len({w for w, size, root in ghost.cosigned if (size, root) == head}) >= self.quorum

    def _committed(self, before: World, world: World, ghost: Ghost) -> Ghost:
        """(a), (c), (e): of every head that is committed now for the first time."""
        known = {(size, root) for size, root, _ in ghost.committed}
        heads = {(size, root) for _, size, root in ghost.cosigned}
        if not self.quorum:
            heads = {t.look.view for t in world.trails if t.look.view[0]}
        for size, root in sorted(heads - known):
            if self._is_committed(ghost, (size, root)) and root in self.model.lives.heads:
                ghost = replace(ghost, committed=ghost.committed | {(size, root, world.now_s)})
                self._consistent(ghost, root)
        for size, root, _ in ghost.committed:
            leaves, _view = self.model.lives.heads[root]
            for index, leaf in ghost.answered:
                newest = max(ghost.committed)[0]
                if size == newest and (index >= size or leaves[index] != leaf):
                    raise BrokenError("e", f"the answered change at {index} is not in the head of {size}")
        return ghost

    def _consistent(self, ghost: Ghost, root: bytes) -> None:
        leaves, view = self.model.lives.heads[root]
        for _, other, _ in ghost.committed:
            theirs, _view = self.model.lives.heads[other]
            size = min(len(leaves), len(theirs))
            if leaves[:size] != theirs[:size]:
                raise BrokenError("a", f"heads of {len(leaves)} and {len(theirs)} entries are both committed")
        shorter = [(size, found) for size, found, _ in ghost.committed if size < view.size]
        older = self.model.lives.heads[max(shorter)[1]][1] if shorter else None
        lines_go_forward(older, view)

    # --- what a replica looks like

    def _look(self, world: World, index: int, look: Look) -> None:
        if self.quorum and look.view[0] and not self._is_committed(world.ghost, look.view):
            raise BrokenError("b", f"r{index} takes a head of {look.view[0]} for committed that is not")
        if self.model.scenario.is_honest and look.trouble:
            raise BrokenError("j", f"r{index} is {look.trouble}, and nobody did anything wrong")

    def _generations(self, before: World, world: World) -> Ghost:
        """(f), (h): of secrets."""
        ghost = world.ghost
        for slot in world.slots:
            if ghost.lost & {one.ciphertext for one in slot.secrets}:
                raise BrokenError("f", "what was made for a lost compare-and-swap is stored")
        held = _held(world)
        if ghost.gone & held:
            raise BrokenError("h", "a generation key that was destroyed everywhere is back")
        was = _held(before)
        is_crash = world.lives != before.lives
        gone = was - held
        if gone and not is_crash and ghost.committed:
            _, view = self.model.lives.heads[max(ghost.committed)[1]]
            if gone & needed_generations(view.state) and not _is_forced(before, world):
                raise BrokenError("h", "the last key of a generation that a living epoch needs is destroyed")
        return replace(ghost, ever=ghost.ever | held, gone=ghost.gone | gone)

    # --- what a replica says

    def told(self, world: World, index: int, told: Told) -> None:
        """Judge what a replica releases or states.

        Raises:
            BrokenError: (b), (f) or (g) fails.
        """
        head = (told.size, told.root)
        found = self.model.lives.heads.get(told.root)
        if found is None or (self.quorum and not self._is_committed(world.ghost, head)):
            raise BrokenError("b", f"r{index} {told.verb} from an uncommitted head of {told.size}")
        view = found[1]
        if self.quorum:
            due = [s for s, _, at in world.ghost.committed if at < world.now_s - REPLICA_LEASE_S]
            if due and told.size < max(due):
                raise BrokenError(
                    "b",
                    f"r{index} {told.verb} from {told.size} entries, more than a lease after "
                    f"{max(due)} were committed",
                )
        if told.statement_key != str(view.authority.statement_key):
            raise BrokenError("g", f"r{index} {told.verb} with keys that do not govern")
        if told.policy_sha256 != view.state.services["tumours"].terms.document.policy_sha256:
            raise BrokenError("b", f"r{index} {told.verb} under another policy than the one in force")
        line = view.state.epochs.get("tumours", NO_EPOCHS)
        for number, configs in told.epochs:
            epoch = line.number(number) if number else line.at(EpochState.ACTIVE)
            if epoch is None:
                raise BrokenError("c", f"r{index} {told.verb} a retired epoch")
            if configs not in epoch.key_configs:
                raise BrokenError("f", f"r{index} {told.verb} keys that the log does not name")

    # --- that it recovers

    def recovers(self, world: World) -> None:
        """Let everybody behave, and see every replica serve.

        Raises:
            BrokenError: (i) one does not within the bound.
        """
        world = self._drained(world)
        newest = self._newest(world)
        if newest is None:
            self.stuck += 1
            return
        good = replace(
            world,
            slots=tuple(newest for _ in world.slots),
            points=(0,) * len(world.points),
            late=(),
        )
        for number in range(ROUNDS):
            for index in range(len(good.trails)):
                good = self._round(good, index)
            if all(trail.look.is_ready and not trail.look.trouble for trail in good.trails):
                return
            good = replace(good, now_s=good.now_s + (101.0 if number == ROUNDS // 2 else 1.0))
        state = ", ".join(
            f"r{i} {t.look.phase} {t.look.trouble} {'' if t.look.is_ready else 'not ready'}"
            for i, t in enumerate(good.trails)
        )
        raise BrokenError("i", f"after {ROUNDS} rounds of good behaviour: {state}")

    def _drained(self, world: World) -> World:
        """Let everything that is on its way arrive, or be lost, where the host has it now."""
        model = self.model
        for _ in range(STEPS):
            if world.calls:
                world = self.after(world, model.lose(world, world.calls[0]))
                continue
            waiting = (
                (index, one)
                for index, trail in enumerate(world.trails)
                for one in trail.look.waiting
                if one.kind != CALL
            )
            found = next(waiting, None)
            if found is None:
                return world
            world = self.after(world, model.do(world, *found, "ok"))
        raise BrokenError("i", "what is on its way does not come to an end")

    def _newest(self, world: World) -> Database | None:
        """Return the newest database that there is, when a quorum of witnesses can follow it."""
        newest = max(world.ghost.committed)[:2] if world.ghost.committed else (0, b"")
        found = [one for one in (*world.slots, *world.past) if self._is_newest(world, one, newest)]
        return max(found, key=lambda one: one.size, default=None)

    def _is_newest(self, world: World, database: Database, newest: tuple[int, bytes]) -> bool:
        leaves = self._leaves(database)
        if leaves is None or not self._holds(leaves, newest):
            return False
        return (
            sum(1 for one in world.witnesses if one is None or self._holds(leaves, (one.size, one.root)))
            >= self.quorum
        )

    def _leaves(self, database: Database) -> tuple[bytes, ...] | None:
        """Return the leaves of a database that is whole."""
        return whole(database)

    def _holds(self, leaves: tuple[bytes, ...], head: tuple[int, bytes]) -> bool:
        size, root = head
        known = self.model.lives.heads.get(root)
        return not size or (known is not None and leaves[:size] == known[0])

    def _round(self, world: World, index: int) -> World:
        model = self.model
        if world.trails[index].look.phase == "down":
            world = model.crash(world, index)
        world = replace(world, calls=tuple(one for one in world.calls))
        for _ in range(STEPS):
            move = self.step_of(world, index)
            if move is None:
                return world
            world = move
        raise BrokenError("i", f"r{index} does not come to an end")

    def step_of(self, world: World, index: int) -> World | None:
        """Return the next world of honest ones, nothing where this replica has done its step."""
        model = self.model
        for call in world.calls:
            if call.reply is not None:
                return model.answer(world, call)
            if call.task == 0:
                is_up = world.trails[call.source].look.phase != "down"
                return model.ask(world, call) if is_up else model.lose(world, call)
        for at in (index, *(i for i in range(len(world.trails)) if i != index)):
            for one in world.trails[at].look.waiting:
                if not one.is_forgotten and one.kind != CALL:
                    return model.do(world, at, one, "ok")
        if (index, "good", world.now_s) not in world.said:
            said = (*world.said, (index, "good", world.now_s))
            world = replace(world, said=said)
            return model.start(world, index, "step")
        return None


def whole(database: Database) -> tuple[bytes, ...] | None:
    """Return the leaves of a database that holds one chain and its own heads."""
    leaves = tuple(leaf_hash(data) for data in database.entries)
    for index, data in enumerate(database.entries):
        if index and parse_entry(data).previous != leaves[index - 1].hex():
            return None
    tree = Tree(leaves)
    notes = [one.note for one in (database.committed,) if one is not None]
    notes += [one.checkpoint for one in (database.head,) if one is not None]
    heads = [parse_checkpoint(Note.parse(note).text) for note in notes]
    is_own = all(head.size <= len(tree) and tree.root(head.size) == head.root for head in heads)
    return leaves if is_own else None


def lines_go_forward(older: View | None, view: View) -> None:
    """(c) States only go forward; at most one pending and one active epoch of a service.

    Raises:
        BrokenError: they do not.
    """
    for service, line in view.state.epochs.items():
        states = [epoch.state for epoch in line.living]
        if states.count(EpochState.ACTIVE) > 1 or states.count(EpochState.PENDING) > 1:
            raise BrokenError("c", f"{service} has more than one pending or active epoch")
        before = NO_EPOCHS if older is None else older.state.epochs.get(service, NO_EPOCHS)
        for number in range(1, before.last + 1):
            then, now = before.number(number), line.number(number)
            was = _RANK[EpochState.RETIRED if then is None else then.state]
            if _RANK[EpochState.RETIRED if now is None else now.state] < was:
                raise BrokenError("c", f"epoch {number} of {service} went back")


def is_admitted(look: Look) -> bool:
    """Tell whether a replica serves, whatever its lease."""
    return look.phase == "serving"


def _held(world: World) -> frozenset[str]:
    return frozenset().union(*(trail.look.generations for trail in world.trails))


def _is_forced(before: World, world: World) -> bool:
    """Tell whether a replica gave up its keys for those of a new policy."""
    return any(old.look.keys != new.look.keys for old, new in zip(before.trails, world.trails, strict=True))
