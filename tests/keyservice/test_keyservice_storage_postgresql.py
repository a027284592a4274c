"""What only the storage in PostgreSQL does: which server, whose tables, and no word of its address."""

import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from random import Random

import psycopg
import pytest

from s3ml.keyservice.settings import parse_settings
from s3ml.keyservice.storage import SQLiteStorage, StorageUnavailableError, open_storage
from s3ml.keyservice.storage.postgresql import PostgreSQLStorage, schema, session
from s3ml.primitives.errors import ConfigurationError, S3MLError
from tests.keyservice.postgres_proxy import Proxy, Way, proxy_before
from tests.keyservice.postgres_server import DEADLINE_S, PostgresServer, running, served
from tests.keyservice.test_keyservice_storage import FIRST, SECOND, everything
from tests.keyservice.test_keyservice_storage_faults import SHORT

PASSWORD = "correct-horse%2Fbattery"  # percent-encoded, as a URL has it


@pytest.fixture
def proxy(postgres: PostgresServer) -> Iterator[Proxy]:
    with proxy_before(postgres) as begun:
        yield begun


@pytest.fixture(scope="module")
def guarded() -> Iterator[PostgresServer]:
    """A server that asks for a password."""
    with running() as server:
        server.run(
            "CREATE ROLE clerk LOGIN PASSWORD 'correct-horse/battery'; CREATE SCHEMA AUTHORIZATION clerk"
        )
        (server.data / "pg_hba.conf").write_text("local all s3ml trust\nlocal all clerk scram-sha-256\n")
        server.run("SELECT pg_reload_conf()")
        yield server


class TestTheSetting:
    def test_a_path_is_sqlite(self, tmp_path: Path) -> None:
        with closing(open_storage(str(tmp_path / "log.sqlite"))) as storage:
            assert isinstance(storage, SQLiteStorage)

    def test_a_url_is_postgresql(self, database: str) -> None:
        for url in (database, database.replace("postgresql://", "postgres://")):
            with closing(open_storage(url)) as storage:
                assert isinstance(storage, PostgreSQLStorage)

    def test_a_connection_string_is_taken_where_it_cannot_be_a_path(self, postgres: PostgresServer) -> None:
        name = postgres.create_schema()
        text = f"host={postgres.folder} user=s3ml dbname=postgres options=-csearch_path={name}"
        with PostgreSQLStorage(text) as storage:
            storage.append(FIRST)
        with closing(open_storage(postgres.url(schema=name))) as storage:
            assert storage.head() == FIRST.head

    @pytest.mark.parametrize(
        "setting", ["mysql://a:secret@b/c", "https://secret", "POSTGRESQL://a:secret@b/c"]
    )
    def test_another_url_is_refused(self, setting: str) -> None:
        with pytest.raises(ConfigurationError, match="got another URL") as refused:
            open_storage(setting)
        assert "secret" not in str(refused.value)

    @pytest.mark.parametrize("rest", ["u:sec ret@h/d", "u:p@h/d?secret=1", "u:secret%@h", "[secret"])
    def test_a_malformed_one_is_refused_unseen(self, rest: str) -> None:
        with pytest.raises(ConfigurationError, match="address of PostgreSQL is malformed") as refused:
            open_storage(f"postgresql://{rest}")
        assert "sec" not in "".join(traceback.format_exception(refused.value)).partition("Error: ")[2]

    def test_the_driver_is_imported_for_it_alone(self, tmp_path: Path) -> None:
        code = (
            "import sys; from s3ml.keyservice.storage import open_storage\n"
            "open_storage(sys.argv[1]).close(); assert not [m for m in sys.modules if 'psycopg' in m]\n"
            "sys.modules['psycopg'] = None\n"
            "open_storage('postgresql://u:secret@h/d')"
        )
        command = [sys.executable, "-c", code, str(tmp_path / "log.sqlite")]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "ConfigurationError: storage: the driver of PostgreSQL is not installed: pip" in ended.stderr

    def test_without_the_driver_it_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "s3ml.keyservice.storage.postgresql", None)
        with pytest.raises(ConfigurationError, match=r"not installed: pip install 's3ml\[postgres\]'"):
            open_storage("postgresql://u:secret@h/d")

    def test_settings_do_not_show_it(self) -> None:
        given = {"S3ML_LISTEN": "[::1]:1", "S3ML_DATABASE": "postgresql://u:secret@h/d"}
        settings = parse_settings(given)
        assert settings.database == given["S3ML_DATABASE"]
        assert "secret" not in repr(settings) + str(settings)


