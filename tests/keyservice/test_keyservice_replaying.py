"""A restart reads everything back, and serves nothing that the host moved, deleted, swapped or changed."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from s3ml.attestation import encode_policy
from s3ml.keyservice.documents import EpochEntry
from s3ml.keyservice.errors import BusyError, NotServingError
from s3ml.keyservice.log import LogTamperedError, parse_entry
from s3ml.keyservice.storage import Commit, HeadMovedError, Storage, StorageUnavailableError
from s3ml.keyservice.vault import deployment_key_name
from s3ml.primitives.aead import StorageTamperedError
from s3ml.primitives.errors import S3MLError
from tests.keyservice.keyservice_world import REAL_POLICY, World, policy_of


@pytest.fixture
async def stopped(serving: World) -> World:
    """A key service with a policy, a service, an epoch and a committed audit record, at rest."""
    await serving.release(serving.session())
    await serving.service._audit.flush()
    serving.stop()
    return serving


def edit(world: World, *statements: str) -> None:
    with closing(sqlite3.connect(world.path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


async def refuses(world: World, error: type[S3MLError], told: str) -> None:
    with pytest.raises(error, match=told) as caught:
        await begin_again(world)
    assert "\n" not in str(caught.value)


async def begin_again(world: World) -> None:
    """Start a process on what is stored, up to where it serves."""
    world.start()
    await world.service.membership._step()


class TestAnHonestRestart:
    async def test_everything_is_there_again(self, stopped: World) -> None:
        before = stopped.service.resources()
        await begin_again(stopped)
        assert stopped.service.resources() == before
        assert stopped.service.is_ready

    async def test_new_epochs_begin(self, stopped: World) -> None:
        await begin_again(stopped)
        found = await stopped.service.entries(0, 100)
        bodies = [parse_entry(entry).body for entry in found.entries]
        epoch = [body for body in bodies if isinstance(body, EpochEntry)][-1]
        assert (epoch.epoch, epoch.reason, epoch.state) == (2, "restarted", "active")
        rows = stopped.storage._connection.execute("SELECT version FROM secrets WHERE kind='epoch-keys'")
        assert rows.fetchall() == [("2",)]
        session = stopped.session()
        opened = session.open(await stopped.release(session))
        assert opened.release.epochs[0].epoch == 2

    async def test_a_suspended_service_stays_so(self, stopped: World) -> None:
        await begin_again(stopped)
        await stopped.put_policy(policy_of(bytes(32)), version=2)
        await stopped.restart()
        assert stopped.view.state.epochs["tumours"].living == ()

    async def test_time_does_not_run_backwards(self, stopped: World) -> None:
        stopped.clock.advance(-3600)
        await begin_again(stopped)
        assert stopped.service._clock.now() >= parse_entry(stopped.storage.entries(0, 9)[-1]).time


RENAMED_KIND = (
    "UPDATE log SET entry = CAST(replace(CAST(entry AS TEXT), 'control', 'kontrol') AS BLOB) WHERE idx = 1"
)
SWAPPED_KEYS = (
    "UPDATE secrets SET ciphertext = (SELECT ciphertext FROM secrets WHERE kind = 'statement-key')"
    " WHERE kind = 'checkpoint-key'"
)


class TestAHostileHost:
    @pytest.mark.parametrize(
        ("statement", "error", "told"),
        [
            ("DELETE FROM head", LogTamperedError, "ahead of the stored one"),
            ("UPDATE head SET size = size - 1", LogTamperedError, "ahead of the stored one"),
            ("UPDATE head SET size = size + 1", LogTamperedError, "number of entries: expected 7, got 6"),
            ("UPDATE committed SET size = size - 1", LogTamperedError, "checkpoint signs"),
            ("UPDATE committed SET note = replace(note, 's3ml/', 's3m1/')", LogTamperedError, "checkpoint"),
            ("DELETE FROM log WHERE idx = 5", LogTamperedError, "number of entries: expected 6, got 5"),
            ("DELETE FROM log WHERE idx = 1", LogTamperedError, "continue the entry before"),
            (
                "UPDATE log SET entry = (SELECT entry FROM log WHERE idx = 2) WHERE idx = 1",
                LogTamperedError,
                "entry 1",
            ),
            (
                "UPDATE log SET entry = CAST(entry || ' ' AS BLOB) WHERE idx = 5",
                LogTamperedError,
                "checkpoint signs",
            ),
            (
                RENAMED_KIND,
                LogTamperedError,
                "entry 1: log entry",
            ),
            (
                "UPDATE head SET checkpoint = replace(checkpoint, 's3ml/', 's3m1/')",
                LogTamperedError,
                "checkpoint",
            ),
            (
                "UPDATE head SET seal = (SELECT ciphertext FROM secrets WHERE kind = 'intake-key')",
                StorageTamperedError,
                "sealed head names",
            ),
            ("UPDATE head SET seal = x'00'", StorageTamperedError, "sealed head names"),
            ("DELETE FROM secrets WHERE kind = 'wrapping-key'", NotServingError, "is sealed: it has no keys"),
            ("DELETE FROM secrets WHERE kind = 'statement-key'", StorageTamperedError, "is missing"),
            (
                SWAPPED_KEYS,
                StorageTamperedError,
                "does not open",
            ),
            (
                "UPDATE secrets SET ciphertext = zeroblob(length(ciphertext)) WHERE kind = 'intake-key'",
                StorageTamperedError,
                "does not open",
            ),
            ("DELETE FROM audit", LogTamperedError, "audit records"),
            ("UPDATE audit SET record = x'00'", LogTamperedError, "audit records"),
        ],
    )
    async def test_is_found_out(
        self, stopped: World, statement: str, error: type[S3MLError], told: str
    ) -> None:
        edit(stopped, statement)
        await refuses(stopped, error, told)

    @pytest.mark.parametrize(
        "statement",
        [
            "DELETE FROM secrets WHERE kind = 'model-identity'",
            "UPDATE secrets SET name = 'tumours/forest/2' WHERE kind = 'model-identity'",
        ],
    )
    async def test_a_model_whose_identity_is_gone_is_released_to_nobody(
        self, stopped: World, statement: str
    ) -> None:
        edit(stopped, statement)
        await begin_again(stopped)
        with pytest.raises(StorageTamperedError, match="is missing"):
            await stopped.release(stopped.session())

    async def test_a_rewritten_log_needs_the_owners(self, stopped: World) -> None:
        """Even a host with the checkpoint key could not change what owners signed."""
        with closing(sqlite3.connect(stopped.path)) as connection, connection:
            data = connection.execute("SELECT entry FROM log WHERE idx = 1").fetchone()[0]
            index = data.index(b'"sig":"') + 8
            changed = data[:index] + (b"A" if data[index : index + 1] != b"A" else b"B") + data[index + 1 :]
            connection.execute("UPDATE log SET entry = ? WHERE idx = 1", (changed,))
        await refuses(stopped, LogTamperedError, "entry 1: signatures: expected 2")

    async def test_an_older_checkpoint_of_the_same_log(self, stopped: World) -> None:
        """A consistent older head without its later entries is refused by count, never by freshness."""
        edit(stopped, "DELETE FROM audit", "DELETE FROM log WHERE idx = 5")
        await refuses(stopped, LogTamperedError, "number of entries")

    async def test_the_keys_of_another_deployment(self, stopped: World) -> None:
        await begin_again(stopped)
        keyring = stopped.keyring
        secret = keyring.vault.wrap(
            deployment_key_name("statement", 1), keyring.deployment.checkpoint.to_raw()
        )
        stopped.storage._connection.execute(
            "UPDATE secrets SET ciphertext = ? WHERE kind = 'statement-key'", (secret.ciphertext,)
        )
        stopped.stop()
        await refuses(stopped, StorageTamperedError, "not those of the deployment")

    async def test_another_head_under_the_right_seal_name(self, stopped: World) -> None:
        await begin_again(stopped)
        seal = stopped.keyring.seal(stopped.view.size, bytes(32))
        stopped.storage._connection.execute("UPDATE head SET seal = ?", (seal,))
        stopped.stop()
        await refuses(stopped, StorageTamperedError, "sealed head names")

    async def test_another_build_opens_nothing(self, stopped: World) -> None:
        stopped.attester._measurement = bytes(32)
        await refuses(stopped, NotServingError, "is sealed: it has no keys")

    async def test_entries_changed_while_serving_are_not_served(self, stopped: World) -> None:
        await begin_again(stopped)
        stopped.storage._connection.execute("UPDATE log SET entry = CAST(entry || ' ' AS BLOB) WHERE idx = 1")
        with pytest.raises(LogTamperedError, match="were written"):
            await stopped.service.entries(0, 9)


class Failing:
    """A storage that fails when it is told to, and is the real one otherwise."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.error: Exception | None = None
        self.moved: Exception | None = None

    def append(self, commit: Commit) -> None:
        if failure := self.error or self.moved:
            raise failure
        self._storage.append(commit)

    def entries(self, start: int, end: int) -> list[bytes]:
        if self.error is not None:
            raise self.error
        return self._storage.entries(start, end)

    def audit(self, start: int, end: int) -> list[bytes]:
        raise StorageUnavailableError("storage: broken audit")

    def __getattr__(self, name: str) -> object:
        return getattr(self._storage, name)


