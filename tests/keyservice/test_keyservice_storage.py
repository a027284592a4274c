"""What every storage must do: on SQLite, on PostgreSQL, and the one in memory that tests use."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from s3ml.keyservice.storage import (
    Commit,
    Committed,
    Head,
    HeadMovedError,
    SecretName,
    Storage,
    StorageUnavailableError,
    WrappedSecret,
    open_storage,
    values,
)
from s3ml.primitives.errors import ConfigurationError
from tests.keyservice.memory_storage import Database, MemoryStorage

NAME = SecretName(kind="kind", name="name", version="1")
SECRET = WrappedSecret(name=NAME, ciphertext=b"wrapped")
FIRST = Commit(
    expected_size=0,
    entries=(b"a", b"b"),
    head=Head(size=2, checkpoint="note\n", seal=b"seal"),
    secrets=(SECRET,),
    audit=(b"r0", b"r1"),
    committed=Committed(size=1, note="n1\n"),
)
SECOND = Commit(
    expected_size=2,
    entries=(b"c",),
    head=Head(size=3, checkpoint="next\n", seal=b"s"),
    audit_start=2,
    audit=(b"r2",),
    forget=(NAME,),
    committed=Committed(size=3, note="n3\n"),
)
ALL = [b"a", b"b", b"c"]
THREADS = 8
ROUNDS = 12


def everything(storage: Storage) -> tuple[object, ...]:
    """Return all that a storage of these tests holds."""
    return storage.heads(), storage.entries(0, 99), storage.audit(0, 99), storage.secrets_of("kind")


@pytest.fixture(params=["sqlite", "postgresql", "memory"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Storage]:
    if request.param == "sqlite":
        return lambda: open_storage(str(tmp_path / "log.sqlite"))
    if request.param == "memory":
        database = Database()
        return lambda: MemoryStorage(database)
    url: str = request.getfixturevalue("database")
    return lambda: open_storage(url)


@pytest.fixture
def storage(make: Callable[[], Storage]) -> Iterator[Storage]:
    opened = make()
    yield opened
    opened.close()


class TestACommit:
    """All of it appears, or nothing."""

    def test_an_empty_store_has_nothing(self, storage: Storage) -> None:
        assert everything(storage) == ((None, None), [], [], [])
        assert (storage.head(), storage.committed(), storage.secret(NAME)) == (None, None, None)

    def test_it_appears_whole(self, storage: Storage) -> None:
        storage.append(FIRST)
        assert everything(storage) == ((FIRST.head, FIRST.committed), [b"a", b"b"], [b"r0", b"r1"], [SECRET])
        assert (storage.head(), storage.committed()) == storage.heads()
        assert storage.secret(NAME) == b"wrapped"

    def test_the_next_continues_and_forgets(self, storage: Storage) -> None:
        storage.append(FIRST)
        storage.append(SECOND)
        assert everything(storage) == (
            (SECOND.head, SECOND.committed),
            [b"a", b"b", b"c"],
            [b"r0", b"r1", b"r2"],
            [],
        )

    def test_without_audit_secrets_and_committed_head(self, storage: Storage) -> None:
        storage.append(replace(FIRST, secrets=(), audit=(), committed=None))
        assert everything(storage) == ((FIRST.head, None), [b"a", b"b"], [], [])

    def test_an_empty_value_is_one(self, storage: Storage) -> None:
        empty = replace(SECRET, ciphertext=b"")
        storage.append(replace(FIRST, entries=(b"", b""), audit=(b"",), secrets=(empty,)))
        assert everything(storage)[1:] == ([b"", b""], [b""], [empty])

    def test_every_byte_survives(self, storage: Storage) -> None:
        data, head = bytes(range(256)) * 300, replace(FIRST.head, checkpoint="\u2014 é\\'%s")
        storage.append(
            replace(FIRST, entries=(data, data), head=replace(FIRST.head, checkpoint="\u2014 é\\'%s"))
        )
        assert storage.entries(0, 9) == [data, data]
        assert storage.head() == head

    @pytest.mark.parametrize(
        "half",
        [
            replace(SECOND, audit_start=0),
            replace(SECOND, expected_size=2, audit=(b"x", b"y"), audit_start=1),
        ],
    )
    def test_half_of_it_is_nothing(self, storage: Storage, half: Commit) -> None:
        storage.append(FIRST)
        before = everything(storage)
        with pytest.raises(StorageUnavailableError):
            storage.append(half)
        assert everything(storage) == before
        storage.append(SECOND)

    def test_what_was_stored_survives(self, make: Callable[[], Storage]) -> None:
        before = make()
        before.append(FIRST)
        stored = everything(before)
        before.close()
        after = make()
        assert everything(after) == stored
        after.close()


class TestTheHead:
    """Only a log of the expected size grows."""

    @pytest.mark.parametrize("expected", [0, 1, 3, 5])
    def test_a_moved_one_stores_nothing(self, storage: Storage, expected: int) -> None:
        storage.append(FIRST)
        before = everything(storage)
        with pytest.raises(HeadMovedError, match=f"expected a log of {expected} entries, got 2"):
            storage.append(replace(SECOND, expected_size=expected))
        assert everything(storage) == before

    def test_a_missing_one_stores_nothing(self, storage: Storage) -> None:
        with pytest.raises(HeadMovedError, match="expected a log of 2 entries, got 0"):
            storage.append(SECOND)
        assert everything(storage) == ((None, None), [], [], [])

    @pytest.mark.parametrize("start", [0, 2])
    def test_of_many_at_once_exactly_one_wins(self, storage: Storage, start: int) -> None:
        """Each thread appends what only it writes; one of each round wins, and all of its parts are there."""
        if start:
            storage.append(replace(FIRST, secrets=(), audit=()))
        together = threading.Barrier(THREADS)

        def race(thread: int) -> list[int]:
            won = []
            for number in range(ROUNDS):
                together.wait()
                mark = f"{thread}.{number}".encode()
                size = start + 2 * number
                try:
                    storage.append(
                        Commit(
                            expected_size=size,
                            entries=(mark, mark),
                            head=Head(size=size + 2, checkpoint=mark.decode(), seal=mark),
                            secrets=(replace(SECRET, ciphertext=mark),),
                            audit_start=number,
                            audit=(mark,),
                        )
                    )
                    won.append(number)
                except HeadMovedError:
                    pass
            return won

        with ThreadPoolExecutor(THREADS) as pool:
            rounds = [number for won in pool.map(race, range(THREADS)) for number in won]
        assert sorted(rounds) == list(range(ROUNDS))
        audit = storage.audit(0, 99)
        assert [int(mark.split(b".")[1]) for mark in audit] == list(range(ROUNDS))
        assert storage.entries(start, 99) == [mark for mark in audit for _ in range(2)]
        head = Head(size=start + 2 * ROUNDS, checkpoint=audit[-1].decode(), seal=audit[-1])
        assert (storage.head(), storage.secret(NAME)) == (head, audit[-1])


class TestTheCommittedHead:
    """The newest one stays."""

    def test_it_does_not_need_the_head(self, storage: Storage) -> None:
        storage.commit(Committed(size=1, note="early"))
        assert storage.heads() == (None, Committed(size=1, note="early"))

    @pytest.mark.parametrize(("size", "is_taken"), [(1, False), (2, True), (3, True)])
    def test_an_older_one_changes_nothing(self, storage: Storage, size: int, is_taken: bool) -> None:
        older, other = Committed(size=2, note="first"), Committed(size=size, note="other")
        storage.commit(older)
        storage.commit(other)
        storage.commit(other)
        assert storage.committed() == (other if is_taken else older)

    def test_an_append_does_not_bring_an_older_one_back(self, storage: Storage) -> None:
        storage.append(FIRST)
        newest = Committed(size=9, note="newest")
        storage.commit(newest)
        storage.append(SECOND)
        assert storage.heads() == (SECOND.head, newest)

    def test_of_many_at_once_the_newest_stays(self, storage: Storage) -> None:
        offered = [Committed(size=size, note=str(size)) for size in range(40)]
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(storage.commit, reversed(offered)))
        assert storage.committed() == offered[-1]

    def test_both_heads_are_of_one_moment(self, storage: Storage) -> None:
        """A committed head that is stored with its head is never seen without it."""
        done = threading.Event()

        def write() -> None:
            for size in range(1, 40):
                head = Head(size=size, checkpoint="", seal=b"")
                committed = Committed(size=size, note="")
                storage.append(
                    Commit(expected_size=size - 1, entries=(b"e",), head=head, committed=committed)
                )
            done.set()

        writer = threading.Thread(target=write)
        writer.start()
        while not done.is_set():
            head, committed = storage.heads()
            assert (head and head.size) == (committed and committed.size)
        writer.join()


class TestRanges:
    """Entries and audit records come in order, from a start up to before an end."""

    @pytest.mark.parametrize(
        ("start", "end", "expected"),
        [
            (0, 9, [b"a", b"b", b"c"]),
            (1, 2, [b"b"]),
            (2, 2, []),
            (2, 1, []),
            (3, 9, []),
            (0, 2**62, [b"a", b"b", b"c"]),
        ],
    )
    def test_entries(self, storage: Storage, start: int, end: int, expected: list[bytes]) -> None:
        storage.append(FIRST)
        storage.append(SECOND)
        assert storage.entries(start, end) == expected

    def test_audit_records(self, storage: Storage) -> None:
        storage.append(FIRST)
        storage.append(SECOND)
        assert storage.audit(1, 9) == [b"r1", b"r2"]
        assert storage.audit(1, 2) == [b"r1"]

    def test_what_is_too_much_comes_in_parts(self, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
        for size in range(9):
            half = bytes([size]) * (values.VALUE_LIMIT_BYTES)
            head = Head(size=size + 1, checkpoint="", seal=b"")
            storage.append(
                Commit(expected_size=size, entries=(half,), head=head, audit_start=size, audit=(half,))
            )
        assert [len(storage.entries(0, 9)), len(storage.entries(8, 99))] == [8, 1]
        assert [len(storage.audit(0, 9)), len(storage.audit(8, 99))] == [8, 1]


class TestSecrets:
    """A secret lies under its whole name."""

    def test_one_of_the_same_name_is_replaced(self, storage: Storage) -> None:
        storage.append(FIRST)
        new = replace(SECRET, ciphertext=b"new")
        storage.append(replace(SECOND, forget=(), secrets=(new,)))
        assert storage.secrets_of("kind") == [new]

    def test_one_that_is_put_and_forgotten_stays(self, storage: Storage) -> None:
        storage.append(FIRST)
        new = replace(SECRET, ciphertext=b"new")
        storage.append(replace(SECOND, forget=(NAME,), secrets=(SECRET, new)))
        assert storage.secret(NAME) == b"new"

    @pytest.mark.parametrize("part", ["kind", "name", "version"])
    def test_another_name_is_another_secret(self, storage: Storage, part: str) -> None:
        for other in ("", "x", "KIND", "1 ", "%", "\u0131", "n\u0303"):
            name = replace(NAME, **{part: other})
            assert storage.secret(name) is None
        storage.append(FIRST)
        storage.append(replace(SECOND, forget=(replace(NAME, **{part: "x"}),)))
        assert storage.secret(NAME) == b"wrapped"
        assert storage.secret(replace(NAME, **{part: "x"})) is None

    def test_those_of_a_kind_are_in_order(self, storage: Storage) -> None:
        names = [("b", "1"), ("a", "2"), ("a", "10"), ("B", "1"), ("\u00e4", "1"), ("", "")]
        secrets = [
            WrappedSecret(name=SecretName(kind=kind, name=name, version=version), ciphertext=name.encode())
            for name, version in names
            for kind in ("kind", "kinds")
        ]
        storage.append(replace(FIRST, secrets=tuple(secrets)))
        found = storage.secrets_of("kind")
        assert [(s.name.name, s.name.version) for s in found] == sorted(names)
        assert {s.name.kind for s in found} == {"kind"}
        assert storage.secrets_of("kin") == []

    def test_too_many_are_not_returned_in_part(self, storage: Storage) -> None:
        big = bytes(values.VALUE_LIMIT_BYTES)
        for size in range(9):
            secret = replace(SECRET, name=replace(NAME, version=str(size)), ciphertext=big)
            head = Head(size=size + 1, checkpoint="", seal=b"")
            storage.append(Commit(expected_size=size, entries=(b"",), head=head, secrets=(secret,)))
        with pytest.raises(StorageUnavailableError, match="secrets of at most"):
            storage.secrets_of("kind")


class TestLimits:
    """What could not be read back is not stored."""

    def test_the_longest_value_is_read_back(self, storage: Storage) -> None:
        longest = bytes(values.VALUE_LIMIT_BYTES)
        text = "\u20ac" * values.TEXT_LIMIT_CHARACTERS
        storage.append(replace(FIRST, entries=(longest, b""), head=Head(size=2, checkpoint=text, seal=b"")))
        assert (storage.entries(0, 1), storage.head()) == ([longest], Head(size=2, checkpoint=text, seal=b""))

    @pytest.mark.parametrize(
        "changes",
        [
            {"entries": (b"", bytes(values.VALUE_LIMIT_BYTES + 1))},
            {"audit": (bytes(values.VALUE_LIMIT_BYTES + 1),)},
            {"secrets": (replace(SECRET, ciphertext=bytes(values.VALUE_LIMIT_BYTES + 1)),)},
            {"head": replace(FIRST.head, seal=bytes(values.VALUE_LIMIT_BYTES + 1))},
        ],
    )
    def test_a_longer_one_is_refused(self, changes: dict[str, object]) -> None:
        with pytest.raises(ConfigurationError, match="at most 8388608 bytes, got 8388609"):
            replace(FIRST, **changes)  # type: ignore[arg-type]

    def test_so_is_a_longer_text(self) -> None:
        with pytest.raises(ConfigurationError, match="at most 131072 characters, got 131073"):
            Committed(size=1, note="n" * (values.TEXT_LIMIT_CHARACTERS + 1))
        with pytest.raises(ConfigurationError, match="without NUL"):
            replace(FIRST, forget=(replace(NAME, name="\0"),))


class TestClosing:
    def test_a_closed_store_does_not_serve(self, make: Callable[[], Storage]) -> None:
        storage = make()
        storage.close()
        storage.close()
        for call in (storage.heads, lambda: storage.append(FIRST)):
            with pytest.raises(StorageUnavailableError):
                call()
