"""What the model and its making have found, each as small as it can be shown."""

from typing import Any

import pytest

from s3ml.keyservice.ledger import Plan
from s3ml.keyservice.replaying import Reader, View
from s3ml.keyservice.storage import Committed, StorageUnavailableError
from s3ml.keyservice.upkeep import presence
from s3ml.primitives.clock import RatchetClock
from tests.keyservice.keyservice_world import FakeClock
from tests.keyservice.protocol.explorer import stage
from tests.keyservice.protocol.memory_storage import Cell, Database, MemoryStorage
from tests.keyservice.protocol.model import Model, Scenario, World
from tests.keyservice.protocol.node import Node

PAIR = Scenario(name="pair", witnesses=1, quorum=1)


def finish(model: Model, world: World, index: int) -> World:
    """Let everything that a replica waits for happen."""
    while world.trails[index].look.waiting:
        world = model.do(world, index, world.trails[index].look.waiting[0], "ok")
    return world


class Halting(MemoryStorage):
    """Answers for the first entries of a reading, and then not."""

    answers = 1 << 30

    def entries(self, start: int, end: int) -> list[bytes]:
        if start >= self.answers:
            raise StorageUnavailableError("storage: away")
        return super().entries(start, min(end, start + 2))


class TestAReadingThatFails:
    """It leaves what holds and the chain at the same entry."""

    @pytest.mark.parametrize("answers", [2, 4, 6])
    def test_nothing_is_passed_over_later(self, answers: int) -> None:
        with stage(PAIR) as (_, _, world):
            storage = Halting(Cell(world.slots[0]))
            reader = Reader(storage, RatchetClock(FakeClock()))
            storage.answers = answers
            with pytest.raises(StorageUnavailableError):
                reader.read_on()
            assert (reader.chain.size, reader.view.size) == (0, 0)
            storage.answers = 1 << 30
            reader.read_on()
            whole = Reader(MemoryStorage(Cell(world.slots[0])), RatchetClock(FakeClock()))
            whole.read_on()
            assert reader.view.state.places == whole.view.state.places
            assert reader.view.state.epochs.keys() == whole.view.state.epochs.keys()


async def withdraw(node: Node) -> str:
    """Commit something, unless somebody else was faster."""
    replica = node.up.replica
    keyring, seen = replica.serving_keyring(), replica.ledger.view.size

    def plan(view: View) -> Plan | None:
        return Plan(keyring=keyring, bodies=(presence(replica.id, keyring),)) if view.size == seen else None

    await replica.commit(plan)
    return "done"


class TestALease:
    """Only this replica's own random bytes renew it."""

    @pytest.mark.parametrize("is_first", [True, False])
    def test_what_another_wrote_does_not(self, is_first: bool) -> None:
        with stage(PAIR) as (model, _, first):
            model.works = {**model.works, "withdraw": withdraw}
            world = first
            for index in (1, 0, 1, 0):
                world = finish(model, model.start(world, index, "step"), index)
            later = model.jump(world, 50.0)
            before = world.trails[0].look.fresh_until_s
            mine = model.start(later, 0, "withdraw")
            if not is_first:
                mine = finish(model, model.start(mine, 1, "withdraw"), 1)
            done = finish(model, mine, 0).trails[0].look
            assert done.view[0] > world.trails[0].look.view[0]
            assert (done.fresh_until_s > before) == is_first


class TestAStoreThatLostWordOfACommit:
    """It holds every entry: the replica that knows better tells it again."""

    @pytest.mark.parametrize("is_longer", [True, False])
    def test_it_is_told_again(self, is_longer: bool) -> None:
        with stage(PAIR) as (model, _, world):
            model.works = {**model.works, "withdraw": withdraw}
            after = finish(model, model.start(world, 0, "withdraw"), 0)
            if is_longer:
                after = model.start(after, 1, "withdraw")
                while after.trails[1].look.waiting[0].kind == "append":
                    after = model.do(after, 1, after.trails[1].look.waiting[0], "ok")
            old, new = world.slots[0], after.slots[0]
            forgetful: Any = Database(
                entries=new.entries,
                audit=new.audit,
                secrets=new.secrets,
                head=new.head,
                committed=old.committed,
            )
            found = model.start(model.place(after, 0, forgetful), 0, "step")
            while found.trails[0].look.waiting[0].kind != "commit":
                found = model.do(found, 0, found.trails[0].look.waiting[0], "ok")
            told = model.do(found, 0, found.trails[0].look.waiting[0], "ok").slots[0].committed
            assert isinstance(told, Committed)
            assert told.size >= after.trails[0].look.view[0]
            assert found.trails[0].look.trouble == ""