class TestStorageThatFails:
    @pytest.fixture
    async def failing(self, world: World) -> Iterator[Failing]:
        await world.serve()
        world.wrap_storage = Failing  # type: ignore[assignment]
        await world.restart()
        return world.service.replica.ledger.storage  # type: ignore[return-value]

    async def test_nothing_has_changed(self, world: World, failing: Failing) -> None:
        before = world.service.checkpoint()
        failing.error = StorageUnavailableError("storage: disk is full")
        message = world.message("policies/more", 1, encode_policy(REAL_POLICY))
        with pytest.raises(StorageUnavailableError):
            await world.service.control(message)
        assert world.service.checkpoint() == before
        failing.error = None
        assert (await world.service.control(message)).log_size == world.view.size

    async def test_races_that_are_all_lost_change_nothing(self, world: World, failing: Failing) -> None:
        before = world.service.checkpoint()
        failing.moved = HeadMovedError("storage: expected 5, got 6")
        with pytest.raises(BusyError, match="other replicas write"):
            await world.put_policy(name="more")
        assert world.service.checkpoint() == before
        failing.moved = None
        assert (await world.put_policy(name="more")).log_size == world.view.size
        assert world.service.is_ready

    async def test_a_read_that_fails_is_no_tampering(self, world: World, failing: Failing) -> None:
        world.stop()

        def broken(storage: Storage) -> Storage:
            made = Failing(storage)
            made.error = StorageUnavailableError("storage: broken")
            return made  # type: ignore[return-value]

        world.wrap_storage = broken
        with pytest.raises(StorageUnavailableError, match="broken"):
            world.start()

    async def test_an_audit_stream_that_cannot_be_read_is_no_tampering(self, world: World) -> None:
        await world.serve()
        await world.release(world.session())
        await world.service._audit.flush()
        world.stop()
        world.wrap_storage = Failing  # type: ignore[assignment]
        with pytest.raises(StorageUnavailableError, match="broken audit"):
            world.start()
