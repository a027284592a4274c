"""What only the storage in SQLite does: one process alone, one file, formats one after the other."""

import lzma
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from s3ml.keyservice.storage import Committed, Head, SQLiteStorage, StorageUnavailableError, values
from tests.keyservice.postgres_server import has_capability
from tests.keyservice.test_keyservice_storage import FIRST, NAME, SECOND, everything

FORMAT_1 = Path(__file__).with_name("storage_format_1.sqlite.xz")
"""Written by the last version that had format 1: three entries, three audit records, one secret."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.sqlite"


def edit(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


class TestOneProcess:
    def test_a_second_one_is_refused(self, path: Path) -> None:
        with SQLiteStorage(path):
            code = (
                "import sys, pathlib; from s3ml.keyservice.storage import SQLiteStorage, sqlite\n"
                "sqlite.LOCK_TIMEOUT_S = 0.05\n"
                "SQLiteStorage(pathlib.Path(sys.argv[1]))"
            )
            ended = subprocess.run(
                [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
            )
        assert "StorageUnavailableError" in ended.stderr
        assert "locked" in ended.stderr

    def test_no_shared_memory_file_is_made(self, path: Path) -> None:
        with SQLiteStorage(path) as storage:
            storage.append(FIRST)
            assert not path.with_name("log.sqlite-shm").exists()


class TestFormats:
    def test_a_file_of_format_1_goes_on(self, path: Path) -> None:
        path.write_bytes(lzma.decompress(FORMAT_1.read_bytes()))
        for _ in range(2):  # what was migrated once is opened again
            with SQLiteStorage(path) as storage:
                assert storage.heads() == (Head(size=3, checkpoint="next\n", seal=b"s"), None)
                assert storage.entries(0, 9) == [b"a", b"b", b"c"]
                assert storage.audit(0, 9) == [b"r0", b"r1", b"r2"]
                assert storage.secret(NAME) == b"wrapped"
        with SQLiteStorage(path) as storage:
            storage.commit(Committed(size=3, note="cosigned"))
            assert storage.committed() == Committed(size=3, note="cosigned")

    def test_a_migration_that_fails_has_changed_nothing(self, path: Path) -> None:
        path.write_bytes(lzma.decompress(FORMAT_1.read_bytes()))
        edit(path, "CREATE TABLE committed (other)")
        with pytest.raises(StorageUnavailableError, match="already exists"):
            SQLiteStorage(path)
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (1,)

    @pytest.mark.parametrize("number", [3, 7, -1])
    def test_an_unknown_one_is_refused(self, path: Path, number: int) -> None:
        edit(path, f"PRAGMA user_version={number}")
        with pytest.raises(StorageUnavailableError, match=f"expected a format up to 2, got {number}"):
            SQLiteStorage(path)

    def test_another_file_is_refused(self, path: Path) -> None:
        path.write_bytes(b"no database" * 1000)
        with pytest.raises(StorageUnavailableError, match="not a database"):
            SQLiteStorage(path)

    def test_a_missing_folder_is_refused(self, path: Path) -> None:
        with pytest.raises(StorageUnavailableError, match="unable to open"):
            SQLiteStorage(path / "missing" / "log.sqlite")


@contextmanager
def small_disk(folder: Path, *, kibibytes: int) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "none", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


class TestAFullDisk:
    """Nothing acknowledged is lost, nothing is stored in part, and once there is room it goes on."""

    def test_by_its_own_limit(self, path: Path) -> None:
        with SQLiteStorage(path) as storage:
            storage.append(FIRST)
            pages = storage._connection.execute("PRAGMA page_count").fetchone()[0]
            storage._connection.execute(f"PRAGMA max_page_count={pages}")
            before = everything(storage)
            with pytest.raises(StorageUnavailableError, match="full"):
                storage.append(replace(SECOND, entries=(bytes(100_000),)))
            assert everything(storage) == before
            storage._connection.execute("PRAGMA max_page_count=100000")
            storage.append(SECOND)

    @pytest.mark.skipif(
        not has_capability(21), reason="mounting needs a capability; the limit above is tested"
    )
    def test_by_the_file_system(self, tmp_path: Path) -> None:
        with small_disk(tmp_path, kibibytes=512), SQLiteStorage(tmp_path / "log.sqlite") as storage:
            storage.append(FIRST)
            before = everything(storage)
            with pytest.raises(StorageUnavailableError, match=r"full|disk I/O"):
                storage.append(replace(SECOND, entries=(bytes(1_000_000),)))
            assert everything(storage) == before
            subprocess.run(["mount", "-o", "remount,size=8m", tmp_path], check=True)
            storage.append(SECOND)
            assert storage.head() == SECOND.head


class TestAnEditedFile:
    """A value of another type or length is not taken, and nothing else is raised."""

    @pytest.mark.parametrize(
        ("table", "statement", "told"),
        [
            ("head", "UPDATE head SET size='many'", "type int, got str"),
            ("head", "UPDATE head SET size=2.5", "type int, got float"),
            ("head", "UPDATE head SET size=-1", "int up to 9223372036854775807, got -1"),
            ("head", "UPDATE head SET size=NULL", "type int, got NoneType"),
            ("head", "UPDATE head SET checkpoint=x'ff'", "type str, got bytes"),
            ("head", "UPDATE head SET checkpoint=CAST(x'ff' AS TEXT)", "decode"),
            ("head", "UPDATE head SET checkpoint='a' || char(0)", "without NUL"),
            (
                "head",
                "UPDATE head SET checkpoint=hex(zeroblob(70000))",
                "str up to 131072, got 140000",
            ),
            ("head", "UPDATE head SET seal='text'", "type bytes, got str"),
            ("committed", "UPDATE committed SET note=x'00'", "type str, got bytes"),
            ("log", "UPDATE log SET entry=NULL", "type bytes, got NoneType"),
            ("log", "UPDATE log SET entry=zeroblob(8388609)", "bytes up to 8388608, got 8388609"),
            ("log", "UPDATE log SET entry=zeroblob(30000000)", "too big"),
            ("audit", "UPDATE audit SET record=1", "type bytes, got int"),
            ("secrets", "UPDATE secrets SET ciphertext='x'", "type bytes, got str"),
            ("secrets", "UPDATE secrets SET version=x'00'", "type str, got bytes"),
            ("secrets", "DROP TABLE secrets", "no such table"),
        ],
    )
    def test_it(self, path: Path, table: str, statement: str, told: str) -> None:
        with SQLiteStorage(path) as storage:
            storage.append(FIRST)
        edit(
            path,
            "PRAGMA writable_schema=ON",
            "UPDATE sqlite_schema SET sql=replace(replace(sql, 'NOT NULL', ''), 'STRICT,', '')",
            "UPDATE sqlite_schema SET sql=replace(sql, 'STRICT', '')",
        )
        edit(path, statement)
        with SQLiteStorage(path) as storage, pytest.raises(StorageUnavailableError, match=told) as caught:
            everything(storage)
        assert len(str(caught.value)) < values.TEXT_LIMIT_CHARACTERS
