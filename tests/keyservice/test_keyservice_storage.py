"""What every storage must do; another implementation joins by adding its maker to `MAKERS`."""

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from s3ml.keyservice.storage import (
    Commit,
    Head,
    HeadMovedError,
    SecretName,
    SQLiteStorage,
    Storage,
    StorageUnavailableError,
    WrappedSecret,
)

MAKERS: dict[str, Callable[[Path], Storage]] = {"sqlite": lambda folder: SQLiteStorage(folder / "log.sqlite")}
NAME = SecretName(kind="kind", name="name", version="1")
SECRET = WrappedSecret(name=NAME, ciphertext=b"wrapped")
FIRST = Commit(
    expected_size=0,
    entries=(b"a", b"b"),
    head=Head(size=2, checkpoint="note\n", seal=b"seal"),
    secrets=(SECRET,),
    audit=(b"r0", b"r1"),
)
SECOND = Commit(
    expected_size=2,
    entries=(b"c",),
    head=Head(size=3, checkpoint="next\n", seal=b"s"),
    audit_start=2,
    audit=(b"r2",),
    forget=(NAME,),
)


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Storage]:
    return lambda: MAKERS[request.param](tmp_path)


@pytest.fixture
def storage(make: Callable[[], Storage]) -> Iterator[Storage]:
    opened = make()
    yield opened
    opened.close()


class TestContract:
    def test_an_empty_store_has_nothing(self, storage: Storage) -> None:
        assert (storage.head(), storage.entries(0, 9), storage.secret(NAME)) == (None, [], None)

    def test_a_commit_appears_whole(self, storage: Storage) -> None:
        storage.append(FIRST)
        assert storage.head() == FIRST.head
        assert storage.entries(0, 9) == [b"a", b"b"]
        assert storage.entries(1, 2) == [b"b"]
        assert storage.secret(NAME) == b"wrapped"
        assert storage.audit(0, 9) == [b"r0", b"r1"]

    def test_a_commit_continues_and_forgets(self, storage: Storage) -> None:
        storage.append(FIRST)
        storage.append(SECOND)
        assert storage.head() == SECOND.head
        assert storage.entries(0, 9) == [b"a", b"b", b"c"]
        assert storage.audit(1, 9) == [b"r1", b"r2"]
        assert storage.secret(NAME) is None

    def test_a_secret_is_replaced(self, storage: Storage) -> None:
        storage.append(FIRST)
        storage.append(replace(SECOND, forget=(), secrets=(replace(SECRET, ciphertext=b"new"),)))
        assert storage.secret(NAME) == b"new"

    def test_a_moved_head_stores_nothing(self, storage: Storage) -> None:
        storage.append(FIRST)
        with pytest.raises(HeadMovedError, match="expected a log of 5 entries, got 2"):
            storage.append(replace(SECOND, expected_size=5))
        assert storage.head() == FIRST.head
        assert storage.secret(NAME) == b"wrapped"

    def test_half_a_commit_is_none(self, storage: Storage) -> None:
        storage.append(FIRST)
        with pytest.raises(StorageUnavailableError):
            storage.append(replace(SECOND, audit_start=0))
        assert storage.entries(0, 9) == [b"a", b"b"]
        storage.append(SECOND)

    def test_what_was_stored_survives(self, make: Callable[[], Storage]) -> None:
        before = make()
        before.append(FIRST)
        before.close()
        after = make()
        assert after.head() == FIRST.head
        after.close()


class TestSQLite:
    def test_a_second_process_is_refused(self, tmp_path: Path) -> None:
        with SQLiteStorage(tmp_path / "log.sqlite"):
            code = (
                "import sys, pathlib; from s3ml.keyservice.storage import SQLiteStorage, sqlite\n"
                "sqlite.LOCK_TIMEOUT_S = 0.05\n"
                "SQLiteStorage(pathlib.Path(sys.argv[1]))"
            )
            ended = subprocess.run(
                [sys.executable, "-c", code, str(tmp_path / "log.sqlite")],
                capture_output=True,
                text=True,
                check=False,
            )
        assert "StorageUnavailableError" in ended.stderr
        assert "locked" in ended.stderr

    def test_no_shared_memory_file_is_made(self, tmp_path: Path) -> None:
        with SQLiteStorage(tmp_path / "log.sqlite") as storage:
            storage.append(FIRST)
            assert not (tmp_path / "log.sqlite-shm").exists()

    def test_an_unknown_format_is_refused(self, tmp_path: Path) -> None:
        connection = sqlite3.connect(tmp_path / "log.sqlite")
        connection.execute("PRAGMA user_version=7")
        connection.close()
        with pytest.raises(StorageUnavailableError, match="expected a format up to 2, got 7"):
            SQLiteStorage(tmp_path / "log.sqlite")

    def test_another_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "log.sqlite").write_bytes(b"no database" * 1000)
        with pytest.raises(StorageUnavailableError, match="not a database"):
            SQLiteStorage(tmp_path / "log.sqlite")

    def test_a_missing_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(StorageUnavailableError, match="unable to open"):
            SQLiteStorage(tmp_path / "missing" / "log.sqlite")

    def test_a_full_disk_loses_nothing(self, tmp_path: Path) -> None:
        with SQLiteStorage(tmp_path / "log.sqlite") as storage:
            storage.append(FIRST)
            pages = storage._connection.execute("PRAGMA page_count").fetchone()[0]
            storage._connection.execute(f"PRAGMA max_page_count={pages}")
            with pytest.raises(StorageUnavailableError, match="full"):
                storage.append(replace(SECOND, entries=(bytes(100_000),)))
            assert storage.head() == FIRST.head

    def test_a_value_of_another_type_is_not_taken(self, tmp_path: Path) -> None:
        path = tmp_path / "log.sqlite"
        with SQLiteStorage(path) as storage:
            storage.append(FIRST)
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA writable_schema=ON")
            connection.execute("UPDATE sqlite_schema SET sql=replace(sql, 'STRICT', '')")
        connection.close()
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE head SET size='many'")
        connection.close()
        with (
            SQLiteStorage(path) as storage,
            pytest.raises(StorageUnavailableError, match="type int, got str"),
        ):
            storage.head()
