"""What a witness keeps: durable, one witness's, begun once; and which logs it watches."""

import dataclasses
import os
import sqlite3
from collections.abc import Callable, Iterator
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.signing import SigningKey
from s3ml.transparency.cosignature import verified_cosignatures
from s3ml.transparency.note import Note
from s3ml.transparency.witness import store as store_module
from s3ml.transparency.witness.decision import Latest, Verdict
from s3ml.transparency.witness.logs import LogsFile, parse_logs
from s3ml.transparency.witness.service import Witness
from s3ml.transparency.witness.store import (
    FILE_NAME,
    SQLiteStore,
    StateMovedError,
    StateUnavailableError,
)
from tests.clocks import NOW, FakeClock
from tests.transparency.live_witness import SIGNER, configuration
from tests.transparency.transparency_world import LOG_KEY, ORIGIN, OTHER_KEY, Branch, signer

FIRST = Latest(size=3, root=bytes(32), time=NOW)
SECOND = Latest(size=5, root=bytes([1]) * 32, time=NOW + timedelta(seconds=1))
ORIGIN_SHA256 = sha256(ORIGIN.encode()).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    with SQLiteStore.begin(tmp_path / "state", SIGNER.public) as made:
        yield made


class TestStore:
    def test_what_was_kept_is_there_after_a_restart(self, tmp_path: Path) -> None:
        with SQLiteStore.begin(tmp_path, SIGNER.public) as store:
            assert store.latest(ORIGIN) is None
            store.advance(ORIGIN, before=None, latest=FIRST, note="one")
            store.advance(ORIGIN, before=FIRST, latest=SECOND, note="two")
        with SQLiteStore(tmp_path, SIGNER.public) as store:
            assert store.latest(ORIGIN) == SECOND
            assert store.note(ORIGIN_SHA256) == "two"
            assert store.note("00") is None
            assert store.heads() == {ORIGIN: SECOND}
            assert not store.is_halted

    def test_a_decision_on_another_head_stores_nothing(self, store: SQLiteStore) -> None:
        store.advance(ORIGIN, before=None, latest=FIRST, note="one")
        for before in (None, SECOND, dataclasses.replace(FIRST, root=SECOND.root)):
            with pytest.raises(StateMovedError):
                store.advance(ORIGIN, before=before, latest=SECOND, note="two")
        assert store.latest(ORIGIN) == FIRST
        assert not store.is_halted

    def test_it_is_not_made_by_itself(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="begin it once"):
            SQLiteStore(tmp_path, SIGNER.public)
        assert not (tmp_path / FILE_NAME).exists()

    def test_it_is_begun_once(self, tmp_path: Path) -> None:
        SQLiteStore.begin(tmp_path, SIGNER.public).close()
        with pytest.raises(ConfigurationError, match="holds a state already"):
            SQLiteStore.begin(tmp_path, SIGNER.public)

    def test_a_beginning_that_was_cut_off_is_taken_up(self, tmp_path: Path) -> None:
        (tmp_path / FILE_NAME).touch()
        with pytest.raises(ConfigurationError, match="no state yet"):
            SQLiteStore(tmp_path, SIGNER.public)
        SQLiteStore.begin(tmp_path, SIGNER.public).close()

    def test_it_belongs_to_one_witness(self, tmp_path: Path) -> None:
        SQLiteStore.begin(tmp_path, SIGNER.public).close()
        with pytest.raises(ConfigurationError, match="another witness's"):
            SQLiteStore(tmp_path, signer(2).public)

    def test_a_second_process_is_refused(
        self, tmp_path: Path, store: SQLiteStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(store_module, "LOCK_TIMEOUT_S", 0.0)
        with pytest.raises(StateUnavailableError, match="another process uses it"):
            SQLiteStore(tmp_path / "state", SIGNER.public)
        with pytest.raises(StateUnavailableError, match="another process uses it"):
            SQLiteStore.begin(tmp_path / "state", SIGNER.public)

    def test_another_format_is_refused(self, tmp_path: Path) -> None:
        SQLiteStore.begin(tmp_path, SIGNER.public).close()
        connection = sqlite3.connect(tmp_path / FILE_NAME)
        connection.execute("PRAGMA user_version=9")
        connection.close()
        with pytest.raises(StateUnavailableError, match="expected format 1, got 9"):
            SQLiteStore(tmp_path, SIGNER.public)

    def test_no_database_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / FILE_NAME).write_bytes(b"no database" * 100)
        with pytest.raises(StateUnavailableError, match="not a database"):
            SQLiteStore(tmp_path, SIGNER.public)

    def test_a_folder_that_cannot_be_made_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(ConfigurationError, match="cannot hold a state"):
            SQLiteStore.begin(tmp_path / "file" / "state", SIGNER.public)

    def test_a_full_disk_passes(self, store: SQLiteStore) -> None:
        """SQLite rolls such a commit back by itself: nothing is kept, and the next may be."""
        (pages,) = store._connection.execute("PRAGMA page_count").fetchone()
        store._connection.execute(f"PRAGMA max_page_count={pages}")
        with pytest.raises(StateUnavailableError, match="full"):
            store.advance(ORIGIN, before=None, latest=FIRST, note="n" * 100_000)
        assert store.latest(ORIGIN) is None
        store._connection.execute("PRAGMA max_page_count=100000")
        store.advance(ORIGIN, before=None, latest=FIRST, note="n" * 100_000)
        assert store.latest(ORIGIN) == FIRST

    def test_any_other_error_halts(self, store: SQLiteStore) -> None:
        store._connection.execute("DROP TABLE latest")
        with pytest.raises(StateUnavailableError, match="no such table"):
            store.latest(ORIGIN)
        assert store.is_halted
        with pytest.raises(StateUnavailableError, match="restart"):
            store.heads()

    def test_the_folder_is_for_its_owner_alone(self, tmp_path: Path, store: SQLiteStore) -> None:
        assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "state" / FILE_NAME).stat().st_mode & 0o777 == 0o600


