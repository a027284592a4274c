"""A commit happens whole, once, on the newest committed head, or leaves nothing behind."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from s3ml.keyservice.documents import PresenceEntry
from s3ml.keyservice.errors import BusyError, ConflictError, HaltedError, NotServingError, UncommittedError
from s3ml.keyservice.keys import Keyring
from s3ml.keyservice.ledger import ATTEMPTS, Ledger, Plan
from s3ml.keyservice.log import LogTamperedError, parse_entry
from s3ml.keyservice.replaying import View
from s3ml.keyservice.storage import (
    Commit,
    Committed,
    HeadMovedError,
    OutcomeUnknownError,
    SecretName,
    StorageUnavailableError,
)
from s3ml.keyservice.upkeep import presence
from s3ml.primitives.errors import S3MLError
from tests.keyservice.keyservice_fleet import Fleet, Member, gone


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path, replicas=2)
    yield made
    made.stop()


@pytest.fixture
async def pair(fleet: Fleet) -> tuple[Member, Member]:
    await fleet.serve()
    first, second = fleet.members
    await first.step()
    return first, second


@pytest.fixture
def watched_fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path, replicas=2, witnesses=3)
    yield made
    made.stop()


@pytest.fixture
async def watched(watched_fleet: Fleet) -> tuple[Member, Member]:
    await watched_fleet.serve()
    first, second = watched_fleet.members
    await first.step()
    return first, second


def ledger(member: Member) -> Ledger:
    return member.service.replica.ledger


def plan_of(member: Member, *, secret: bytes | None = None) -> Callable[[View], Plan]:
    name = SecretName(kind="test", name="x", version="1")

    def plan(_: View) -> Plan:
        keyring = member.keyring
        secrets = () if secret is None else (keyring.vault.wrap(name, secret),)
        return Plan(keyring=keyring, bodies=(presence(member.service.replica.id, keyring),), secrets=secrets)

    return plan


def failing(call: str, error: Exception, *, times: int = 1) -> Callable[[str], None]:
    left = [times]

    def fail(name: str) -> None:
        if name == call and left[0]:
            left[0] -= 1
            raise error

    return fail


class TestLostRaces:
    """Whoever loses decides and makes anew."""

    async def test_it_plans_again_on_what_the_winner_wrote(self, pair: tuple[Member, Member]) -> None:
        first, second = pair
        await ledger(second).refresh()
        sizes: list[int] = []

        def planner(view: View) -> Plan:
            sizes.append(view.size)
            return plan_of(second)(view)

        await ledger(second).commit(plan_of(second))
        await ledger(first).commit(plan_of(first))
        await ledger(second).commit(planner)
        assert sizes[1] == sizes[0] + 1
        assert ledger(second).view.size == second.database_size

    async def test_fresh_secrets_every_time_and_none_of_the_lost(self, pair: tuple[Member, Member]) -> None:
        """The keys of an epoch whose plan lost are not those that are stored."""
        first, second = pair
        loop, made, real = asyncio.get_running_loop(), list[bytes](), second.store.append

        def lose_once(commit: Commit) -> None:
            made.extend(one.ciphertext for one in commit.secrets if one.name.kind == "epoch-keys")
            if len(made) == 1:
                asyncio.run_coroutine_threadsafe(ledger(first).commit(plan_of(first)), loop).result(30)
            real(commit)

        second.store.append = lose_once  # type: ignore[method-assign]
        await second.rotate()
        assert len(set(made)) == 2
        rows = second.fleet.database.rows
        stored = [value for name, value in rows.secrets.items() if name.kind == "epoch-keys"]
        assert made[0] not in stored
        assert made[1] in stored

    async def test_what_the_winner_did_may_make_it_pointless(self, pair: tuple[Member, Member]) -> None:
        first, second = pair
        await second.put_policy(name="warm")
        await first.put_policy(name="same")
        with pytest.raises(ConflictError, match="expected 2, got 1"):
            await second.put_policy(name="same")

    async def test_many_at_once_all_come_through(self, pair: tuple[Member, Member]) -> None:
        before = pair[0].database_size
        await asyncio.gather(*(ledger(m).commit(plan_of(m)) for m in pair for _ in range(5)))
        assert pair[0].database_size == before + 10
        views = [await ledger(member).refresh() for member in pair]
        assert views[0].root == views[1].root

    async def test_it_gives_up_in_the_end(self, pair: tuple[Member, Member]) -> None:
        first = pair[0]
        first.store.before = failing("append", HeadMovedError("moved"), times=ATTEMPTS)
        with pytest.raises(BusyError):
            await ledger(first).commit(plan_of(first))
        assert (await ledger(first).commit(plan_of(first))).size == first.database_size

    async def test_a_plan_of_nothing_writes_nothing(self, pair: tuple[Member, Member]) -> None:
        before = pair[0].database_size
        assert (await ledger(pair[0]).commit(lambda _: None)).size == before == pair[0].database_size


class TestStorageThatFails:
    """Whatever call fails, before or after it was carried out, nothing is lost and nothing is half there."""

    @pytest.mark.parametrize("call", ["heads", "entries", "append"])
    async def test_before_it_did_anything(self, pair: tuple[Member, Member], call: str) -> None:
        first, second = pair
        await ledger(second).commit(plan_of(second))
        first.store.before = failing(call, StorageUnavailableError("storage: away"))
        ledger(first)._is_current = False
        before = first.database_size
        with pytest.raises(StorageUnavailableError):
            await ledger(first).commit(plan_of(first, secret=b"s"))
        assert first.database_size == before
        await self.works(first)

    @pytest.mark.parametrize("call", ["heads", "entries", "append"])
    async def test_after_it_did_everything(self, pair: tuple[Member, Member], call: str) -> None:
        first, second = pair
        await ledger(second).commit(plan_of(second))
        first.store.after = failing(call, OutcomeUnknownError("storage: no answer"))
        ledger(first)._is_current = False
        with pytest.raises(OutcomeUnknownError):
            await ledger(first).commit(plan_of(first))
        await self.works(first)

    async def test_the_commit_of_a_cosigned_head(self, watched: tuple[Member, Member]) -> None:
        first, second = watched
        first.store.before = failing("commit", StorageUnavailableError("storage: away"))
        with pytest.raises(StorageUnavailableError):
            await ledger(first).commit(plan_of(first))
        assert ledger(first).view.size == first.database_size - 1
        view = await ledger(second).settle()
        assert view.size == first.database_size
        await self.works(first)

    @staticmethod
    async def works(member: Member) -> None:
        view = await ledger(member).commit(plan_of(member))
        assert view.size == member.database_size
        member.stop()
        member.start()
        assert ledger(member).view.root == view.root


class TestCancellation:
    """Whoever is cancelled leaves a ledger that goes on."""

    async def cancelled_in(self, member: Member, call: str, work: Callable[[], object]) -> None:
        reached, release = threading.Event(), threading.Event()

        def hold(name: str) -> None:
            if name == call:
                reached.set()
                release.wait(300)

        member.store.before = hold
        task = asyncio.ensure_future(work())  # type: ignore[call-overload]
        await asyncio.to_thread(reached.wait, 30)
        member.store.before = lambda _: None
        task.cancel()
        await asyncio.sleep(0)
        follower = asyncio.ensure_future(ledger(member).commit(plan_of(member)))
        await asyncio.sleep(0)
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        view = await follower
        assert view.size == member.database_size
        member.stop()
        member.start()
        assert ledger(member).view.root == view.root

    async def test_between_append_and_reply(self, pair: tuple[Member, Member]) -> None:
        first = pair[0]
        await self.cancelled_in(first, "append", lambda: ledger(first).commit(plan_of(first)))

    async def test_while_it_reads(self, pair: tuple[Member, Member]) -> None:
        """The reading goes on in its thread; nobody reads beside it."""
        first, second = pair
        for _ in range(3):
            await ledger(second).commit(plan_of(second))
        await self.cancelled_in(first, "entries", lambda: ledger(first).refresh())

    async def test_more_than_once(self, pair: tuple[Member, Member]) -> None:
        first, second = pair
        await ledger(second).commit(plan_of(second))
        reached, release = threading.Event(), threading.Event()

        def hold(name: str) -> None:
            if name == "entries":
                reached.set()
                release.wait(300)

        first.store.before = hold
        task = asyncio.ensure_future(ledger(first).refresh())
        await asyncio.to_thread(reached.wait, 30)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        assert not task.done()
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        first.store.before = lambda _: None
        await ledger(first).refresh()


class TestRefresh:
    """Those who wait share one reading."""

    async def test_it_is_coalesced(self, pair: tuple[Member, Member]) -> None:
        first = pair[0]
        calls: list[str] = []
        first.store.before = calls.append
        await asyncio.gather(*(ledger(first).refresh() for _ in range(50)))
        assert set(calls) == {"heads"}
        assert len(calls) <= 2

    async def test_so_is_its_failure(self, pair: tuple[Member, Member]) -> None:
        first = pair[0]
        calls: list[str] = []

        def fail(name: str) -> None:
            calls.append(name)
            raise StorageUnavailableError("storage: away")

        first.store.before = fail
        outcomes = await asyncio.gather(*(ledger(first).refresh() for _ in range(50)), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {StorageUnavailableError}
        assert len(calls) <= 2
        first.store.before = lambda _: None
        assert (await ledger(first).refresh()).size == first.database_size

    async def test_it_sees_what_was_committed_before_it_was_asked(self, pair: tuple[Member, Member]) -> None:
        first, second = pair
        view = await ledger(second).commit(plan_of(second))
        assert (await ledger(first).refresh()).root == view.root


class TestUncommittedHeads:
    """Nothing follows from a head before a quorum has cosigned it; any replica finishes it."""

    def cut(self, member: Member) -> None:
        for witness in member.fleet.witnesses:
            witness.interfere = gone

    def mend(self, member: Member) -> None:
        for witness in member.fleet.witnesses:
            witness.interfere = lambda: None

    async def test_another_replica_finishes_it(self, watched: tuple[Member, Member]) -> None:
        first, second = watched
        self.cut(first)
        before = ledger(first).view
        with pytest.raises(UncommittedError, match="0 of 2 witnesses cosigned"):
            await ledger(first).commit(plan_of(first))
        assert ledger(first).view is before
        assert ledger(first).stored.size == before.size + 1
        await ledger(second).refresh()
        assert ledger(second).view.size == before.size
        self.mend(first)
        await ledger(second).settle()
        assert (await ledger(first).refresh()).size == before.size + 1

    async def test_nothing_is_appended_to_it(self, watched: tuple[Member, Member]) -> None:
        first, second = watched
        self.cut(first)
        with pytest.raises(UncommittedError):
            await ledger(first).commit(plan_of(first))
        size = first.database_size
        for member in watched:
            with pytest.raises(UncommittedError):
                await ledger(member).commit(plan_of(member))
        assert first.database_size == size
        self.mend(first)
        assert (await ledger(second).commit(plan_of(second))).size == size + 1

    async def test_a_quorum_is_enough(self, watched: tuple[Member, Member]) -> None:
        first, _ = watched
        first.fleet.witnesses[0].interfere = gone
        assert (await ledger(first).commit(plan_of(first))).size == first.database_size

    async def test_a_settled_log_is_settled_without_asking(self, watched: tuple[Member, Member]) -> None:
        first, _ = watched
        asked = [len(witness.asked) for witness in first.fleet.witnesses]
        await ledger(first).settle()
        assert [len(witness.asked) for witness in first.fleet.witnesses] == asked

    async def test_a_fork_that_the_witnesses_tell_of_is_served_by_nobody(
        self, watched: tuple[Member, Member]
    ) -> None:
        first, second = watched
        backup = first.fleet.database.copy()
        await ledger(second).commit(plan_of(second))
        first.fleet.database.restore(backup)
        with pytest.raises(HaltedError, match="this database is a fork, or older"):
            await ledger(first).commit(plan_of(first))
        with pytest.raises(HaltedError):
            first.service.replica.serving()
        await ledger(first).refresh()
        with pytest.raises(HaltedError):  # reading the fork again makes it no better
            first.service.replica.serving()

    async def test_a_head_that_was_never_marked_committed_is_marked_by_whoever_settles(
        self, pair: tuple[Member, Member]
    ) -> None:
        first, _ = pair
        rows = first.fleet.database.rows
        rows.committed = None
        first.stop()
        first.start()
        view = await ledger(first).settle()
        marked = first.store.committed()
        assert marked is not None
        assert marked.size == view.size
        await ledger(first).refresh()


class TestPlansThatDoNotHold:
    """An entry that breaks a rule is not stored, and leaves the chain as it was."""

    async def test_nothing_of_it_is_kept(self, pair: tuple[Member, Member]) -> None:
        first, _ = pair
        good = presence(first.service.replica.id, first.keyring)
        bad = PresenceEntry(replica="ab" * 32, random=bytes(32), generations=())
        head = first.fleet.database.rows.head

        def plan(_: View) -> Plan:
            return Plan(keyring=first.keyring, bodies=(good, b"{}", bad))

        with pytest.raises(S3MLError, match="log entry"):
            await ledger(first).commit(plan)
        assert first.fleet.database.rows.head is head
        assert (await ledger(first).commit(plan_of(first))).size == first.database_size

    async def test_what_a_planner_raises_passes_through(self, pair: tuple[Member, Member]) -> None:
        def plan(_: View) -> Plan:
            raise ConflictError("no")

        with pytest.raises(ConflictError, match="no"):
            await ledger(pair[0]).commit(plan)

    async def test_other_keys_than_those_that_govern_sign_nothing(self, pair: tuple[Member, Member]) -> None:
        first, _ = pair
        stranger = Keyring.generate(1, first.genesis.deployment)
        entry = presence(first.service.replica.id, first.keyring)
        before = first.database_size
        with pytest.raises(NotServingError, match="keys were replaced"):
            await ledger(first).commit(lambda _: Plan(keyring=stranger, bodies=(entry,)))
        assert first.database_size == before


class TestReading:
    """What is read counts whole or not at all."""

    async def test_a_read_that_ends_midway_is_read_again_from_where_it_held(
        self, pair: tuple[Member, Member]
    ) -> None:
        """A host that fails at the right entry would have it passed over otherwise."""
        first, second = pair
        await second.put_policy(name="one")
        await ledger(second).commit(plan_of(second))
        rows = first.fleet.database.rows
        kept, rows.log[-1] = rows.log[-1], b"{}"
        with pytest.raises(LogTamperedError):
            await ledger(first).refresh()
        assert not first.service.is_ready
        rows.log[-1] = kept
        view = await ledger(first).refresh()
        assert "one" in view.state.policies
        assert ledger(first).trouble is None

    async def test_an_entry_that_nobody_signed_moves_no_clock(self, pair: tuple[Member, Member]) -> None:
        first, _ = pair
        rows = first.fleet.database.rows
        chain = ledger(first)._reader.chain
        forged = chain.build(
            PresenceEntry(replica="ab" * 32, random=bytes(32)), time=first.clock.now().replace(year=9000)
        ).data
        assert rows.head is not None
        rows.log.append(forged)
        rows.head = replace(rows.head, size=len(rows.log))
        with pytest.raises(LogTamperedError, match="checkpoint signs"):
            await ledger(first).settle()
        assert first.service._clock.now() == first.clock.now()
        assert parse_entry(forged).time.year == 9000

    async def test_a_database_that_went_back_is_refused_until_it_is_restored(
        self, pair: tuple[Member, Member]
    ) -> None:
        first, _ = pair
        backup = first.fleet.database.copy()
        await ledger(first).commit(plan_of(first))
        newest = first.fleet.database.copy()
        first.fleet.database.restore(backup)
        with pytest.raises(HaltedError, match="the database went back"):
            await ledger(first).refresh()
        with pytest.raises(HaltedError):
            first.service.replica.serving()
        with pytest.raises(HaltedError):
            await ledger(first).commit(plan_of(first))
        first.fleet.database.restore(newest)
        await ledger(first).refresh()
        assert first.service.is_ready

    async def test_a_fork_is_refused(self, pair: tuple[Member, Member]) -> None:
        first, second = pair
        backup = first.fleet.database.copy()
        await ledger(first).commit(plan_of(first))
        first.fleet.database.restore(backup)
        ledger(second)._is_current = False
        for _ in range(2):
            await ledger(second).commit(plan_of(second))
        with pytest.raises(LogTamperedError, match="does not continue the entry before it"):
            await ledger(first).refresh()

    async def test_a_fork_of_the_same_size_is_refused(self, pair: tuple[Member, Member]) -> None:
        first, second = pair
        backup = first.fleet.database.copy()
        await ledger(first).commit(plan_of(first))
        first.fleet.database.restore(backup)
        ledger(second)._is_current = False
        await ledger(second).commit(plan_of(second))
        with pytest.raises(LogTamperedError, match="checkpoint signs"):
            await ledger(first).refresh()

    async def test_an_uncommitted_tail_may_be_replaced(self, watched: tuple[Member, Member]) -> None:
        first, second = watched
        for witness in first.fleet.witnesses:
            witness.interfere = gone
        backup = first.fleet.database.copy()
        with pytest.raises(UncommittedError):
            await ledger(first).commit(plan_of(first))
        first.fleet.database.restore(backup)
        for witness in first.fleet.witnesses:
            witness.interfere = lambda: None
        for _ in range(2):
            await ledger(second).commit(plan_of(second))
        assert (await ledger(first).refresh()).root == ledger(second).view.root

    async def test_a_tail_that_was_replaced_and_cut_short(self, watched: tuple[Member, Member]) -> None:
        """Stored here, 2 ahead of what is committed; then the committed head moves 1, on another branch."""
        first, second = watched
        for witness in first.fleet.witnesses:
            witness.interfere = gone
        backup = first.fleet.database.copy()

        def two(view: View) -> Plan:
            one = plan_of(first)(view)
            return Plan(keyring=one.keyring, bodies=(*one.bodies, *one.bodies))

        with pytest.raises(UncommittedError):
            await ledger(first).commit(two)
        first.fleet.database.restore(backup)
        for witness in first.fleet.witnesses:
            witness.interfere = lambda: None
        await ledger(second).commit(plan_of(second))
        assert (await ledger(first).refresh()).root == ledger(second).view.root

    async def test_a_committed_head_that_was_kept_back(self, watched: tuple[Member, Member]) -> None:
        """Read up to a stored head, this replica learns of an earlier one that was committed meanwhile."""
        first, second = watched
        rows = first.fleet.database.rows
        await ledger(second).commit(plan_of(second))
        for witness in first.fleet.witnesses:
            witness.interfere = gone
        with pytest.raises(UncommittedError):
            await ledger(second).commit(plan_of(second))
        shown, rows.committed = (
            rows.committed,
            Committed(size=ledger(first).view.size, note=ledger(first).view.checkpoint),
        )
        ledger(first)._reader.read_on()
        rows.committed = shown
        assert (await ledger(first).refresh()).size == first.database_size - 1
        assert (await ledger(first).refresh()).root == ledger(second).view.root

    async def test_a_committed_head_without_its_quorum(self, watched: tuple[Member, Member]) -> None:
        first, second = watched
        await ledger(second).commit(plan_of(second))
        rows = first.fleet.database.rows
        assert rows.committed is not None
        assert rows.head is not None
        rows.committed = replace(rows.committed, note=rows.head.checkpoint)
        with pytest.raises(LogTamperedError, match="expected cosignatures of 2 of 3 witnesses, got 0"):
            await ledger(first).refresh()
