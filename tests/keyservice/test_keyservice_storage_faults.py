"""PostgreSQL that is cut off, killed, slow or away: what was answered holds, and no commit is in part."""

import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import psycopg
import pytest

from s3ml.keyservice.storage import (
    Commit,
    Committed,
    Head,
    HeadMovedError,
    OutcomeUnknownError,
    Storage,
    StorageUnavailableError,
    open_storage,
)
from s3ml.keyservice.storage.postgresql import PostgreSQLStorage, Timeouts, session
from s3ml.keyservice.storage.postgresql.sessions import SESSIONS_LIMIT
from tests.keyservice.postgres_proxy import (
    Fault,
    Hold,
    Link,
    Proxy,
    Way,
    cut_after,
    cut_before,
    cut_within,
    letters,
    proxy_before,
)
from tests.keyservice.postgres_server import PostgresServer, running, served
from tests.keyservice.test_keyservice_storage import FIRST, SECOND, everything

SHORT = Timeouts(connect_s=2, checkout_s=2.0, statement_s=2.0, reply_s=3.0)
LONGEST_S = 2 * (SHORT.connect_s + SHORT.checkout_s + SHORT.reply_s) + 240
"""What a call may take, doubled for the commit that is settled; the rest is for a busy machine."""
SENT = "PBDES"  # Parse, Bind, Describe, Execute, Sync
ANSWERED = "12TDCZ"  # parsed, bound, columns, row, complete, and the transaction is over
AFTER: tuple[object, ...] = ((SECOND.head, SECOND.committed), [b"a", b"b", b"c"], [b"r0", b"r1", b"r2"], [])


@pytest.fixture
def schema(postgres: PostgresServer) -> str:
    return postgres.create_schema()


@pytest.fixture
def database(postgres: PostgresServer, schema: str) -> str:
    """The same schema, not through the proxy."""
    return postgres.url(schema=schema)


@pytest.fixture
def proxy(postgres: PostgresServer) -> Iterator[Proxy]:
    with proxy_before(postgres) as begun:
        yield begun


@pytest.fixture
def storage(proxy: Proxy, schema: str) -> Iterator[PostgreSQLStorage]:
    """A storage behind the proxy, which holds one commit."""
    with PostgreSQLStorage(proxy.url(schema)) as opened:
        opened.append(FIRST)
        yield opened


@pytest.fixture(scope="module")
def doomed() -> Iterator[PostgresServer]:
    """A server that may be killed."""
    with running() as server:
        yield server


def outcome_of(append: Callable[[], None]) -> str:
    try:
        append()
    except OutcomeUnknownError:
        return "unknown"
    except StorageUnavailableError:
        return "nothing"
    return "stored"


def stored_in(url: str) -> tuple[object, ...]:
    with closing(open_storage(url)) as storage:
        return everything(storage)


@contextmanager
def bounded() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < LONGEST_S