class TestConfiguration:
    """A file names logs and their keys, strictly."""

    def test_it_names_logs(self) -> None:
        text = configuration(ORIGIN, str(LOG_KEY.public), str(OTHER_KEY.public))
        logs = parse_logs(text.encode(), own_key=SIGNER.public.key)
        assert logs == {ORIGIN: (LOG_KEY.public, OTHER_KEY.public)}
        assert parse_logs(b"version = 1", own_key=SIGNER.public.key) == {}

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("", "version"),
            ("version = 2", "version"),
            ("version = 1\nname = 'x'", "unknown field"),
            (configuration() + "urls = []\n", "unknown field"),
            (configuration() + configuration().removeprefix("version = 1"), "each origin once"),
            (configuration("a b"), "without spaces"),
            (configuration(""), "without spaces"),
            (configuration(ORIGIN, "ed25519:AAAA"), "32 bytes"),
            (configuration(ORIGIN, *[str(LOG_KEY.public)] * 2), "each key once"),
            (configuration(ORIGIN, str(SIGNER.public.key)), "not the witness's own"),
            (f"version = 1\n[[log]]\norigin = '{ORIGIN}'\nkeys = []", "length"),
            ("version = ", "Invalid value"),
            ("version = 1 # \udcff", "codec"),
        ],
    )
    def test_anything_else_is_refused(self, text: str, why: str) -> None:
        with pytest.raises(ConfigurationError, match=why):
            parse_logs(text.encode("utf-8", errors="surrogateescape"), own_key=SIGNER.public.key)


class TestReloading:
    """A changed file is read again; one that cannot be used changes nothing, and is told once."""

    @pytest.fixture
    def told(self) -> list[str]:
        return []

    @pytest.fixture
    def logs(self, tmp_path: Path, told: list[str]) -> LogsFile:
        (tmp_path / "logs.toml").write_text(configuration())
        return LogsFile(
            tmp_path / "logs.toml",
            own_key=SIGNER.public.key,
            changed=lambda found: told.append(f"now {len(found)}"),
            rejected=lambda error: told.append(f"{error}"),
        )

    @staticmethod
    def replace(path: Path, text: str) -> None:
        path.with_suffix(".new").write_text(text)
        path.with_suffix(".new").replace(path)

    def test_a_change_is_noticed(self, logs: LogsFile, told: list[str], tmp_path: Path) -> None:
        assert list(logs.current()) == [ORIGIN]
        self.replace(tmp_path / "logs.toml", "version = 1")
        assert logs.current() == {}
        assert logs.current() == {}
        assert told == ["now 0"]

    def test_an_unusable_file_changes_nothing(self, logs: LogsFile, told: list[str], tmp_path: Path) -> None:
        self.replace(tmp_path / "logs.toml", "nonsense")
        assert list(logs.current()) == list(logs.current()) == [ORIGIN]
        assert not logs.is_usable
        (said,) = told
        assert "logs.toml: witness configuration" in said
        self.replace(tmp_path / "logs.toml", configuration())
        assert list(logs.current()) == [ORIGIN]
        assert logs.is_usable

    def test_a_missing_file_changes_nothing(self, logs: LogsFile, told: list[str], tmp_path: Path) -> None:
        (tmp_path / "logs.toml").unlink()
        assert list(logs.current()) == list(logs.current()) == [ORIGIN]
        assert len(told) == 1

    def test_it_is_read_again_when_asked(self, logs: LogsFile, told: list[str]) -> None:
        logs.expire()
        assert list(logs.current()) == [ORIGIN]
        assert told == ["now 1"]

    def test_the_first_file_has_to_be_usable(self, tmp_path: Path) -> None:
        def ignore(_: object) -> None:
            """Nothing is told."""

        with pytest.raises(ConfigurationError, match="No such file"):
            LogsFile(tmp_path / "none", own_key=SIGNER.public.key, changed=ignore, rejected=ignore)


