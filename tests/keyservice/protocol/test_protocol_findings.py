"""What the model and its making have found, each as small as it can be shown."""

from typing import Any

import pytest

from s3ml.keyservice.replaying import Reader
from s3ml.keyservice.storage import Committed, StorageUnavailableError
from s3ml.keyservice.upkeep import plan_upkeep
from s3ml.primitives.clock import RatchetClock
from tests.clocks import FakeClock
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


async def present(node: Node) -> str:
    """Prove that a replica is there."""
    await node.up.replica.be_present()
    return "done"


async def upkeep(node: Node) -> str:
    """Do what time makes due; another replica may be faster."""
    replica = node.up.replica
    keyring, now = replica.serving_keyring(), node.up._clock.now()
    await replica.ledger.commit(lambda view: plan_upkeep(view, keyring, now, replica=replica.id))
    return "done"


class TestALease:
    """Only this replica's own random bytes renew it."""

    @pytest.mark.parametrize(("work", "is_renewed"), [("present", True), ("upkeep", False)])
    def test_what_time_makes_due_does_not(self, work: str, is_renewed: bool) -> None:
        with stage(PAIR) as (model, _, first):
            model.works = {**model.works, "present": present, "upkeep": upkeep}
            later = model.jump(first, 86_500.0)
            done = finish(model, model.start(later, 0, work), 0).trails[0].look
            assert done.view[0] > first.trails[0].look.view[0]
            assert (done.fresh_until_s > later.now_s) == is_renewed


class TestAStoreThatLostWordOfACommit:
    """It holds every entry: the replica that knows better tells it again."""

    @pytest.mark.parametrize("is_longer", [True, False])
    def test_it_is_told_again(self, is_longer: bool) -> None:
        with stage(PAIR) as (model, _, world):
            model.works = {**model.works, "present": present}
            after = finish(model, model.start(world, 0, "present"), 0)
            if is_longer:
                after = model.start(after, 1, "present")
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