class TestACutConnection:
    """A commit whose connection ends at any point is settled: what is said of it is true."""

    def test_these_are_the_messages(self, storage: Storage, proxy: Proxy) -> None:
        """The faults below hit every message of a commit that there is."""
        proxy.passed.clear()
        storage.append(SECOND)
        assert (letters(proxy, Way.TO_SERVER), letters(proxy, Way.TO_CLIENT)) == (SENT, ANSWERED)

    @pytest.mark.parametrize("fault", [cut_before, cut_within, cut_after])
    @pytest.mark.parametrize("kind", SENT)
    def test_on_the_way_there(
        self, storage: Storage, proxy: Proxy, database: str, kind: str, fault: Fault
    ) -> None:
        before = everything(storage)
        proxy.arm(Way.TO_SERVER, kind.encode(), fault)
        outcome = outcome_of(lambda: storage.append(SECOND))
        is_whole = kind == "S" and fault is cut_after  # then it is a matter of who comes first
        assert outcome in ("nothing", "stored")[: 1 + is_whole]
        assert stored_in(database) == everything(storage) == (AFTER if outcome == "stored" else before)

    @pytest.mark.parametrize("fault", [cut_before, cut_within, cut_after])
    @pytest.mark.parametrize("kind", ANSWERED)
    def test_on_the_way_back(
        self, storage: Storage, proxy: Proxy, database: str, kind: str, fault: Fault
    ) -> None:
        proxy.arm(Way.TO_CLIENT, kind.encode(), fault)
        assert outcome_of(lambda: storage.append(SECOND)) == "stored"
        assert stored_in(database) == everything(storage) == AFTER

    def test_of_the_first_commit(self, proxy: Proxy, schema: str) -> None:
        with PostgreSQLStorage(proxy.url(schema)) as storage:
            proxy.arm(Way.TO_SERVER, b"S", cut_before)
            assert outcome_of(lambda: storage.append(FIRST)) == "nothing"
            assert storage.heads() == (None, None)
            proxy.arm(Way.TO_CLIENT, b"C", cut_before)
            assert outcome_of(lambda: storage.append(FIRST)) == "stored"
            assert storage.head() == FIRST.head

    def test_once_the_statement_is_prepared(self, storage: Storage, proxy: Proxy) -> None:
        """A session that has run a statement often names it instead of sending it."""
        for size in range(2, 80):
            storage.append(Commit(expected_size=size, entries=(b"e",), head=head(size + 1)))
        proxy.passed.clear()
        storage.append(Commit(expected_size=80, entries=(b"e",), head=head(81)))
        assert letters(proxy, Way.TO_SERVER) == SENT.replace("P", "")
        proxy.arm(Way.TO_SERVER, b"B", cut_within)
        last = Commit(expected_size=81, entries=(b"e",), head=head(82))
        assert outcome_of(lambda: storage.append(last)) == "nothing"
        proxy.arm(Way.TO_CLIENT, b"2", cut_before)
        assert outcome_of(lambda: storage.append(last)) == "stored"

    def test_while_another_replica_goes_on(self, storage: Storage, proxy: Proxy, database: str) -> None:
        """A commit that was stored is recognised below what came after it."""
        third = Commit(expected_size=3, entries=(b"d",), head=head(4))

        def append_and_cut(link: Link, way: Way, message: bytes) -> None:
            with closing(open_storage(database)) as other:
                other.append(third)
            link.cut()

        proxy.arm(Way.TO_CLIENT, b"Z", append_and_cut)
        assert outcome_of(lambda: storage.append(SECOND)) == "stored"
        assert storage.head() == third.head

    @pytest.mark.parametrize("entry", [b"other", SECOND.entries[0]])
    def test_while_another_replica_wins(
        self, storage: Storage, proxy: Proxy, database: str, entry: bytes
    ) -> None:
        """Even where the winner wrote the same bytes: its secrets are others."""
        winner = Commit(expected_size=2, entries=(entry,), head=SECOND.head)

        def append_and_cut(link: Link, way: Way, message: bytes) -> None:
            with closing(open_storage(database)) as other:
                other.append(winner)
            link.cut()

        proxy.arm(Way.TO_SERVER, b"P", append_and_cut)
        with pytest.raises(HeadMovedError, match="expected a log of 2 entries, got 3"):
            storage.append(SECOND)
        assert storage.entries(0, 9) == [b"a", b"b", entry]

    def test_which_cannot_be_settled(self, storage: Storage, proxy: Proxy) -> None:
        def cut_for_good(link: Link, way: Way, message: bytes) -> None:
            proxy.is_refusing = True
            proxy.cut()

        proxy.arm(Way.TO_CLIENT, b"C", cut_for_good)
        with pytest.raises(
            OutcomeUnknownError, match="a commit was not answered, and then: storage: Postgre"
        ):
            storage.append(SECOND)
        proxy.is_refusing = False
        assert served(storage.head) == SECOND.head

    def test_of_a_read_or_of_a_committed_head(self, storage: Storage, proxy: Proxy) -> None:
        proxy.arm(Way.TO_CLIENT, b"D", cut_within, about=b"LEFT JOIN")
        with pytest.raises(StorageUnavailableError):
            storage.heads()
        newest = Committed(size=7, note="7")
        proxy.arm(Way.TO_CLIENT, b"C", cut_before, about=b"INSERT INTO s3ml_committed VALUES")
        with pytest.raises(StorageUnavailableError):
            storage.commit(newest)
        storage.commit(newest)
        assert storage.committed() == newest


def head(size: int) -> Head:
    return Head(size=size, checkpoint=str(size), seal=b"")