class TestItsTables:
    def test_many_replicas_at_once_make_them_once(self, database: str) -> None:
        together = threading.Barrier(6)

        def start() -> None:
            together.wait()
            PostgreSQLStorage(database).close()

        with ThreadPoolExecutor(6) as pool:
            for begun in [pool.submit(start) for _ in range(6)]:
                begun.result()

    def test_a_later_format_is_refused(self, postgres: PostgresServer) -> None:
        name = postgres.create_schema()
        PostgreSQLStorage(postgres.url(schema=name)).close()
        postgres.run("UPDATE s3ml_format SET format = 9", schema=name)
        with pytest.raises(ConfigurationError, match="expected a format up to 1, got 9: run a later version"):
            PostgreSQLStorage(postgres.url(schema=name))

    def test_an_earlier_one_is_brought_up(
        self, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The steps that lead from format to format are each done once."""
        name = postgres.create_schema()
        with PostgreSQLStorage(postgres.url(schema=name)) as storage:
            storage.append(FIRST)
        monkeypatch.setattr(schema, "FORMAT", 2)
        monkeypatch.setattr(schema, "STEPS", (*schema.STEPS, "ALTER TABLE s3ml_log ADD COLUMN more int"))
        for _ in range(2):
            with PostgreSQLStorage(postgres.url(schema=name)) as storage:
                assert storage.head() == FIRST.head
        assert postgres.run(
            "SELECT format, count(more) FROM s3ml_format, s3ml_log GROUP BY 1", schema=name
        ) == [(2, 0)]

    @pytest.mark.parametrize(
        "statement",
        ["DELETE FROM s3ml_format", "DROP TABLE s3ml_format", "ALTER TABLE s3ml_format DROP format"],
    )
    def test_tables_that_somebody_broke_are_not_remade(
        self, postgres: PostgresServer, statement: str
    ) -> None:
        name = postgres.create_schema()
        PostgreSQLStorage(postgres.url(schema=name)).close()
        postgres.run(statement, schema=name)
        with pytest.raises(StorageUnavailableError, match=r"Duplicate|Undefined"):
            PostgreSQLStorage(postgres.url(schema=name))

    def test_whoever_may_not_make_them_may_use_them(self, postgres: PostgresServer) -> None:
        name = postgres.create_schema()
        url = postgres.url(schema=name).replace("s3ml@", "guest@")
        postgres.run("DROP ROLE IF EXISTS guest")
        postgres.run(f"CREATE ROLE guest LOGIN; GRANT USAGE ON SCHEMA {name} TO guest")
        with pytest.raises(StorageUnavailableError, match=r"InsufficientPrivilege \(SQLSTATE 42501\)"):
            PostgreSQLStorage(url)
        PostgreSQLStorage(postgres.url(schema=name)).close()
        postgres.run(f"GRANT ALL ON ALL TABLES IN SCHEMA {name} TO guest")
        with PostgreSQLStorage(url) as storage:
            storage.append(FIRST)
            storage.append(SECOND)
        postgres.run("DROP OWNED BY guest; DROP ROLE guest")


class TestDurability:
    """A server that may lose what it has committed is refused."""

    @pytest.mark.parametrize("value", ["off", "local", "remote_write"])
    def test_synchronous_commit(self, database: str, value: str) -> None:
        with pytest.raises(
            ConfigurationError, match=f"may lose what it commits: got synchronous_commit = {value}:"
        ):
            open_storage(database + f"%20-csynchronous_commit%3D{value}")

    @pytest.mark.parametrize("value", ["on", "remote_apply"])
    def test_more_is_enough(self, database: str, value: str) -> None:
        open_storage(database + f"%20-csynchronous_commit%3D{value}").close()

    def test_the_server_s_own_settings(self) -> None:
        told = "got fsync = off, full_page_writes = off: set"
        with (
            running({"fsync": "off", "full_page_writes": "off"}) as server,
            pytest.raises(ConfigurationError, match=told),
        ):
            open_storage(server.url())

    def test_one_that_comes_back_with_less(self) -> None:
        """What is refused at the start is refused later, too, with the reason."""
        with running() as server, PostgreSQLStorage(server.url(), timeouts=SHORT) as storage:
            storage.append(FIRST)
            server.stop()
            server.settings["fsync"] = "off"
            server.start()
            until_s = time.monotonic() + DEADLINE_S
            told = "no session to be had in time"  # as long as it has not found the server again
            while told.endswith("no session to be had in time"):
                assert time.monotonic() < until_s
                with pytest.raises(StorageUnavailableError) as refused:
                    storage.append(SECOND)
                told = str(refused.value)
            assert "may lose what it commits: got fsync = off" in told
            server.stop()
            del server.settings["fsync"]
            server.start()
            served(storage.heads)
            storage.append(SECOND)

    def test_a_standby_is_refused(self, database: str) -> None:
        with pytest.raises(StorageUnavailableError, match="PostgreSQL: session is read-only"):
            open_storage(database + "%20-cdefault_transaction_read_only%3Don")

    def test_an_old_server(self, proxy: Proxy, postgres: PostgresServer) -> None:
        def age(_way: Way, kind: bytes, message: bytes) -> bytes:
            if not message.startswith(b"S") or b"server_version\0" not in message:
                return message
            text = b"server_version\x0013.9\0"
            return b"S" + (len(text) + 4).to_bytes(4) + text

        proxy.change = age
        with pytest.raises(ConfigurationError, match="expected PostgreSQL 14 or later, got 13: upgrade"):
            open_storage(proxy.url(postgres.create_schema()))

    def test_a_pooler_before_it(self, proxy: Proxy, postgres: PostgresServer) -> None:
        proxy.change = lambda _way, kind, message: (
            message[:5] + b"\0\0\0\x01" + message[9:] if kind == b"K" else message
        )
        with pytest.raises(ConfigurationError, match="a pooler stands before PostgreSQL"):
            open_storage(proxy.url(postgres.create_schema()))


class TestThePassword:
    """It goes to the server and nowhere else."""

    def url(self, server: PostgresServer, password: str) -> str:
        return server.url(schema="clerk").replace("s3ml@", f"clerk:{password}@")

    def test_it_opens(self, guarded: PostgresServer) -> None:
        with closing(open_storage(self.url(guarded, PASSWORD))) as storage:
            storage.append(FIRST)
            assert "horse" not in repr(storage)

    def test_a_wrong_one_is_not_shown(self, guarded: PostgresServer) -> None:
        wrong = "".join(reversed("esroh-gnorw"))  # a traceback shows the lines of this test, too
        with pytest.raises(StorageUnavailableError) as refused:
            open_storage(self.url(guarded, wrong))
        assert str(refused.value) == (
            'storage: PostgreSQL: FATAL:  password authentication failed for user "clerk"'
        )
        assert wrong not in "".join(traceback.format_exception(refused.value))

    def test_nothing_is_written_while_the_server_is_away(self, guarded: PostgresServer) -> None:
        """The pool's own log lines name the address; a process of ours says nothing of it."""
        code = (
            "import sys; from s3ml.keyservice.storage.postgresql import *\n"
            "from s3ml.primitives.errors import *\n"
            "storage = PostgreSQLStorage(sys.argv[1], timeouts=Timeouts(checkout_s=4.0))\n"
            "print('up', flush=True); sys.stdin.readline()\n"
            "try: storage.head()\n"
            "except UnavailableError as error: print(error)\n"
            "storage.close()"
        )
        command = [sys.executable, "-c", code, self.url(guarded, PASSWORD)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            guarded.stop()
            out, err = process.communicate("\n")
        guarded.start()
        assert (out, err) == ("storage: PostgreSQL: no session to be had in time\n", "")

    def test_a_server_that_tells_it_is_not_repeated(self) -> None:
        error = psycopg.OperationalError('connection failed: FATAL:  "pass\nword" is wrong')
        assert "hunter2" not in session.reason(
            psycopg.OperationalError("failed: FATAL: hunter2 is wrong"), {"password": "hunter2"}
        )
        assert session.reason(error, {}) == 'FATAL:  "pass'


class TestAServerThatAnswersAnything:
    """Rows of other types, lengths and numbers are an unavailable store, never a crash."""

    @pytest.mark.parametrize(
        ("statement", "told"),
        [
            ("ALTER TABLE s3ml_head ALTER size TYPE text", "columns of types"),
            ("ALTER TABLE s3ml_head ALTER size TYPE numeric", "columns of types"),
            ("ALTER TABLE s3ml_head ALTER size TYPE json USING to_json(size)", "columns of types"),
            ("ALTER TABLE s3ml_head ALTER checkpoint TYPE bytea USING 'a'", "columns of types"),
            (
                "ALTER TABLE s3ml_head ALTER size DROP NOT NULL; UPDATE s3ml_head SET size = NULL",
                "got NoneType",
            ),
            ("UPDATE s3ml_head SET size = -1", "int up to 9223372036854775807, got -1"),
            ("UPDATE s3ml_head SET checkpoint = repeat('a', 600000)", "type str, got NoneType"),
            ("UPDATE s3ml_head SET checkpoint = repeat('a', 140000)", "str up to 131072, got 140000"),
            ("UPDATE s3ml_head SET seal = decode(repeat('00', 9000000), 'hex')", "type bytes, got NoneType"),
            ("ALTER TABLE s3ml_committed DROP note", "UndefinedColumn"),
            ("ALTER TABLE s3ml_log ALTER entry TYPE text USING 'x'", "columns of types"),
            (
                "ALTER TABLE s3ml_log ALTER entry DROP NOT NULL; UPDATE s3ml_log SET entry = NULL",
                "got NoneType",
            ),
            ("UPDATE s3ml_log SET entry = decode(repeat('00', 9000000), 'hex')", "type bytes, got NoneType"),
            ("ALTER TABLE s3ml_log ALTER idx TYPE text", "UndefinedFunction"),
            ("DROP TABLE s3ml_audit", "UndefinedTable"),
            ("ALTER TABLE s3ml_audit ALTER record TYPE bytea[] USING ARRAY[record]", "UndefinedFunction"),
            ("ALTER TABLE s3ml_secrets ALTER name TYPE bytea USING 'x'", "columns of types"),
            ("ALTER TABLE s3ml_secrets ALTER ciphertext TYPE text USING 'x'", "columns of types"),
        ],
    )
    def test_edited_tables(self, postgres: PostgresServer, statement: str, told: str) -> None:
        name = postgres.create_schema()
        with PostgreSQLStorage(postgres.url(schema=name)) as storage:
            storage.append(FIRST)
            everything(storage)
            postgres.run(statement, schema=name)
            with pytest.raises(StorageUnavailableError, match=told):
                everything(storage)

    def test_duplicates_are_no_more_than_was_asked_for(self, postgres: PostgresServer) -> None:
        name = postgres.create_schema()
        with PostgreSQLStorage(postgres.url(schema=name)) as storage:
            storage.append(FIRST)
            postgres.run(
                "ALTER TABLE s3ml_log DROP CONSTRAINT s3ml_log_pkey;"
                "INSERT INTO s3ml_log SELECT 0, '\\x00', '\\x' FROM generate_series(1, 1000)",
                schema=name,
            )
            assert len(storage.entries(0, 2)) == 2

    @pytest.mark.parametrize("seed", range(12))
    def test_any_bytes(self, proxy: Proxy, postgres: PostgresServer, seed: int) -> None:
        """A reply in which bytes were changed is read, or the store is unavailable; no more comes of it."""
        random = Random(seed)  # noqa: S311

        def spoil(way: Way, kind: bytes, message: bytes) -> bytes:
            if way is Way.TO_SERVER or kind not in b"TDC1EZ" or random.random() < 0.5:
                return message
            place = random.randrange(1, len(message))
            return message[:place] + random.randbytes(random.randint(1, 3)) + message[place + 1 :]

        calls: list[Callable[[PostgreSQLStorage], object]] = [
            lambda storage: storage.heads(),
            lambda storage: storage.entries(0, 9),
            lambda storage: storage.secrets_of("kind"),
            lambda storage: storage.append(SECOND),
        ]
        honest = proxy.change
        name = postgres.create_schema()
        with PostgreSQLStorage(proxy.url(name), timeouts=SHORT) as storage:
            storage.append(FIRST)
            for call in calls:
                proxy.change = spoil
                with suppress(S3MLError):
                    call(storage)
                proxy.change = honest
                proxy.cut()
        with closing(open_storage(postgres.url(schema=name))) as after:
            assert after.head() in (FIRST.head, SECOND.head)