class TestWitness:
    """What is decided is kept before it is answered."""

    @pytest.fixture
    def clock(self) -> FakeClock:
        return FakeClock()

    @pytest.fixture
    def witness(self, tmp_path: Path, store: SQLiteStore, clock: FakeClock) -> Witness:
        path = tmp_path / "logs.toml"
        path.write_text(configuration(ORIGIN, str(LOG_KEY.public), str(OTHER_KEY.public)))
        ignore: Callable[[object], None] = lambda _: None  # noqa: E731
        logs = LogsFile(path, own_key=SIGNER.public.key, changed=ignore, rejected=ignore)
        return Witness(SIGNER, logs, store, clock)

    def test_it_cosigns_and_keeps(self, witness: Witness, store: SQLiteStore) -> None:
        branch = Branch()
        answer = witness.add_checkpoint(branch.request(0, 3))
        assert verified_cosignatures(branch.note(3) + answer.line + "\n", [SIGNER.public]) == {
            SIGNER.public.name: NOW
        }
        assert store.latest(ORIGIN) == Latest(size=3, root=branch.root(3), time=NOW)
        assert witness.checkpoint(ORIGIN_SHA256) == branch.note(3) + answer.line + "\n"

    def test_the_same_head_is_cosigned_again(self, witness: Witness, clock: FakeClock) -> None:
        branch = Branch()
        first = witness.add_checkpoint(branch.request(0, 3))
        clock.advance(7)
        second = witness.add_checkpoint(branch.request(3, 3))
        assert second.outcome.verdict is Verdict.COSIGN
        assert second.line != first.line

    def test_its_time_never_runs_backwards(self, witness: Witness, clock: FakeClock) -> None:
        branch = Branch()
        witness.add_checkpoint(branch.request(0, 3))
        clock.advance(-3600)
        line = witness.add_checkpoint(branch.request(3, 5)).line
        found = verified_cosignatures(branch.note(5) + line + "\n", [SIGNER.public])
        assert found == {SIGNER.public.name: NOW}

    def test_what_cannot_be_kept_is_not_cosigned(self, witness: Witness, store: SQLiteStore) -> None:
        store._connection.execute("DROP TABLE latest")
        with pytest.raises(StateUnavailableError):
            witness.add_checkpoint(Branch().request(0, 3))

    def test_only_signatures_that_were_verified_are_kept(self, witness: Witness) -> None:
        branch, other = Branch(), Branch(key=OTHER_KEY)
        note = branch.note(3) + other.note(3).rpartition("\n\n")[2] + "— stranger AAAAAAAA\n"
        answer = witness.add_checkpoint(f"old 0\n\n{note}".encode())
        kept = witness.checkpoint(ORIGIN_SHA256)
        assert kept is not None
        assert [line.name for line in Note.parse(kept).signatures] == [ORIGIN, ORIGIN, SIGNER.public.name]
        assert kept.endswith(answer.line + "\n")

    def test_every_kind_of_refusal_keeps_nothing(self, witness: Witness, store: SQLiteStore) -> None:
        branch, stranger = Branch(), Branch(origin="elsewhere")
        for body in (
            b"",
            stranger.request(0, 3),
            branch.request(2, 3),
            Branch(key=signer_key()).request(0, 3),
        ):
            assert witness.add_checkpoint(body).line == ""
        assert store.heads() == {}


def signer_key() -> SigningKey:
    return SigningKey.from_raw(os.urandom(32))