class TestAKilledServer:
    """What was acknowledged is there after a crash, and the storage goes on by itself."""

    @pytest.mark.parametrize("kind", SENT)
    def test_before_it_has_answered(self, doomed: PostgresServer, kind: str) -> None:
        self.check(doomed, Way.TO_SERVER, kind, is_power_lost=kind != "E")

    @pytest.mark.parametrize("kind", ANSWERED)
    def test_while_it_answers(self, doomed: PostgresServer, kind: str) -> None:
        self.check(doomed, Way.TO_CLIENT, kind, is_power_lost=kind != "C")

    def check(self, doomed: PostgresServer, way: Way, kind: str, *, is_power_lost: bool) -> None:
        def end(link: Link, way: Way, message: bytes) -> None:
            if way is Way.TO_SERVER:
                link.forward(way, message)
            doomed.kill() if is_power_lost else doomed.stop(signal.SIGQUIT)
            link.cut()
            ended.set()

        schema, ended = doomed.create_schema(), threading.Event()
        with proxy_before(doomed) as proxy, PostgreSQLStorage(proxy.url(schema), timeouts=SHORT) as storage:
            storage.append(FIRST)
            before = everything(storage)
            proxy.arm(way, kind.encode(), end)
            with bounded():
                outcome = outcome_of(lambda: storage.append(SECOND))
            assert ended.wait(300)
            doomed.start()
            after = served(lambda: everything(storage))
            assert after == stored_in(doomed.url(schema=schema))
            assert outcome in ("unknown", "stored" if kind == "S" else "")  # its answer may overtake the end
            assert after in (before, AFTER)[outcome == "stored" :]
            if way is Way.TO_SERVER and kind != "S":
                assert after == before
            if kind == "Z":
                assert after == AFTER  # it was acknowledged, though nobody heard it
            if after == before:
                storage.append(SECOND)

    def test_what_was_acknowledged_is_there(self, doomed: PostgresServer) -> None:
        """Replicas append until the power is lost; every commit that returned is read back."""
        schema = doomed.create_schema()
        acknowledged: list[int] = []
        enough = threading.Event()

        def write(storage: Storage) -> None:
            size = 0
            while True:
                try:
                    storage.append(
                        Commit(expected_size=size, entries=(str(size).encode(),), head=head(size + 1))
                    )
                except HeadMovedError:
                    size += 1
                    continue
                except StorageUnavailableError:
                    return
                acknowledged.append(size)
                size += 1
                if size == 100:
                    enough.set()

        with (
            PostgreSQLStorage(doomed.url(schema=schema), timeouts=SHORT) as one,
            PostgreSQLStorage(doomed.url(schema=schema), timeouts=SHORT) as two,
            ThreadPoolExecutor(2) as pool,
        ):
            writers = [pool.submit(write, one), pool.submit(write, two)]
            assert enough.wait(300)
            doomed.kill()
            for writer in writers:
                writer.result()
            doomed.start()
            found = served(lambda: one.entries(0, 100_000))
            assert sorted(acknowledged) == list(range(len(acknowledged)))
            assert found[: len(acknowledged)] == [str(size).encode() for size in range(len(acknowledged))]
            assert one.head() == head(len(found))
            assert len(found) <= len(acknowledged) + 1


class TestASlowServer:
    """Every call ends."""

    def test_a_commit_that_is_still_under_way_is_not_stored_later(
        self, proxy: Proxy, database: str, schema: str
    ) -> None:
        """What was said not to be stored stays so, even where its bytes arrive afterwards."""
        hold = Hold()
        with PostgreSQLStorage(proxy.url(schema), timeouts=SHORT) as storage:
            storage.append(FIRST)
            before = everything(storage)
            proxy.arm(Way.TO_SERVER, b"S", hold)
            with bounded(), pytest.raises(StorageUnavailableError, match="and nothing stored"):
                storage.append(SECOND)
            hold.release.set()
            proxy.close()
        assert stored_in(database) == before

    def test_a_commit_whose_answer_is_late_is_stored(self, proxy: Proxy, schema: str) -> None:
        hold = Hold()
        with PostgreSQLStorage(proxy.url(schema), timeouts=SHORT) as storage:
            storage.append(FIRST)
            proxy.arm(Way.TO_CLIENT, b"C", hold)
            with bounded():
                storage.append(SECOND)
            assert everything(storage) == AFTER
            hold.release.set()

    def test_a_network_that_swallows_everything(self, proxy: Proxy, schema: str) -> None:
        with PostgreSQLStorage(proxy.url(schema), timeouts=SHORT) as storage:
            storage.append(FIRST)
            proxy.black_hole = threading.Event()
            with bounded(), pytest.raises(OutcomeUnknownError):
                storage.append(SECOND)
            for call in (storage.heads, lambda: storage.commit(Committed(size=9, note="9"))):
                with bounded(), pytest.raises(StorageUnavailableError):
                    call()
            proxy.black_hole.set()
            proxy.black_hole = None

    def test_a_statement_that_waits_is_ended_by_the_server(self, database: str) -> None:
        """The head is locked by somebody else: the wait is bounded, and nothing needs to be settled."""
        with PostgreSQLStorage(database, timeouts=SHORT) as storage:
            storage.append(FIRST)
            with psycopg.connect(database) as other:
                other.execute("SELECT * FROM s3ml_head FOR UPDATE")
                with bounded(), pytest.raises(StorageUnavailableError, match="SQLSTATE 5") as caught:
                    storage.append(SECOND)
                assert not isinstance(caught.value, OutcomeUnknownError)
                assert storage.head() == FIRST.head  # readers wait for nobody
            storage.append(SECOND)

    def test_a_session_that_does_not_end_leaves_it_open(
        self, proxy: Proxy, schema: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As long as the other session may go on, nobody knows what will be stored."""
        true, false = b"D\0\0\0\x0b\0\x01\0\0\0\x01\x01", b"D\0\0\0\x0b\0\x01\0\0\0\x01\x00"
        hold = Hold()
        monkeypatch.setattr("s3ml.keyservice.storage.postgresql.session.END_ATTEMPTS", 1)
        with PostgreSQLStorage(proxy.url(schema), timeouts=SHORT) as storage:
            storage.append(FIRST)
            proxy.change = lambda _way, _kind, message: false if message == true else message
            proxy.arm(Way.TO_SERVER, b"S", hold)
            with bounded(), pytest.raises(OutcomeUnknownError, match="another session does not end"):
                storage.append(SECOND)
            hold.release.set()


class TestAServerThatWasAway:
    """The same storage serves again, without a restart."""

    def test_restarted_between_two_calls(self, doomed: PostgresServer) -> None:
        with PostgreSQLStorage(doomed.url(schema=doomed.create_schema()), timeouts=SHORT) as storage:
            storage.append(FIRST)
            with ThreadPoolExecutor(6) as pool:
                list(pool.map(lambda _: storage.heads(), range(50)))  # several sessions are at hand
                doomed.stop()
                doomed.start()
                assert list(pool.map(lambda _: served(storage.head), range(6))) == [FIRST.head] * 6
            storage.append(SECOND)

    def test_away_for_longer_than_it_is_tried_for(self, doomed: PostgresServer) -> None:
        with PostgreSQLStorage(doomed.url(schema=doomed.create_schema()), timeouts=SHORT) as storage:
            storage.append(FIRST)
            doomed.stop()
            for _ in range(3):
                with bounded(), pytest.raises(StorageUnavailableError, match="no session to be had in time"):
                    storage.heads()
            doomed.start()
            assert served(storage.head) == FIRST.head

    def test_not_there_at_the_start(self, doomed: PostgresServer) -> None:
        url = doomed.url()
        doomed.stop()
        with pytest.raises(StorageUnavailableError, match="PostgreSQL: No such file or directory"):
            open_storage(url)
        doomed.start()

    def test_one_session_that_ended_is_replaced(self, storage: Storage, proxy: Proxy) -> None:
        proxy.cut()
        assert storage.head() == FIRST.head
        storage.append(SECOND)

    @pytest.mark.parametrize(("limit", "is_kept"), [(16, True), (1, False)])
    def test_a_server_that_talks_unasked_is_left(
        self, database: str, monkeypatch: pytest.MonkeyPatch, limit: int, is_kept: bool
    ) -> None:
        """What waits in a session is read, as far as it ends soon; else the session is not used again."""
        monkeypatch.setattr(session, "_ALIVE_READS_LIMIT", limit)
        with PostgreSQLStorage(database) as storage:
            storage.append(FIRST)
            with storage._sessions.session() as used, psycopg.connect(database, autocommit=True) as other:
                used.execute("LISTEN here")
                other.execute("NOTIFY here")
                poller = select.poll()
                poller.register(used.pgconn.socket, select.POLLIN)
                assert poller.poll(60_000)
            for _ in range(SESSIONS_LIMIT):  # one of them is lent this session
                assert storage.head() == FIRST.head
            assert used.closed is not is_kept
